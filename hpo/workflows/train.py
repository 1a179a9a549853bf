"""A full training of a configuration that was found: the model saved, and scored once on the test split.

It trains as a trial does: on the same ranks, by the same units, through a checkpoint where a schedule changes the
hyperparameters. Files of the user's own may replace the benchmark's data. The output folder gets::

    model/          weights as safetensors, config.json and tokenizer, for `AutoModelForCausalLM.from_pretrained`
    training.json   configuration, seed and scores

MLflow gets a run tagged `hpo.kind=training` with parameters, metrics at step = resource unit, and the model, which
`mlflow models serve` lets answer bare records of the task. Comparisons leave such runs out. A store that
fails on the way costs no training: score and folder are printed first, and the fault is said at the end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from rich.console import Console

from benchmarks.check import check
from benchmarks.check.start import check_start
from benchmarks.files import is_file, is_folder, load_json, replacing_folder
from benchmarks.hyperparameters import require_same_model
from benchmarks.identity import digest
from benchmarks.out_of_memory import in_micro_batches, innermost, rescued_schedule
from benchmarks.space import Config, Scalar, Strict
from benchmarks.spec import SPLITS, Benchmark, BenchmarkError, Split, first_line
from benchmarks.steps import require_a_step
from benchmarks.tasks.task import TRAIN_LOSS
from hpo.cluster.devices import Placement, place
from hpo.cluster.ray import detect
from hpo.core import metrics as stored
from hpo.core.budget import INTERRUPTED
from hpo.core.study import Schedule, is_diverged
from hpo.engine.best_unit import best_unit_of, scheduled_units, selected
from hpo.engine.signals import GracefulSignals, InterruptibleCall
from hpo.report.model_card import CONFIG_FILE
from hpo.store import files
from hpo.store import ui_views as views
from hpo.store.runs import CommandRun
from hpo.store.served_model import MODEL_FOLDER, Serving, log_served_model
from hpo.terminal import errors, next_steps
from hpo.terminal import files as output
from hpo.terminal.console import print_line
from hpo.terminal.tables import tokens_table

REPORT_FILE = "training.json"
"""Also the sign that a folder is of this module's making."""


class _Stored(Strict):
    model_config = ConfigDict(allow_inf_nan=True)  # a diverged trial has such metrics


class Step(_Stored):
    """A part of a schedule: a configuration and the units trained before it takes effect."""

    units: NonNegativeInt
    config: dict[str, Scalar]


class BestConfig(_Stored):
    """The content of `best_config.json`; `config` alone is enough to train.

    Attributes:
        benchmark: name of the benchmark of its study.
        method: the method that found it.
        seed: the study's.
        units: resource units it had been trained for.
        config: hyperparameters, over the benchmark's default.
        metrics: its validation metrics.
        run_id: its trial's run.
        schedule: the configurations that trained it, where they changed on the way.
        micro_batch: samples of a forward pass that fitted, where its batch size did not.
        selected_unit: the unit that its metrics are of, where it is not the last.
    """

    benchmark: str = ""
    method: str = ""
    seed: NonNegativeInt = 0
    units: PositiveInt | None = None
    config: dict[str, Scalar]
    metrics: dict[str, float] = Field(default_factory=dict)
    run_id: str = ""
    schedule: tuple[Step, ...] = ()
    micro_batch: PositiveInt | None = None
    selected_unit: PositiveInt | None = None

    @property
    def steps(self) -> list[tuple[int, Config]]:
        """The schedule, which may be one configuration all the way."""
        return [(step.units, step.config) for step in self.schedule] or [(0, self.config)]


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        folder: the folder with model and report.
        run_id: its run in MLflow.
        units: metrics of every unit, in order.
        test: `eval_loss`, `perplexity` and the task's metrics on the test split; empty if it did not reach its end.
        reason: the cause if it did not reach its end, else empty.
        fault: the reason why MLflow lacks a part of it; empty if it has all.
    """

    folder: Path
    run_id: str
    units: list[dict[str, float]]
    test: dict[str, float]
    reason: str = ""
    fault: str = ""


def train(
    config: Path, benchmark: Benchmark, folder: Path, console: Console, *, seed: int | None = None, command: str = ""
) -> Trained:
    """Train, score on test once, save the model and log it.

    Args:
        config: `best_config.json`, or the folder of an export.
        benchmark: with the data to use, see `with_data`.
        folder: new, empty, or of an earlier training, which is replaced.
        console: gets one line per unit.
        seed: drives model initialisation, dropout and data order; the study's by default.
        command: the command that was given, for the record.

    Raises:
        BenchmarkError: an argument cannot be used; nothing has been trained.
    """
    best = read_config(config)
    steps = check_schedule(best, benchmark)
    placement = place(benchmark.on_whole_gpus(), detect(), concurrency=1)
    for warning in (*check(benchmark), *check_start(benchmark)):
        errors.warn(warning)
    _claim(folder)
    seed = best.seed if seed is None else seed
    run = _open_run(benchmark, best, seed, command, placement.devices.accelerator)
    with run.ending(), GracefulSignals(InterruptibleCall()) as signals:
        units, test, reason = _train(benchmark, steps, seed, run, placement, folder, console, signals)
        trained = Trained(folder, run.run_id, units, test, reason)
        report = _report(benchmark, best, seed, trained)
        output.write(folder, {REPORT_FILE: report})
        if not reason:
            _show_end(console, benchmark, test, folder)  # before MLflow, which may refuse the model
        if _log_end(run, benchmark, report, trained):
            print_line(console, f"in MLflow: runs:/{run.run_id}/{MODEL_FOLDER}")
    return replace(trained, fault=run.fault)


def with_data(
    benchmark: Benchmark, train: Path | None = None, validation: Path | None = None, test: Path | None = None
) -> Benchmark:
    """Put files of the user's own in place of a benchmark's splits; None keeps a split.

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


