"""A full training of a configuration that was found: the model saved, and scored once on the test split.

It trains as a trial does: on the same ranks, by the same units, through a checkpoint where a schedule goes on with
other hyperparameters. Data of one's own may take the place of the benchmark's. What is written to the output folder::

    model/          weights as safetensors, config.json and tokenizer, for `AutoModelForCausalLM.from_pretrained`
    training.json   what was trained and how it scored

MLflow gets a run tagged `hpo.kind=training` with parameters, metrics at step = resource unit, and the model in
`mlflow.transformers`' form, which `mlflow models predict` loads. Comparisons leave such runs out.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from rich.console import Console

from benchmarks.check import check
from benchmarks.files import is_file, is_folder, load_json, replacing_folder
from benchmarks.identity import digest
from benchmarks.space import Config, Scalar
from benchmarks.spec import SPLITS, Benchmark, BenchmarkError, Split, first_line
from benchmarks.tasks.question_answering import TokenStatistics
from hpo.cluster.devices import Allotment, allot
from hpo.cluster.ray import detect
from hpo.core.results import METRICS
from hpo.core.study import Schedule, is_diverged
from hpo.store import client as store
from hpo.store import files, runs
from hpo.store import ui_views as views
from hpo.terminal import files as output
from hpo.terminal.console import print_line
from hpo.terminal.tables import tokens_table
from hpo.workflows.export import CONFIG_FILE

MODEL_FOLDER = "model"
REPORT_FILE = "training.json"
"""Also the sign that a folder is of this module's making."""
SERVED_WITH = ("torch", "transformers", "accelerate")
"""Packages that the logged model needs to be served."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True)


class Step(_Strict):
    """A part of a schedule: a configuration and the units trained before it takes effect."""

    units: NonNegativeInt
    config: dict[str, Scalar]


class BestConfig(_Strict):
    """The content of `best_config.json`; `config` alone is enough to train.

    Attributes:
        benchmark: what it was found on.
        method: what found it.
        seed: the study's.
        units: resource units it had been trained for.
        config: hyperparameters, over the benchmark's default.
        metrics: its validation metrics.
        run_id: its trial's run.
        schedule: the configurations that trained it, where they changed on the way.
    """

    benchmark: str = ""
    method: str = ""
    seed: NonNegativeInt = 0
    units: PositiveInt | None = None
    config: dict[str, Scalar]
    metrics: dict[str, float] = {}
    run_id: str = ""
    schedule: tuple[Step, ...] = ()

    @property
    def steps(self) -> list[tuple[int, Config]]:
        """The schedule, also where it is one configuration all the way."""
        return [(step.units, step.config) for step in self.schedule] or [(0, self.config)]


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        folder: where the model lies, and what is known of it.
        run_id: its run in MLflow.
        units: metrics of every unit, in order.
        test: `eval_loss`, `perplexity`, `exact_match` and `f1` on the test split; empty if it did not reach its end.
        reason: why it did not; empty if it did.
    """

    folder: Path
    run_id: str
    units: list[dict[str, float]]
    test: dict[str, float]
    reason: str = ""


def train(
    config: Path, benchmark: Benchmark, folder: Path, console: Console, *, seed: int | None = None, command: str = ""
) -> Trained:
    """Train, score on test once, save the model and log it.

    Args:
        config: `best_config.json`, or the folder of an export.
        benchmark: with the data to use, see `with_data`.
        folder: new, empty, or of an earlier training, which is replaced.
        console: where a line a unit goes.
        seed: drives model initialisation, dropout and data order; the study's by default.
        command: the command that was given, for the record.

    Raises:
        BenchmarkError: something that was given cannot be used; nothing has been trained.
    """
    best = read_config(config)
    steps = check_schedule(best, benchmark)
    check(benchmark)
    allotment = allot(detect(), benchmark.ranks_per_trial, concurrency=1)
    _claim(folder)
    run = _Run(benchmark, best, best.seed if seed is None else seed, command)
    with run.closing():
        units, test, reason = _train(benchmark, steps, run, allotment, folder, console)
        run.end(folder, units, test, reason)
    if not reason:
        _show_end(console, test, folder, run.run_id)
    return Trained(folder, run.run_id, units, test, reason)


