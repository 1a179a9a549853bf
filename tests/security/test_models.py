"""A model's folder is data: weights as safetensors alone, and no code from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import spec
from tests.security.test_checkpoints import Hostile
from tests.stores import fresh_store
from tests.studies import run_here

REPOSITORY = Path(__file__).parents[2]
NANO = REPOSITORY / "benchmarks/assets/nano"
CODE = "open({ran!r}, 'w')\nfrom transformers import BloomConfig as Own, BloomForCausalLM as OwnModel\n"

pytestmark = pytest.mark.slow


def model_folder(folder: Path) -> Path:
    """A copy of nano's model."""
    finetune = spec.load("nano").finetune
    assert finetune is not None
    return Path(shutil.copytree(finetune.model, folder / "model"))


def write_benchmark(folder: Path, model: Path) -> Path:
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    content["finetune"] |= {"model": str(model)}
    content |= {"name": "own", "resource": {"unit_samples": 16, "max_units": 1}, "grid": {}}
    for split in content["finetune"]["data"].values():
        split["limit"] = 16
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    return folder / "own.yaml"


def pickled(folder: Path, ran: Path) -> None:
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    torch.save({"lm_head.weight": Hostile(ran)}, folder / "pytorch_model.bin")


def with_code(folder: Path, ran: Path) -> None:
    """A class of the folder's own for a kind of model that transformers does not know."""
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))


def with_tokenizer_code(folder: Path, ran: Path) -> None:
    """A tokenizer's class of the folder's own."""
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    path.write_text(json.dumps(config))


def hpo(work: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run_here(work, *words, MLFLOW_TRACKING_URI=fresh_store(work), CUDA_VISIBLE_DEVICES="")


def write_config(folder: Path) -> None:
    """Write a configuration as `export` does."""
    (folder / "best_config.json").write_text(
        json.dumps(
            {"benchmark": "own", "method": "random", "seed": 0, "units": 1, "config": {}, "metrics": {}, "run_id": ""}
        )
    )


@pytest.mark.parametrize("verb", ["run", "train"])
def test_pickled_weights_are_refused_before_anything_starts(verb: str, tmp_path: Path) -> None:
    model, ran = model_folder(tmp_path), tmp_path / "ran"
    pickled(model, ran)
    path = write_benchmark(tmp_path, model)
    write_config(tmp_path)
    words = ["run", "random"] if verb == "run" else ["train", "--config", "best_config.json", "--output", "out"]
    done = hpo(tmp_path, *words, "--benchmark", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: model {model}: no *.safetensors; save the weights with safe_serialization" in done.stderr
    assert not ran.exists()


def test_pickled_weights_beside_sound_ones_are_not_touched(tmp_path: Path, process_group: None) -> None:
    from benchmarks.training.model import models

    model, ran = model_folder(tmp_path), tmp_path / "ran"
    torch.save({"lm_head.weight": Hostile(ran)}, model / "pytorch_model.bin")
    models.load_model(str(model))
    assert not ran.exists()


def test_a_model_s_own_code_does_not_run(tmp_path: Path) -> None:
    model, ran = model_folder(tmp_path), tmp_path / "ran"
    with_code(model, ran)
    path = write_benchmark(tmp_path, model)
    write_config(tmp_path)
    done = hpo(tmp_path, "train", "--config", "best_config.json", "--output", "out", "--benchmark", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"model {model}: cannot be loaded (The repository {model} contains custom code" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not ran.exists()


def test_a_tokenizer_s_own_code_does_not_run(tmp_path: Path) -> None:
    from benchmarks.spec import BenchmarkError
    from benchmarks.training.model import models

    model, ran = model_folder(tmp_path), tmp_path / "ran"
    with_tokenizer_code(model, ran)
    with suppress(BenchmarkError):  # or one that transformers has is taken
        models.load_tokenizer(str(model))
    assert not ran.exists()


def test_the_code_of_these_tests_does_run_where_it_is_trusted(tmp_path: Path) -> None:
    model, ran = model_folder(tmp_path), tmp_path / "ran"
    with_code(model, ran)
    code = f"from transformers import AutoConfig; AutoConfig.from_pretrained({str(model)!r}, trust_remote_code=True)"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert ran.exists()