# ---- arguments


def read_config(path: Path) -> BestConfig:
    """Read a configuration as `export` writes it.

    Args:
        path: the file, or the folder that it lies in.

    Raises:
        BenchmarkError: it is missing, no JSON, or has keys or values that do not belong there.
    """
    file = path / CONFIG_FILE if is_folder(path) else path
    if not is_file(file):
        raise BenchmarkError(f"config {file}: no such file; write one with: {next_steps.command('export')}")
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
    """Check the configurations to train with, each with its units, against the benchmark; returns them.

    Raises:
        BenchmarkError: a hyperparameter that the benchmark cannot use, one that changes but shapes the model, or units
            out of order or beyond its resource.
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
            require_a_step(benchmark, hp := benchmark.hyperparameters(config), "this configuration")
            require_same_model(benchmark.hyperparameters(steps[0][1]), hp)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}; correct it in {CONFIG_FILE}, or export it again") from None
    return [(units, in_micro_batches(benchmark, config, best.micro_batch)) for units, config in steps]


def _claim(folder: Path) -> None:
    """Make sure that the folder may be written, before anything is trained.

    Raises:
        BenchmarkError: it is not a folder, holds files of others, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT_FILE).is_file():
        raise BenchmarkError(
            f"output {folder}: is not empty and not of an earlier training ({REPORT_FILE} is missing); "
            "give a new or empty folder with --output"
        )
    output.write(folder, {REPORT_FILE: json.dumps({"status": "running"}, indent=2) + "\n"})


# ---- training


def _train(
    benchmark: Benchmark,
    steps: Schedule,
    seed: int,
    run: CommandRun,
    placement: Placement,
    folder: Path,
    console: Console,
    signals: GracefulSignals,
) -> tuple[list[dict[str, float]], dict[str, float], str]:
    """Train; returns the metrics of every unit, the scores on test, and the reason if it did not reach its end.

    A training that runs out of memory in its first unit begins again in smaller micro-batches.
    """
    from ray.exceptions import RayError

    units: list[dict[str, float]] = []
    names = stored.of_unit(benchmark)
    try:
        with _ranks(placement) as ranks, best_unit_of(benchmark) as best:
            signals.install()  # Ray has taken SIGTERM
            run.tag(precision=ranks.precision())
            tokens = ranks.token_statistics()
            run.log(files.token_metrics(tokens))
            run.log_files(files.token_files(tokens))
            console.print(tokens_table(tokens, benchmark.task))
            for metrics in scheduled_units(ranks, steps, seed, benchmark.resource.max_units):
                units.append(metrics)
                run.log({name: metrics[name] for name in names if name in metrics}, int(metrics["units"]))
                _show_unit(console, benchmark, metrics)
                if is_diverged(benchmark, metrics):
                    train_loss = metrics.get(TRAIN_LOSS, math.nan)  # a unit may train nothing
                    return units, {}, f"diverged at unit {len(units)}: train loss {train_loss:g}"
                best.see(ranks, metrics)
            if best.units:
                print_line(console, f"unit {best.units} is the best of {len(units)} on validation, and is kept")
            best.return_to(ranks)
            test = ranks.evaluate("test")
            _save(ranks, folder / MODEL_FOLDER)
            return units, test, ""
    except KeyboardInterrupt:
        return units, {}, INTERRUPTED
    except (RayError, OSError, MemoryError) as error:
        reason = _innermost(error)
    if not units and (smaller := rescued_schedule(benchmark, steps, reason)):
        size = smaller[0][1]["batch_size_per_device"]
        print_line(console, f"{reason}; the training begins again in micro-batches of {size}")
        return _train(benchmark, smaller, seed, run, placement, folder, console, signals)
    return units, {}, reason