def with_data(
    benchmark: Benchmark, train: Path | None = None, validation: Path | None = None, test: Path | None = None
) -> Benchmark:
    """A benchmark with files of one's own, SQuAD v1.1 JSON, in place of its splits; None keeps a split.

    Raises:
        BenchmarkError: the benchmark trains no model.
    """
    given = {"train": train, "validation": validation, "test": test}
    splits = {name: Split(file=path.resolve()) for name, path in given.items() if path is not None}
    if not splits:
        return benchmark
    finetune = benchmark.training_settings()
    data = finetune.data.model_copy(update=splits)
    return benchmark.model_copy(update={"finetune": finetune.model_copy(update={"data": data})})


# ---- what is given


def read_config(path: Path) -> BestConfig:
    """A configuration as `export` writes it.

    Args:
        path: the file, or the folder it lies in.

    Raises:
        BenchmarkError: it is missing, no JSON, or has keys or values that do not belong there.
    """
    file = path / CONFIG_FILE if is_folder(path) else path
    if not is_file(file):
        raise BenchmarkError(f"config {file}: no such file; write one with: python -m hpo export")
    content = load_json(file)
    try:
        return BestConfig.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "content"
        valid = f"; valid keys are {', '.join(BestConfig.model_fields)}" * (fault["type"] == "extra_forbidden")
        raise BenchmarkError(
            f"config {file}: {where}: {fault['msg']}{valid}; give the {CONFIG_FILE} of an export"
        ) from None


def check_schedule(best: BestConfig, benchmark: Benchmark) -> list[tuple[int, Config]]:
    """The configurations to train with, each with its units, checked against the benchmark.

    Raises:
        BenchmarkError: a hyperparameter that the benchmark cannot use, or units out of order or beyond its resource.
    """
    benchmark.training_settings()
    steps, last = best.steps, benchmark.resource.max_units - 1
    begins = [units for units, _ in steps]
    if begins[0] != 0 or begins != sorted(set(begins)) or begins[-1] > last:
        raise BenchmarkError(
            f"schedule begins its configurations at units {begins}, but must begin at 0, rise, and end by {last} on "
            f"{benchmark.name}; give the benchmark that it was found on"
        )
    for _, config in steps:
        try:
            benchmark.hyperparameters(config)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}; correct it in {CONFIG_FILE}, or export it again") from None
    return steps


