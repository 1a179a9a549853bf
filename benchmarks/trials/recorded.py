"""Recorded learning curves in place of training: the block of a benchmark whose trials come from a bank.

A trial waits by the study's clock as long as the recorded training took, so a study on a clock that jumps takes no time
and tells the same device-hours. Curves depend on configuration and seed alone: a trial whose hyperparameters change on
the way has none, so populations (PBT, PB2) cannot be replayed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from benchmarks import tasks
from benchmarks.banks import bank as banks
from benchmarks.banks.curves import Curve, Curves, RecordedCurves
from benchmarks.banks.training import BankTraining
from benchmarks.clock import Clock
from benchmarks.files import BenchmarkError
from benchmarks.space import Config, describe
from benchmarks.tasks.task import LOSS, PERPLEXITY, TRAIN_LOSS, TokenStatistics, perplexity
from benchmarks.trials.trial import OpenRanks, Ranks, TrialProcess, Untrained

if TYPE_CHECKING:  # the one takes a second, and the other has the block
    from benchmarks.banks.seconds import RecordedDurations
    from benchmarks.spec import Benchmark

STATE = "recorded.json"
"""File of a checkpoint: configuration, seed and units reached."""


class Recorded(Untrained):
    """Recorded learning curves.

    Attributes:
        bank: Parquet file of a bank, relative to the YAML file.
        digest: digest of the benchmark that was recorded; the bank must have the same.
        between: "surrogate" answers each configuration of the search space by a model of the recorded curves; "table"
            answers recorded configurations alone, and replays draw from them.
        task: the task that was recorded, a name in `benchmarks/tasks`.
        slower: factor on all recorded seconds, for an accelerator that takes so many times as long.
        accelerator: name of the accelerator whose recorded seconds are taken, such as "cpu"; empty for those of each
            training as it was recorded.
        seconds_of: Parquet file of another bank of the same benchmark, whose seconds are taken.
    """

    bank: Path
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    between: Literal["surrogate", "table"] = "surrogate"
    task: str = tasks.DEFAULT
    slower: PositiveFloat = 1.0
    accelerator: str = ""
    seconds_of: Path | None = None

    @property
    def has_other_seconds(self) -> bool:
        """Tell whether seconds are not those that were recorded with the curves."""
        return bool(self.accelerator or self.seconds_of) or self.slower != 1

    def process(self, benchmark: Benchmark, open_ranks: OpenRanks[Ranks], clock: Clock) -> TrialProcess:
        """Return a process that reads curves, without ranks."""
        return RecordedTrial(benchmark, clock)

    def require_ready(self, benchmark: Benchmark) -> list[str]:
        """Read the bank and fit the model, once per process; warn then of a bank that is incomplete.

        Raises:
            BenchmarkError: the bank cannot be read, or is not of this benchmark.
        """
        if benchmark.model_dump_json() in _known:
            return []
        curves(benchmark)
        return extent_warnings(benchmark)


def read_bank(benchmark: Benchmark) -> banks.Bank:
    """Read the bank of a benchmark.

    Raises:
        BenchmarkError: it cannot be read, or it is of another benchmark, with other units or metrics.
    """
    block = benchmark.recorded
    assert block is not None
    bank = banks.read(block.bank)
    header, metrics = bank.header, tuple(metric.name for metric in benchmark.metrics)
    if header.digest != block.digest:
        raise BenchmarkError(
            f"{block.bank}: its benchmark has the digest {header.digest or 'of no benchmark'}, but {benchmark.name} "
            f"names {block.digest or 'none'}; take the bank of that benchmark, or correct `digest`"
        )
    if header.max_units != benchmark.resource.max_units:
        raise BenchmarkError(
            f"{block.bank}: its trainings have {header.max_units} units, but {benchmark.name} has max_units "
            f"{benchmark.resource.max_units}; set it to {header.max_units}"
        )
    if set(header.metrics) != set(metrics):
        raise BenchmarkError(
            f"{block.bank}: its metrics are {', '.join(header.metrics)}, but those of {benchmark.name} are "
            f"{', '.join(metrics)}; name the recorded `task`"
        )
    return bank


def extent_warnings(benchmark: Benchmark) -> list[str]:
    """Return a sentence if a benchmark's bank is incomplete, and one if its seconds are of several accelerators.

    Raises:
        BenchmarkError: see `read_bank`.
    """
    assert benchmark.recorded is not None
    bank, found = read_bank(benchmark), list[str]()
    known = bank.accelerators()
    if len(known) > 1 and seconds_source(benchmark) is None:
        found.append(
            f"the bank of {benchmark.name} has seconds of {' and '.join(known)}, and each curve takes those it was "
            "recorded with; name one as `accelerator`"
        )
    configs, seeds = bank.header.planned
    if len(bank.trainings) >= configs * seeds:
        return found
    card = benchmark.recorded.bank.with_suffix(".md").name
    return [
        *found,
        f"the bank of {benchmark.name} is incomplete: it has {len(bank.trainings)} of {configs * seeds} planned "
        f"trainings, of {len(bank.configurations())} configurations, and results will change as it grows; see its "
        f"card, {card}",
    ]


def configurations_of(benchmark: Benchmark) -> list[list[BankTraining]]:
    """Return the recorded trainings by configuration, with all hyperparameters.

    Those that the search space cannot propose are left out: a value lies outside its domain, or a hyperparameter
    outside the space is not the default.

    Raises:
        BenchmarkError: see `read_bank`; or no configuration lies in the search space.
    """
    found = _within_space(benchmark, read_bank(benchmark))
    if not found:
        raise BenchmarkError(f"{benchmark.name}: no recorded configuration lies in its search space; correct `space`")
    return found


def _within_space(benchmark: Benchmark, bank: banks.Bank) -> list[list[BankTraining]]:
    return [
        [training.model_copy(update={"config": benchmark.complete(training.config)}) for training in of_one]
        for of_one in bank.configurations()
        if not _fault(benchmark, benchmark.complete(of_one[0].config))
    ]


def seconds_source(benchmark: Benchmark) -> tuple[banks.Bank, str] | None:
    """Return the bank and the accelerator whose seconds are taken; None for those recorded with the curves.

    Raises:
        BenchmarkError: the bank cannot be read or is of another benchmark, or the accelerator is not in it.
    """
    block = benchmark.recorded
    assert block is not None
    if not block.accelerator and block.seconds_of is None:
        return None
    path = block.seconds_of or block.bank
    bank = banks.read(path)
    if (bank.header.digest, bank.header.max_units) != (block.digest, benchmark.resource.max_units):
        raise BenchmarkError(
            f"{path}: seconds are taken from trainings of the same benchmark, with the digest {block.digest}, but its "
            f"own is {bank.header.digest or 'none'}"
        )
    known = bank.accelerators()
    wanted = block.accelerator or (known[0] if len(known) == 1 else "")
    if wanted not in known:
        named = f"accelerator is {wanted!r}, but" if wanted else "no accelerator is named, and"
        raise BenchmarkError(f"{named} {path} has trainings on {' and '.join(map(repr, known))}; name one of these")
    return bank, wanted


def _durations_of(benchmark: Benchmark, bank: banks.Bank, accelerator: str) -> RecordedDurations:
    from benchmarks.banks.seconds import RecordedDurations  # numpy and scikit-learn take a second

    try:
        return RecordedDurations(_within_space(benchmark, bank.on(accelerator)), benchmark.space)
    except BenchmarkError as error:
        raise BenchmarkError(f"{bank.header.name} on {accelerator}: {error}") from None


def _fault(benchmark: Benchmark, config: Config) -> str:
    """Say why the search space cannot propose a complete configuration; empty if it can."""
    default = benchmark.default.model_dump()
    for name, value in config.items():
        if name in benchmark.space and not benchmark.space[name].contains(value):
            domain = describe(benchmark.space[name])
            return f"{name} is {value!r}, but the bank answers within the search space alone: {domain}"
        if name not in benchmark.space and value != default[name]:
            return f"{name} is {value!r}, but all recorded trainings have {default[name]!r}"
    return ""


_known: dict[str, Curves] = {}
"""Curves of this process by benchmark: a study asks for them once per trial."""


def curves(benchmark: Benchmark) -> Curves:
    """Return the curves of a benchmark with a `recorded` block, read and fitted once per process.

    Raises:
        BenchmarkError: the bank cannot be read, is not of this benchmark, or is too small for a model.
    """
    content = benchmark.model_dump_json()
    if content not in _known:
        _known[content] = _make_curves(benchmark)
    return _known[content]


def _make_curves(benchmark: Benchmark) -> Curves:
    from benchmarks.banks.surrogate import Surrogate  # numpy and scikit-learn take a second

    assert benchmark.recorded is not None
    configurations, source = configurations_of(benchmark), seconds_source(benchmark)
    is_table, units = benchmark.recorded.between == "table", benchmark.resource.max_units
    found: Curves = (
        RecordedCurves(configurations)
        if is_table
        else Surrogate(configurations, benchmark.space, benchmark.metrics, units)
    )
    if source is None:
        return found
    from benchmarks.banks.seconds import Retimed

    return Retimed(found, _durations_of(benchmark, *source))


class RecordedTrial:
    """A trial that reads its learning curve; the same interface as `ranks.Ranks`.

    Args:
        benchmark: a benchmark with a `recorded` block.
        clock: the study's clock, by which it waits.
    """

    def __init__(self, benchmark: Benchmark, clock: Clock) -> None:
        assert benchmark.recorded is not None
        self._benchmark, self._settings, self._clock = benchmark, benchmark.recorded, clock
        self._curves = curves(benchmark)

    def token_statistics(self) -> list[TokenStatistics]:
        """Return nothing: no data are read."""
        return []

    def precision(self) -> str:
        """Tell that nothing is trained: an empty text."""
        return ""

    def start(self, config: Config, seed: int) -> None:
        """Begin a trial at unit 0.

        Raises:
            BenchmarkError: the configuration lies outside the search space, or the bank cannot answer it.
        """
        self._config = self._benchmark.hyperparameters(config).model_dump()
        self._seed, self._units = seed, 0
        if fault := _fault(self._benchmark, self._config):
            raise BenchmarkError(fault)
        self._curve: Curve = self._curves.curve(self._config, seed)
        self._wait(self._curve.startup_seconds)

    def run_unit(self) -> dict[str, float]:
        """Read one unit; the keys are those of `session.Session.run_unit`.

        Raises:
            MemoryError: the recorded training ran out of memory here.
        """
        if self._units >= len(self._curve.units):
            if self._curve.outcome == "out_of_memory":
                raise MemoryError("out of memory, as recorded")
            return self._no_scores()
        unit = self._curve.units[self._units]
        self._units += 1
        self._wait(unit.train_seconds + unit.evaluate_seconds)
        seconds = self._settings.slower * unit.train_seconds
        return {
            "units": self._units,
            **_scores(unit.metrics),
            **({TRAIN_LOSS: unit.train_loss} if unit.train_loss is not None else {}),
            "samples_per_second": self._benchmark.resource.unit_samples / seconds if seconds else 0.0,
            "peak_memory_mb": unit.peak_memory_mb,
            "train_seconds": seconds,
            "evaluate_seconds": self._settings.slower * unit.evaluate_seconds,
        }

    def _no_scores(self) -> dict[str, float]:
        """Return a unit of a training that has diverged."""
        self._units += 1
        worst = {metric.name: metric.worst for metric in self._benchmark.metrics}
        nothing = {"samples_per_second": 0.0, "peak_memory_mb": 0.0, "train_seconds": 0.0, "evaluate_seconds": 0.0}
        return {"units": self._units, **worst, LOSS.name: float("nan"), PERPLEXITY: float("nan"), **nothing}

    @property
    def has_test(self) -> bool:
        """True if the training that has begun has scores on test."""
        return bool(self._curve.test)

    def evaluate(self, split: str) -> dict[str, float]:
        """Return the recorded scores: of the unit reached, or on the test split at the end of the training.

        Raises:
            BenchmarkError: the test split is asked for before the end, or was not recorded.
        """
        if split != "test":
            return _scores(self._curve.units[self._units - 1].metrics)
        if self._units < self._benchmark.resource.max_units or not self._curve.test:
            raise BenchmarkError(f"{self._settings.bank}: test scores are those at the end of complete trainings")
        self._wait(self._curve.test_seconds)
        return _scores(self._curve.test)

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the scores as `evaluate` does; those of each record are in the bank alone."""
        return self.evaluate(split), {}

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """Write what the trial is, and the unit it has reached, to `folder`, at once in any case."""
        state = {"config": self._config, "seed": self._seed, "units": self._units}
        (folder / STATE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Continue where `save` left off.

        Raises:
            BenchmarkError: the hyperparameters have changed, for which no curve was recorded.
        """
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
        changed = sorted(name for name, value in self._config.items() if state["config"][name] != value)
        if changed:
            raise BenchmarkError(
                f"{', '.join(changed)} changes within a trial, for which no curve was recorded; populations (pbt, pb2) "
                f"run on the benchmark itself, not on its bank"
            )
        self._seed, self._units = state["seed"], state["units"]
        self._curve = self._curves.curve(self._config, self._seed)

    def close(self) -> None:
        """End the trial; it holds nothing."""

    def _wait(self, seconds: float) -> None:
        self._clock.sleep(self._settings.slower * seconds)


def _scores(metrics: Mapping[str, float]) -> dict[str, float]:
    return {**metrics, PERPLEXITY: perplexity(metrics[LOSS.name])}