@contextmanager
def _ranks(placement: Placement) -> Iterator[Any]:
    """Start the ranks of one training on devices reserved for them, and end them afterwards."""
    import ray
    from ray.util import placement_group

    from benchmarks.devices.places import find_places
    from benchmarks.training.ranks import Ranks
    from hpo.cluster.ray import ray_cluster

    allotment = placement.allotment
    bundle = {"CPU": allotment.cpus_per_rank, **({"GPU": allotment.gpus_per_rank} if allotment.gpus_per_rank else {})}
    with ray_cluster(placement.devices):
        group = placement_group([bundle] * allotment.ranks_per_trial)
        ray.get(group.ready())
        places = find_places(allotment.ranks_per_trial, allotment.gpus_per_rank, group)
        ranks = Ranks(placement.benchmark, places, max(1, int(allotment.cpus_per_rank)))
        try:
            yield ranks
        finally:
            ranks.close()
            ray.util.remove_placement_group(group)


def _save(ranks: Any, folder: Path) -> None:
    """Write the model, whole or not at all."""
    with replacing_folder(folder) as part:
        ranks.save_model(part)


def _innermost(error: BaseException) -> str:
    """Name the error that a rank raised, without Ray's wrapping."""
    error = innermost(error)
    return f"{type(error).__name__}: {first_line(error)}" if isinstance(error, Exception) else str(error)


def _show_unit(console: Console, benchmark: Benchmark, metrics: Mapping[str, float]) -> None:
    scores = " ".join(f"{one.words} {metrics[one.name]:.{one.digits}f}" for one in benchmark.metrics)
    train_loss = metrics.get(TRAIN_LOSS, math.nan)
    reached = f"unit {metrics['units']:g} of {benchmark.resource.max_units}"
    print_line(console, f"{reached} | train loss {train_loss:.4f} | {scores}")


def _show_end(console: Console, benchmark: Benchmark, test: Mapping[str, float], folder: Path) -> None:
    scores = " ".join(f"{one.bare_words} {test[one.name]:.4f}" for one in benchmark.metrics)
    print_line(console, f"test: {scores}, evaluated once")
    print_line(console, f"model: {folder / MODEL_FOLDER}")


# ---- the record


def _open_run(benchmark: Benchmark, best: BestConfig, seed: int, command: str, accelerator: str) -> CommandRun:
    """Open the training's run in MLflow.

    Raises:
        BenchmarkError: the tracking store cannot be used.
    """
    hyperparameters = benchmark.hyperparameters(best.steps[0][1]).model_dump()
    data = {f"data_{name}": getattr(benchmark.training_settings().data, name).file for name in SPLITS}
    params = {**hyperparameters, "seed": seed, **{key: path for key, path in data.items() if path}}
    tags = {
        "hpo.kind": "training",
        "hpo.method": best.method,
        "hpo.benchmark": benchmark.name,
        "hpo.benchmark_digest": digest(benchmark),
        "hpo.seed": str(seed),
        "hpo.accelerator": accelerator,
        "hpo.command": command,
        "hpo.tuned_by": best.run_id,
    }
    return CommandRun(benchmark.name, f"training seed {seed}", params, tags, views.tags(benchmark))


def _report(benchmark: Benchmark, best: BestConfig, seed: int, trained: Trained) -> str:
    """Describe the training as `training.json` has it."""
    last = selected(benchmark, trained.units)
    content = {
        "status": trained.reason or "finished",
        "benchmark": benchmark.name,
        "digest": digest(benchmark),
        "seed": seed,
        "schedule": [{"units": units, "config": config} for units, config in best.steps],
        **({"selected_unit": int(last["units"])} if benchmark.selects_best and last else {}),
        "validation": {name: last[name] for name in stored.of_unit(benchmark) if name in last},
        "test": trained.test,
        "run_id": trained.run_id,
    }
    return json.dumps(content, indent=2) + "\n"


def _log_end(run: CommandRun, benchmark: Benchmark, report: str, trained: Trained) -> bool:
    """Write the end of the training to MLflow; returns whether MLflow has the model."""
    run.log_files({REPORT_FILE: report})
    run.tag(reason=trained.reason)
    is_logged = False
    if not trained.reason:
        run.log({f"test_{name}": value for name, value in trained.test.items()}, len(trained.units))
        finetune = benchmark.training_settings()
        task, example = benchmark.task, dict(benchmark.task.example)
        serving = Serving(task.prompt, finetune.max_length, finetune.max_answer_tokens)
        model = trained.folder / MODEL_FOLDER
        is_logged = run.add_model(lambda client, run_id: log_served_model(client, run_id, model, serving, example))
    run.end("KILLED" if trained.reason == INTERRUPTED else "FAILED" if trained.reason else "FINISHED")
    return is_logged