def _claim(folder: Path) -> None:
    """Make sure that the folder may be written, before anything is trained.

    Raises:
        BenchmarkError: it is not a folder, holds what is not ours, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT_FILE).is_file():
        raise BenchmarkError(
            f"output {folder}: is not empty and not of an earlier training ({REPORT_FILE} is missing); "
            "give a new or empty folder with --output"
        )
    output.write(folder, {REPORT_FILE: json.dumps({"status": "running"}, indent=2) + "\n"})


# ---- training


def _train(
    benchmark: Benchmark, steps: Schedule, run: _Run, allotment: Allotment, folder: Path, console: Console
) -> tuple[list[dict[str, float]], dict[str, float], str]:
    """Metrics of every unit, scores on test, and why it did not reach its end, if it did not."""
    from ray.exceptions import RayError

    units: list[dict[str, float]] = []
    try:
        with _ranks(benchmark, allotment) as ranks:
            tokens = ranks.token_statistics()
            run.log_tokens(tokens)
            console.print(tokens_table(tokens))
            for metrics in _units(ranks, steps, run.seed, benchmark.resource.max_units):
                units.append(metrics)
                run.log_unit(metrics)
                _show_unit(console, metrics, benchmark.resource.max_units)
                if is_diverged(benchmark, metrics):
                    return units, {}, f"diverged at unit {len(units)}: train loss {metrics['train_loss']:g}"
            test = ranks.evaluate("test")
            _save(ranks, folder / MODEL_FOLDER)
            return units, test, ""
    except (RayError, OSError) as error:
        return units, {}, _innermost(error)


@contextmanager
def _ranks(benchmark: Benchmark, allotment: Allotment) -> Iterator[Any]:
    """The ranks of one training, on devices reserved for them."""
    import ray
    from ray.util import placement_group

    from benchmarks.training.ranks import Ranks, find_places
    from hpo.cluster.ray import ray_cluster

    bundle = {"CPU": allotment.cpus_per_rank, **({"GPU": 1.0} if allotment.gpus_per_rank else {})}
    with ray_cluster(detect()):
        group = placement_group([bundle] * allotment.ranks_per_trial)
        ray.get(group.ready())
        places = find_places(allotment.ranks_per_trial, allotment.gpus_per_rank, group)
        ranks = Ranks(benchmark, places, max(1, int(allotment.cpus_per_rank)))
        try:
            yield ranks
        finally:
            ranks.close()
            ray.util.remove_placement_group(group)


def _units(ranks: Any, steps: Schedule, seed: int, max_units: int) -> Iterator[dict[str, float]]:
    """Train unit by unit; a schedule goes on as a member of a population does: through a checkpoint."""
    ranks.start(steps[0][1], seed)
    due = dict(steps[1:])
    for unit in range(max_units):
        if unit in due:
            with tempfile.TemporaryDirectory(prefix="hpo-schedule-") as checkpoint:
                ranks.save(Path(checkpoint))
                ranks.start(due[unit], seed)
                ranks.load(Path(checkpoint))
        yield ranks.run_unit()


def _save(ranks: Any, folder: Path) -> None:
    """Write the model, whole or not at all."""
    with replacing_folder(folder) as part:
        ranks.save_model(part)


def _innermost(error: BaseException) -> str:
    """What a rank raised, without Ray's wrapping."""
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return f"{type(error).__name__}: {first_line(error)}" if isinstance(error, Exception) else str(error)


def _show_unit(console: Console, metrics: Mapping[str, float], max_units: int) -> None:
    print_line(
        console,
        f"unit {metrics['units']:g} of {max_units} | train loss {metrics['train_loss']:.4f} | "
        f"eval loss {metrics['eval_loss']:.4f} EM {metrics['exact_match']:.3f} F1 {metrics['f1']:.3f}",
    )


def _show_end(console: Console, test: Mapping[str, float], folder: Path, run_id: str) -> None:
    print_line(
        console, f"test: loss {test['eval_loss']:.4f} EM {test['exact_match']:.4f} F1 {test['f1']:.4f}, evaluated once"
    )
    print_line(console, f"model: {folder / MODEL_FOLDER}")
    print_line(console, f"in MLflow: runs:/{run_id}/{MODEL_FOLDER}")


# ---- MLflow


