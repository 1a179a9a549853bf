"""Random search and ASHA on a table of recorded trainings, without Ray: milliseconds per study, for planning.

A study draws configurations from the table without repeats. It decides as the replay on Ray's code does: Tune asks for
one trial beyond those that run, a trial reserves its units as it is created, and a new unit is granted before the next
trial is. ASHA is Ray's asynchronous HyperBand with one bracket, which stops (Li et al. 2020,
https://arxiv.org/abs/1810.05934). A test holds trials, units and times to those of the replay.

Not known here: checkpoints, failed attempts, and the order of events at one moment, which recorded seconds never share.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np

from benchmarks.banks.bank import Bank
from benchmarks.banks.curves import Curve, draw, recorded_curve
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Mode
from benchmarks.trials.recorded import configurations_of
from hpo.core.study import diverged_objective, is_diverged
from hpo.search.quantile import quantile

READY, UNIT = 0, 1
"""Calls of a trial: it gets a device, which takes no time, or it trains a unit."""


WORST = 1e9
"""Objective of a diverged training of a bank without a benchmark, beyond those of sound ones."""


@dataclass(frozen=True)
class Judge:
    """The meaning of a unit's metrics.

    Attributes:
        metric: ranks trials.
        mode: its better direction.
        max_units: units of a training in full.
        worst: objective of a unit that shows divergence.
        is_lost: tells from the metrics whether a unit does.
    """

    metric: str
    mode: Mode
    max_units: int
    worst: float
    is_lost: Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True)
class TableCurve:
    """A recorded training, as decisions need it.

    Attributes:
        objectives: of each unit, in the searcher's terms.
        seconds: of each unit; the first one's with those of start-up.
        lost_at: the unit at which it diverged, counted from 1; 0 if it did not.
        test: the same metric on test at its end; not a number if it has none.
    """

    objectives: tuple[float, ...]
    seconds: tuple[float, ...]
    lost_at: int
    test: float


def drawn_order(configurations: int, seed: int) -> list[int]:
    """Draw the order in which a study with this seed proposes so many configurations, each once."""
    return [int(place) for place in np.random.default_rng(seed).permutation(configurations)]


def require_holds(configurations: int, budget: int) -> None:
    """Make sure that a study of this budget finds configurations enough, without repeats.

    Raises:
        BenchmarkError: the table has fewer.
    """
    if budget > configurations:
        raise BenchmarkError(
            f"budget is {budget}, but the table has {configurations} configurations, and a study draws none twice; "
            "take a smaller budget, or a larger bank"
        )


class TrainingTable:
    """The recorded trainings of configurations, one row each.

    Args:
        configurations: trainings of each configuration, none of which ran out of memory or failed.
        judge: tells what a unit's metrics mean.

    Raises:
        BenchmarkError: a training ended otherwise.
    """

    def __init__(self, configurations: Sequence[Sequence[BankTraining]], judge: Judge) -> None:
        for training in itertools.chain.from_iterable(configurations):
            if training.outcome not in ("completed", "diverged"):
                raise BenchmarkError(
                    f"a training with the outcome {training.outcome} has no whole curve; leave its configuration out"
                )
        self.max_units, self.sign = judge.max_units, -1.0 if judge.mode == "min" else 1.0
        self._rows = [[_curve(recorded_curve(one), judge) for one in of_one] for of_one in configurations]
        self._seeds = [[one.seed for one in of_one] for of_one in configurations]

    @classmethod
    def of_benchmark(cls, benchmark: Benchmark) -> Self:
        """Make the table of a benchmark with a `recorded` block.

        Raises:
            BenchmarkError: see `TrainingTable`; or the bank cannot be read, or its seconds are not to be taken.
        """
        if benchmark.recorded is not None and benchmark.recorded.has_other_seconds:
            raise BenchmarkError(
                f"{benchmark.name} has other seconds than recorded (`slower`, `accelerator`, `seconds_of`), but a "
                "table has those of its bank; leave these out, or replay"
            )
        judge = Judge(
            benchmark.metric,
            benchmark.mode,
            benchmark.resource.max_units,
            diverged_objective(benchmark),
            partial(is_diverged, benchmark),
        )
        return cls(configurations_of(benchmark), judge)

    @classmethod
    def of_bank(cls, bank: Bank) -> Self:
        """Make the table of a bank whose benchmark is not known here.

        Raises:
            BenchmarkError: see `TrainingTable`.
        """
        header = bank.header
        worst = math.copysign(WORST, 1.0 if header.mode == "min" else -1.0)
        is_lost: Callable[[Mapping[str, float]], bool] = lambda metrics: not math.isfinite(metrics[header.metric])  # noqa: E731
        return cls(bank.configurations(), Judge(header.metric, header.mode, header.max_units, worst, is_lost))

    def __len__(self) -> int:
        return len(self._rows)

    def curves(self, seed: int) -> list[TableCurve]:
        """Return the curve of each configuration with a seed, as `benchmarks.banks.curves.RecordedCurves` does."""
        number = draw((seed,))
        return [
            row[seeds.index(seed) if seed in seeds else number % len(row)]
            for row, seeds in zip(self._rows, self._seeds, strict=True)
        ]

    def order(self, seed: int) -> list[int]:
        """Draw the order in which a study with this seed proposes the configurations."""
        return drawn_order(len(self), seed)


def _curve(curve: Curve, judge: Judge) -> TableCurve:
    """Keep of a curve what decisions need: a training that diverges ends with the unit that shows it."""
    metrics = [{**unit.metrics, **_train_loss(unit.train_loss)} for unit in curve.units]
    seconds = [unit.train_seconds + unit.evaluate_seconds for unit in curve.units]
    lost_at = next((number for number, found in enumerate(metrics, start=1) if judge.is_lost(found)), 0)
    if not lost_at and len(metrics) < judge.max_units:  # it diverged in a unit that was not evaluated
        lost_at, seconds = len(metrics) + 1, [*seconds, 0.0]
    whole = metrics[: lost_at - 1] if lost_at else metrics
    values = [*(float(found[judge.metric]) for found in whole), *([judge.worst] if lost_at else [])]
    seconds[0] += curve.startup_seconds
    return TableCurve(tuple(values), tuple(seconds[: len(values)]), lost_at, curve.test.get(judge.metric, math.nan))


def _train_loss(value: float | None) -> dict[str, float]:
    return {} if value is None else {"train_loss": value}


@dataclass
class TableStudy:
    """A study that has ended.

    Attributes:
        trials: place of each trial's configuration in the table, in order of creation.
        units: units that each of them trained.
        ends: when each unit of the study ended, with its trial and the trial's units then.
        wall_seconds: of the study.
    """

    trials: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    wall_seconds: float = 0.0

    def incumbent(self, table: TrainingTable, curves: Sequence[TableCurve]) -> tuple[int, float] | None:
        """Return the best configuration at the full resource, before there is one the best of those with most units.

        Returns:
            Its place in the table, and its objective there; None without a sound trial.
        """
        sound = [
            (units, place)
            for place, units in zip(self.trials, self.units, strict=True)
            if units and units != curves[place].lost_at
        ]
        furthest = max((units for units, _ in sound), default=0)
        reached = [(place, curves[place].objectives[units - 1]) for units, place in sound if units == furthest]
        return max(reached, key=lambda found: table.sign * found[1], default=None)


@dataclass
class TableRung:
    """A rung of ASHA: the gains that trials had there, in order.

    Attributes:
        milestone: units at which a trial gets there.
        gains: objectives with the sign by which more is better.
        trials: that have been there.
    """

    milestone: float
    gains: list[float] = field(default_factory=list)
    trials: set[int] = field(default_factory=set)

    def cutoff(self, share: float) -> float:
        """Return the quantile below which trials stop."""
        return quantile(self.gains, share)


class AshaRungs:
    """Decisions of Ray's asynchronous HyperBand with one bracket.

    Args:
        max_units: the full resource.
        reduction_factor: see `hpo.methods.asha`.
        grace_units: likewise.
        keeps_first: whether the first trial goes on in any case, and is not told of once it would have stopped.
    """

    def __init__(self, max_units: int, reduction_factor: float, grace_units: int, keeps_first: bool) -> None:
        number = int(np.log(max_units / grace_units) / np.log(reduction_factor) + 1)
        self._share = (1 - 1 / reduction_factor) * 100 / 100
        self._rungs = [TableRung(grace_units * reduction_factor**power) for power in reversed(range(number))]
        self._keeps_first, self._is_overruled = keeps_first, False

    def take(self, trial: int, units: int, gain: float) -> bool:
        """Take in a unit; return whether the trial ends there."""
        if trial or not self._keeps_first:
            return self._decide(trial, units, gain)
        self._is_overruled = self._is_overruled or self._decide(trial, units, gain)
        return False

    def _decide(self, trial: int, units: int, gain: float) -> bool:
        for rung in self._rungs:
            if units < rung.milestone or trial in rung.trials:
                continue
            is_below = bool(rung.gains) and gain < rung.cutoff(self._share)
            bisect.insort(rung.gains, gain)
            rung.trials.add(trial)
            return is_below
        return False


def random_search(table: TrainingTable, seed: int, budget: int, devices: int) -> TableStudy:
    """Run random search; see `run`."""
    return run(table, seed, budget, devices, None, first_units=table.max_units, other_units=table.max_units)


def asha(
    table: TrainingTable,
    seed: int,
    budget: int,
    devices: int,
    reduction_factor: float = 3,
    grace_units: int = 1,
    keeps_first: bool = False,
) -> TableStudy:
    """Run ASHA; see `run` and `AshaRungs`."""
    rungs = AshaRungs(table.max_units, reduction_factor, grace_units, keeps_first)
    return run(table, seed, budget, devices, rungs, first_units=table.max_units if keeps_first else 1, other_units=1)


def run(
    table: TrainingTable,
    seed: int,
    budget: int,
    devices: int,
    rungs: AshaRungs | None,
    first_units: int,
    other_units: int,
) -> TableStudy:
    """Run a study from its begin to its end.

    Args:
        table: the recorded trainings.
        seed: draws their order, and chooses one training of each configuration.
        budget: full trainings that may be spent.
        devices: trials at once.
        rungs: decide which trials stop; None for none.
        first_units: units that the first trial reserves as it is created.
        other_units: units that each other trial does.

    Raises:
        BenchmarkError: the table has fewer configurations than a study of this budget may draw.
    """
    require_holds(len(table), budget)
    return _Simulation(table, seed, budget, devices, rungs, (first_units, other_units)).run()


class _Simulation:
    def __init__(
        self,
        table: TrainingTable,
        seed: int,
        budget: int,
        devices: int,
        rungs: AshaRungs | None,
        reserves: tuple[int, int],
    ) -> None:
        self._table, self._curves, self._order = table, table.curves(seed), iter(table.order(seed))
        self._rungs, self._reserves = rungs, reserves
        self._free, self._idle = budget * table.max_units, devices
        self._reserved: list[int] = []
        self._pending: int | None = None
        self._is_waiting = False
        self._calls: list[tuple[float, int, int, int]] = []
        self._numbers, self._now = itertools.count(), 0.0
        self._study = TableStudy()

    def run(self) -> TableStudy:
        """Go through the calls in the order in which they end."""
        while True:
            self._create()
            self._place()
            if not self._calls:
                self._study.wall_seconds = self._now
                return self._study
            self._now, _, kind, trial = heapq.heappop(self._calls)
            if kind == READY:
                self._pending = None
                self._train(trial)
            else:
                self._report(trial)

    def _create(self) -> None:
        """Create a trial if none waits, and units enough are free to reserve."""
        if self._pending is not None:
            return
        cost = self._reserves[0 if not self._study.trials else 1]
        place = next(self._order, None) if cost <= self._free else None
        if place is None:
            return
        self._free -= cost
        self._pending = len(self._study.trials)
        self._study.trials.append(place)
        self._study.units.append(0)
        self._reserved.append(cost)
        self._is_waiting = True

    def _place(self) -> None:
        """Give the trial that waits a device, if one is idle and it may train a unit."""
        if self._pending is None or not self._is_waiting or not self._idle:
            return
        self._idle, self._is_waiting = self._idle - 1, False
        self._call(0.0, READY, self._pending)

    def _train(self, trial: int) -> None:
        curve, units = self._curves[self._study.trials[trial]], self._study.units[trial]
        self._call(curve.seconds[units], UNIT, trial)

    def _call(self, seconds: float, kind: int, trial: int) -> None:
        heapq.heappush(self._calls, (self._now + seconds, next(self._numbers), kind, trial))

    def _report(self, trial: int) -> None:
        """Spend a unit, and decide whether the trial gets another."""
        study, curve = self._study, self._curves[self._study.trials[trial]]
        study.units[trial] += 1
        units = study.units[trial]
        study.ends.append((self._now, trial, units))
        self._reserved[trial] -= 1
        stops = False
        if self._rungs is not None and units < self._table.max_units:
            stops = self._rungs.take(trial, units, self._table.sign * curve.objectives[units - 1])
        stops = stops or units in (self._table.max_units, curve.lost_at)
        if not stops and not self._reserved[trial] and self._free:
            self._free, self._reserved[trial] = self._free - 1, 1
        if stops or not self._reserved[trial]:
            self._free += self._reserved[trial]
            self._idle += 1
            return
        self._train(trial)
