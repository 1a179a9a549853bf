"""A trained model as MLflow keeps and serves it: the transformers flavour, and a pyfunc flavour with the prompt in it.

`mlflow.transformers.load_model` gives the pipeline; `mlflow.pyfunc.load_model` and `mlflow models serve` take bare
records, a text for each field of the prompt, see `prompted_model`. A server that keeps no models of their own (before
MLflow 3), or refuses them, gets the same folder as artifacts of the run.
"""

from __future__ import annotations

import importlib.metadata
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from hpo.store import prompted_model

MODEL_FOLDER = "model"
SERVED_WITH = ("torch", "transformers", "accelerate")
"""Packages that the logged model needs to be served."""


@dataclass(frozen=True)
class Serving:
    """Everything that turns a record into the model's input.

    Attributes:
        prompt: a text with {field} for each field of a record; the answer follows it.
        max_length: of prompt and answer, in tokens; the last field is cut to fit.
        max_new_tokens: of the answer.
    """

    prompt: str
    max_length: int
    max_new_tokens: int

    @property
    def signature(self) -> ModelSignature:
        """A column of texts for each field, and the answer."""
        names = prompted_model.fields(self.prompt)
        columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, name) for name in names]
        return ModelSignature(Schema(columns), Schema([ColSpec(DataType.string)]))


def log_served_model(
    client: MlflowClient, run_id: str, folder: Path, serving: Serving, example: dict[str, str]
) -> None:
    """Log a saved model under the name "model".

    Args:
        client: the tracking store.
        run_id: the run that it belongs to.
        folder: written by `save_pretrained`, with its tokenizer.
        serving: see `Serving`.
        example: a text for each field of the prompt, for people.

    Raises:
        MlflowException, OSError: the store takes it in neither form.
    """
    _quieten()
    flavor = _Flavor(folder.resolve(), serving, example)
    try:
        with mlflow.start_run(run_id=run_id):  # else the model would lie in MLflow's default experiment
            Model.log(None, flavor, run_id=run_id, name=MODEL_FOLDER, model_config=asdict(serving))
    except (MlflowException, OSError):
        with tempfile.TemporaryDirectory() as place:
            saved = Path(place, MODEL_FOLDER)
            flavor.save_model(saved, Model(run_id=run_id, artifact_path=MODEL_FOLDER))
            client.log_artifacts(run_id, str(saved), MODEL_FOLDER)


def _quieten() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)  # it looks for the model's card on the hub
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


class _Flavor:
    """Both flavours of a saved model, for `Model.log`.

    Args:
        folder: absolute, since MLflow would take a relative one for the name of a model on the hub, and ask there.
        serving: see `Serving`.
        example: see `log_served_model`.
    """

    __name__ = "mlflow.transformers"

    def __init__(self, folder: Path, serving: Serving, example: dict[str, str]) -> None:
        self._folder, self._serving, self._example = folder, serving, example

    def save_model(self, path: str | Path, mlflow_model: Model, **_: Any) -> None:
        """Write the model's folder; `Model.log` passes further arguments, which are ours."""
        import mlflow.transformers
        import pandas as pd
        from transformers import AutoModelForCausalLM, AutoTokenizer

        components = {
            "model": AutoModelForCausalLM.from_pretrained(self._folder, use_safetensors=True, trust_remote_code=False),
            "tokenizer": AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False),
        }
        mlflow.transformers.save_model(
            components,
            str(path),
            mlflow_model=mlflow_model,
            task="text-generation",
            signature=self._serving.signature,
            input_example=pd.DataFrame([self._example]),
            pip_requirements=[f"{name}=={_version(name)}" for name in SERVED_WITH],
            code_paths=[prompted_model.__file__],
            model_config=asdict(self._serving),
        )
        mlflow_model.flavors["python_function"]["loader_module"] = Path(prompted_model.__file__).stem
        mlflow_model.save(str(Path(path, "MLmodel")))


def _version(package: str) -> str:
    return importlib.metadata.version(package).partition("+")[0]