class _Run:
    """The training's run in MLflow.

    Args:
        benchmark: what is trained.
        best: the configuration.
        seed: the training's.
        command: see `train`.

    Raises:
        BenchmarkError: the tracking store cannot be used.
    """

    def __init__(self, benchmark: Benchmark, best: BestConfig, seed: int, command: str) -> None:
        self._benchmark, self._best, self.seed = benchmark, best, seed
        launch_run = os.environ.pop("MLFLOW_RUN_ID", None)  # Ray's workers must not inherit it
        self._client, experiment_id = store.open_experiment(benchmark.name, views.tags(benchmark))
        with store.readable_errors():
            self.run_id = runs.open_run(self._client, experiment_id, f"training seed {seed}", launch_run)
            there = self._client.get_run(self.run_id).data.params
            params = [Param(key, str(value)) for key, value in self._params().items() if key not in there]
            self._client.log_batch(self.run_id, params=params, tags=self._tags(command))

    def _params(self) -> dict[str, object]:
        """The full set of hyperparameters it starts with, the seed, and the files of the splits."""
        hyperparameters = self._benchmark.hyperparameters(self._best.steps[0][1]).model_dump()
        data = {f"data_{name}": getattr(self._benchmark.training_settings().data, name).file for name in SPLITS}
        return {**hyperparameters, "seed": self.seed, **{key: path for key, path in data.items() if path}}

    def _tags(self, command: str) -> list[RunTag]:
        tags = {
            "hpo.kind": "training",
            "hpo.method": self._best.method,
            "hpo.benchmark": self._benchmark.name,
            "hpo.benchmark_digest": digest(self._benchmark),
            "hpo.seed": str(self.seed),
            "hpo.accelerator": detect().accelerator,
            "hpo.command": command,
            "hpo.tuned_by": self._best.run_id,
        }
        return [RunTag(key, value) for key, value in tags.items()]

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Leave no run behind that looks as if it still went on."""
        try:
            with store.readable_errors():
                yield
        except BaseException as error:
            self._client.set_terminated(self.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise

    def log_tokens(self, tokens: Sequence[TokenStatistics]) -> None:
        """What the data are like."""
        self._log(files.token_metrics(tokens), 0)
        runs.log_files(self._client, self.run_id, files.token_files(tokens))

    def log_unit(self, metrics: Mapping[str, float]) -> None:
        """A unit's metrics; those that are not numbers are left out."""
        self._log({name: metrics[name] for name in METRICS if name in metrics}, int(metrics["units"]))

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in finite.items()])

    def end(self, folder: Path, units: list[dict[str, float]], test: dict[str, float], reason: str) -> None:
        """Write the report, log the model, close the run.

        Raises:
            BenchmarkError: the folder cannot be written.
        """
        output.write(folder, {REPORT_FILE: json.dumps(self._report(units, test, reason), indent=2) + "\n"})
        self._client.log_artifact(self.run_id, str(folder / REPORT_FILE))
        self._client.set_tag(self.run_id, "hpo.reason", reason)
        if not reason:
            self._log({f"test_{name}": value for name, value in test.items()}, len(units))
            finetune = self._benchmark.training_settings()
            log_model(self.run_id, folder / MODEL_FOLDER, finetune.max_answer_tokens)
        self._client.set_terminated(self.run_id, "FAILED" if reason else "FINISHED")

    def _report(self, units: list[dict[str, float]], test: dict[str, float], reason: str) -> dict[str, Any]:
        steps = [{"units": units, "config": config} for units, config in self._best.steps]
        return {
            "status": reason or "finished",
            "benchmark": self._benchmark.name,
            "digest": digest(self._benchmark),
            "seed": self.seed,
            "schedule": steps,
            "validation": {name: units[-1][name] for name in METRICS if name in units[-1]} if units else {},
            "test": test,
            "run_id": self.run_id,
        }


def log_model(run_id: str, folder: Path, max_new_tokens: int) -> None:
    """Log a saved model as `mlflow.transformers` has it, under the name "model".

    Args:
        run_id: the run it belongs to.
        folder: written by `save_pretrained`, with its tokenizer.
        max_new_tokens: of an answer, when it is served.
    """
    import mlflow
    import mlflow.transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)  # it looks for the model's card on the hub
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    path = folder.resolve()  # MLflow would take a relative one for the name of a model on the hub, and ask there
    components = {
        "model": AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, trust_remote_code=False),
        "tokenizer": AutoTokenizer.from_pretrained(path, trust_remote_code=False),
    }
    requirements = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in SERVED_WITH]
    with mlflow.start_run(run_id=run_id):
        mlflow.transformers.log_model(
            components,
            name=MODEL_FOLDER,
            task="text-generation",
            pip_requirements=requirements,
            model_config={"max_new_tokens": max_new_tokens, "do_sample": False, "return_full_text": False},
        )
