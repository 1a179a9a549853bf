"""Read a benchmark, the thing that is tuned, from YAML, strictly, into frozen objects.

The benchmark owns the metric, the resource, the splits, the search space and the trial; a method only proposes
configurations and stops trials. `load("nano")` reads `benchmarks/nano.yaml`, `load("my/own.yaml")` reads that file.
Relative paths in a file are relative to the file. With `like: nano`, a file takes all that it does not give from nano.

Nothing here imports torch, so reading a benchmark costs milliseconds, before any process is started.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from benchmarks import tasks
from benchmarks.clock import REAL, Clock
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError as BenchmarkError
from benchmarks.files import first_line as first_line
from benchmarks.files import is_file, is_folder, place, read_yaml
from benchmarks.files import load_json as load_json
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import (
    Choice,
    Count,
    Domain,
    Integer,
    Scalar,
    Seconds,
    Space,
    Strict,
    check_grid_axis,
    describe,
)
from benchmarks.splits import SPLITS as SPLITS
from benchmarks.splits import Data as Data
from benchmarks.splits import Split as Split
from benchmarks.tasks.task import LOSS, Metric, Mode, Task
from benchmarks.trials.finetune import FineTune as FineTune
from benchmarks.trials.recorded import Recorded as Recorded
from benchmarks.trials.synthetic import Synthetic as Synthetic
from benchmarks.trials.trial import OpenRanks, Ranks, TrialProcess, TrialSettings

HERE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
TRIALS = ("finetune", "synthetic", "recorded")
"""Blocks of a file that describe its trials, of which a benchmark has one."""


class Resource(Strict):
    """Resource of a training, counted in samples.

    Attributes:
        unit_samples: training samples seen in one unit, whatever the batch size.
        max_units: units of one full training, at most a million, since each ends with an evaluation; the learning-rate
            schedule always spans them all.
        checkpoint_seconds: time after which a training without a checkpoint gets one, at the end of its unit; it
            resumes from there if it fails or is interrupted. Checkpoints take a twentieth of the time at most.
    """

    unit_samples: Count
    max_units: Annotated[int, Field(ge=1, le=1_000_000)]
    checkpoint_seconds: Seconds = 60.0

    @property
    def total_samples(self) -> int:
        """Samples of one full training."""
        return self.unit_samples * self.max_units


class Benchmark(Strict):
    """Benchmark: model, data, metric, resource and search space.

    Attributes:
        name: also the name of the MLflow experiment.
        description: one sentence.
        like: another benchmark, by name or file, whose keys hold where this file gives none: those of `resource` and of
            the trial's block one by one, all others as a whole. Only `name` is then required.
        metric: the validation metric that ranks trials: the loss, or one of the task's.
        mode: "min" or "max", the direction in which `metric` improves.
        diverged_above: eval loss above which a trial counts as diverged. The loss of guessing uniformly is
            ln(vocabulary), at most 12.5 for the models here, so twice that is no training any more.
        resource: unit and full training.
        default: the configuration one would try without tuning; it also fills hyperparameters outside `space`.
        space: the search space; keys are fields of `Hyperparameters`.
        grid: the values of the manual grid.
        finetune: the trial, if it is a real one.
        synthetic: the trial, if it is a closed-form curve.
        recorded: the trial, if it is read from a bank.
        rescue: train a configuration that runs out of memory with smaller micro-batches and more accumulation, as far
            as it takes to fit; the effective batch stays the same.
        select: the unit that stands for a trial: "last_unit", or "best_unit" for the one with the best `metric`, as
            Trainer's `load_best_model_at_end`. The best unit's weights are then scored on test, saved and exported.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    description: str
    like: Annotated[str, Field(exclude=True)] = ""  # and empty once a file is read, see `_read`
    metric: str = LOSS.name
    mode: Mode = "min"
    diverged_above: PositiveFloat = 25.0
    resource: Resource
    default: Hyperparameters
    space: Space
    grid: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    finetune: FineTune | None = None
    synthetic: Synthetic | None = None
    recorded: Recorded | None = None
    rescue: bool = True
    select: Literal["last_unit", "best_unit"] = "last_unit"

    @model_validator(mode="after")
    def _check(self) -> Benchmark:
        if len([block for block in (self.finetune, self.synthetic, self.recorded) if block is not None]) != 1:
            raise ValueError("give one of `finetune`, `synthetic` and `recorded`")
        if self.recorded is not None and self.selects_best:
            raise ValueError("select is best_unit, but a bank has test scores of the last unit alone; take last_unit")
        _check_metric(self.metric, self.mode, self.metrics)
        if not self.space:
            raise ValueError("space is empty, but a search needs at least one hyperparameter")
        for name, domain in self.space.items():
            _check_domain(name, domain)
        for name, values in self.grid.items():
            check_grid_axis(name, values, self.space)
        return self

    @property
    def trial(self) -> TrialSettings:
        """The block that describes its trials."""
        block = self.finetune or self.synthetic or self.recorded
        assert block is not None
        return block

    @property
    def selects_best(self) -> bool:
        """Tell whether a trial stands by its best unit in place of its last."""
        return self.select == "best_unit"

    @property
    def task(self) -> Task[Any]:
        """The task that is trained; computed curves imitate the default one."""
        return tasks.get(self.trial.task)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of each evaluation, in the order of tables: the loss, then the task's."""
        return (replace(LOSS, worst=self.diverged_above), *self.task.metrics)

    @property
    def test_metrics(self) -> tuple[Metric, ...]:
        """The same in the order of comparisons: the metric of verdicts, then the others, the loss last."""
        others = [metric for metric in self.metrics if metric != self.verdict_metric]
        return (self.verdict_metric, *reversed(others))

    @property
    def verdict_metric(self) -> Metric:
        """Metric by which methods are compared, on the test split: the one that was tuned."""
        return self.ranking_metric

    @property
    def ranking_metric(self) -> Metric:
        """Metric that ranks trials."""
        return next(metric for metric in self.metrics if metric.name == self.metric)

    @property
    def ranks_per_trial(self) -> int:
        """Ranks of one trial, a device each."""
        return self.trial.ranks_per_trial

    @property
    def trials_per_gpu(self) -> int:
        """Trials that share a GPU."""
        return self.trial.trials_per_gpu

    @property
    def devices_per_trial(self) -> float:
        """Devices that one trial occupies; a share of one where trials share GPUs."""
        return self.ranks_per_trial / self.trials_per_gpu

    def trial_process(self, open_ranks: OpenRanks[Ranks], clock: Clock = REAL) -> Ranks | TrialProcess:
        """Return the process that runs this benchmark's trials.

        Args:
            open_ranks: starts the ranks, or finds warm ones; called only if the trials need them.
            clock: the study's clock; trials without ranks wait by it.
        """
        return self.trial.process(self, open_ranks, clock)

    def on_whole_gpus(self) -> Benchmark:
        """Return this benchmark for a training that shares its GPU with no other."""
        if self.finetune is None:
            return self
        return self.model_copy(update={"finetune": self.finetune.model_copy(update={"trials_per_gpu": 1})})

    def training_settings(self) -> FineTune:
        """Return the settings of the training.

        Raises:
            BenchmarkError: learning curves are computed, with no model behind them.
        """
        if self.finetune is None:
            raise BenchmarkError(
                f"benchmark {self.name} computes learning curves and trains no model; give one with a `finetune` block"
            )
        return self.finetune

    def complete(self, config: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Fill in a configuration: the default holds for each hyperparameter that it leaves out. Nothing is checked."""
        return {**self.default.model_dump(), **config}

    def default_in_space(self) -> dict[str, Scalar] | None:
        """Return the default of each hyperparameter of the space, as the space has it; None if one lies outside."""
        if self.default_outside_space():
            return None
        default = self.complete({})
        return {name: _as_in(domain, default[name]) for name, domain in self.space.items()}

    def default_outside_space(self) -> str:
        """Name the first hyperparameter whose default the search space does not hold; empty if it holds all."""
        default = self.complete({})
        for name, domain in self.space.items():
            if not domain.contains(default[name]):
                return (
                    f"{name} is {default[name]!r} in the default of benchmark {self.name}, which lies outside the "
                    f"search space, {describe(domain)}"
                )
        return ""

    def hyperparameters(self, config: Mapping[str, Scalar]) -> Hyperparameters:
        """Return the full set for a trial: `config` over the benchmark's default.

        Raises:
            BenchmarkError: a name is unknown, or a value out of range.
        """
        try:
            return Hyperparameters(**self.complete(config))
        except ValidationError as error:
            raise BenchmarkError(
                f"configuration {dict(config)} is not usable: {explained(error, Benchmark, ('default',))}"
            ) from None


def _as_in(domain: Domain, value: Scalar) -> Scalar:
    """Return a value of a domain in the domain's own type: a choice's own entry, a whole number of an integer."""
    if isinstance(domain, Choice):
        return domain.values[domain.values.index(value)]
    return int(value) if isinstance(domain, Integer) else float(value)


def names() -> list[str]:
    """Return the names of the benchmarks that come with the suite."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load(name_or_path: str, space_file: Path | None = None) -> Benchmark:
    """Read a benchmark.

    Args:
        name_or_path: one of `names()`, or the path of a YAML file.
        space_file: YAML with `space` (and, for the manual grid, `grid`) that replaces the benchmark's.

    Raises:
        BenchmarkError: there is no such benchmark, or a key or value does not hold.
    """
    path = _find(name_or_path)
    content = _read(path)
    if space_file is not None:
        content = {**content, **_read_space(space_file)}
    try:
        return Benchmark.model_validate(content)
    except ValidationError as error:
        source = f"{path} with {space_file}" if space_file else str(path)
        raise BenchmarkError(f"{source}: {explained(error, Benchmark)}") from None


def _read(path: Path, variants: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a benchmark's file with absolute paths, over the file of the benchmark that it is like.

    Args:
        path: the file.
        variants: the files that are like it, the outermost first.
    """
    if path.resolve() in variants:
        raise BenchmarkError(f"{variants[0]}: `like` leads back to {path}; take one of them away")
    content = read_yaml(path)
    _resolve_paths(content, path.parent)
    if "like" not in content:
        return content
    like = str(content.pop("like"))
    if "name" not in content:
        raise BenchmarkError(f"{path}: `name` is missing; a benchmark that is like another has results of its own")
    try:
        base = _find(str(place(path.parent, like)) if Path(like).suffix in SUFFIXES else like)
    except BenchmarkError as error:
        raise BenchmarkError(f"{path}: like: {error}") from None
    return _over(_read(base, (*variants, path.resolve())), content)


def _over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's own content over that of another: blocks of settings by key, all else as a whole."""
    replaced = {"grid"} if "space" in own else set()
    if any(block in own for block in TRIALS):
        replaced |= {*TRIALS}
    content = {key: value for key, value in base.items() if key not in replaced} | own
    for block in ("resource", *TRIALS):
        if isinstance(base.get(block), dict) and isinstance(own.get(block), dict):
            content[block] = base[block] | own[block]
    return content


def _find(name_or_path: str) -> Path:
    if name_or_path in names():
        return HERE / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix not in SUFFIXES:
        raise BenchmarkError(
            f"no benchmark named {name_or_path!r}; choose one of {', '.join(names())}, or give the path of a YAML file"
        )
    if not is_file(path):
        raise BenchmarkError(f"{name_or_path}: no such benchmark file")
    return path


def _read_space(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    unknown = sorted(map(str, set(content) - {"space", "grid"}))
    if unknown or "space" not in content:
        found = f"found {', '.join(unknown)}" if unknown else "`space` is missing"
        raise BenchmarkError(f"{path}: a search space file has the keys `space` and, if wanted, `grid`; {found}")
    return {"grid": {}, **content}


def _resolve_paths(content: dict[str, Any], folder: Path) -> None:
    """Make the paths in a freshly read file absolute."""
    recorded = content.get("recorded")
    if isinstance(recorded, dict):
        for name in ("bank", "seconds_of"):
            if isinstance(recorded.get(name), str):
                recorded[name] = str(place(folder, recorded[name]))
    finetune = content.get("finetune")
    if not isinstance(finetune, dict):
        return
    _resolve_hub_name(finetune, "model", folder)
    if isinstance(finetune.get("deepspeed"), str):
        finetune["deepspeed"] = load_json(place(folder, finetune["deepspeed"]))
    data = finetune.get("data")
    for split in data.values() if isinstance(data, dict) else ():
        if not isinstance(split, dict):
            continue
        _resolve_hub_name(split, "dataset", folder)
        if isinstance(split.get("file"), str):
            split["file"] = str(place(folder, split["file"]))


def _resolve_hub_name(section: dict[str, Any], key: str, folder: Path) -> None:
    """Make a local folder absolute; a name that is no folder and does not look like one is a hub name and stays."""
    name = section.get(key)
    if isinstance(name, str):
        path = place(folder, name)
        if is_folder(path) or name.startswith((".", "/", "~")):
            section[key] = str(path)


def _check_metric(name: str, mode: Mode, known: Sequence[Metric]) -> None:
    """Require that the metric is one of the task's, and that it improves in this direction."""
    modes = {metric.name: metric.mode for metric in known}
    if name not in modes:
        raise ValueError(f"metric is {name!r}, but must be one of {', '.join(modes)}")
    if modes[name] != mode:
        raise ValueError(f"metric {name} does not go with mode {mode}")


def _check_domain(name: str, domain: Domain) -> None:
    """Require that the name is a hyperparameter's, and that it may take the domain's extremes."""
    if name not in Hyperparameters.model_fields:
        raise ValueError(
            f"space: no hyperparameter named {name!r}; known are {', '.join(Hyperparameters.model_fields)}"
        )
    for value in _probes(domain):
        try:
            Hyperparameters(**{name: value})
        except ValidationError as error:
            raise ValueError(f"space.{name}: {value!r} cannot be used: {error.errors()[0]['msg']}") from None


def _probes(domain: Domain) -> tuple[Scalar, ...]:
    """Return values that stand for a domain: all of a choice, else the bounds, and a fraction of the real ones."""
    if isinstance(domain, Choice):
        return domain.values
    if isinstance(domain, Integer):
        return domain.low, domain.high
    return domain.low, domain.high, domain.low + (domain.high - domain.low) / math.pi
