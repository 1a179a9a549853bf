"""The results of a study so far: one row per trial, the incumbent, the best configuration. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.space import Config
from benchmarks.tasks.task import LOSS, TRAIN_LOSS, TokenStatistics
from hpo.core import metrics
from hpo.core.ledger import MEASURED
from hpo.core.study import Study, is_better, training_of

Outcome = Literal["running", "completed", "stopped", "diverged", "failed", "interrupted"]
TOKENS = "tokens"
"""Key of a trial's first result that holds the statistics of each split, if there are data."""
PRECISION = "precision"
"""The arithmetic of a trial in each of its results: fp32, bf16 or fp16; empty where nothing was trained."""
MICRO_BATCH = "micro_batch"
"""The micro-batch in each result of a trial that was rescued: one with its own batch size ran out of memory."""
MIXED = " and "
"""Separator of the arithmetics of a study whose trials differ."""


@dataclass
class TrialRow:
    """One trial.

    Attributes:
        number: its place in order of creation, from 0.
        config: the hyperparameters it started with.
        began_seconds: when it began, since the study did.
        seed: drove its model initialisation, dropout and data order.
        schedule: the configurations that trained its weights, each with the units at which it took effect; more than
            one where it took over another trial's weights, whose schedule it then continues.
        varies: whether its method changes hyperparameters within a trial.
        exploits: number of times that it took over another trial.
        units: resource units reached.
        trained_units: resource units it trained itself, those of failed attempts included.
        metrics: the last unit's.
        objective: the last unit's, in the searcher's terms; None before the first unit.
        device_seconds: device time it has used in all attempts.
        outcome: completed, stopped, diverged, failed, interrupted, or "running".
        reason: cause of the end, in a sentence.
        failures: reasons of failed attempts after which it was tried again.
        raised: the error of each failed attempt, traceback included.
        micro_batch: samples of a forward pass of its last unit, if it was rescued; None if its batch size fitted.
        reported_seconds: when its last unit arrived.
        ended_seconds: when it ended.
    """

    number: int
    config: Config
    began_seconds: float
    seed: int = 0
    schedule: list[tuple[int, Config]] = field(default_factory=list)
    varies: bool = False
    exploits: int = 0
    units: int = 0
    trained_units: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float | None = None
    device_seconds: float = 0.0
    outcome: Outcome = "running"
    reason: str = ""
    failures: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    micro_batch: int | None = None
    reported_seconds: float = 0.0
    ended_seconds: float | None = None

    @property
    def last_config(self) -> Config:
        """The hyperparameters of its latest unit."""
        begun = [config for since, config in self.schedule if since < max(1, self.units)]
        return begun[-1] if begun else self.config


@dataclass(frozen=True)
class UnitRow:
    """One resource unit of a trial.

    Attributes:
        trial: the trial's number.
        units: resource units the trial had reached with it.
        ended_seconds: when its result arrived, since the study began.
        seconds: time of the trial since its last result, by part of the ledger.
        metrics: its result's.
        device_seconds: device time that the trial had used with it.
    """

    trial: int
    units: int
    ended_seconds: float
    seconds: dict[str, float]
    metrics: dict[str, float]
    device_seconds: float


class Results:
    """The trials of a study, by Tune's trial id.

    Args:
        study: the study that runs.
        varies: whether its method changes hyperparameters within a trial.

    Attributes:
        units: all resource units, in order of arrival.
        tokens: statistics of the data; empty before the first result, and without data.
        precision: the arithmetic that trials reported; empty before the first result, and where nothing is trained.
        skipped: proposals that were not trained, since they ask for as much memory as a trial that ran out of it.
    """

    def __init__(self, study: Study, varies: bool = False) -> None:
        self._study, self._varies = study, varies
        self._stored = (*metrics.of_unit(study.benchmark), *metrics.of_test(study.benchmark))
        self._rows: dict[str, TrialRow] = {}
        self.units: list[UnitRow] = []
        self.tokens: Sequence[TokenStatistics] = ()
        self.precision = ""
        self.skipped = 0

    @property
    def rows(self) -> list[TrialRow]:
        """All trials, in order of creation."""
        return list(self._rows.values())

    def add(self, trial_id: str, config: Config, now: float) -> TrialRow:
        """Open the row of a trial that began."""
        training = training_of(self._study, config)
        schedule, varies = list(training.schedule), self._varies or len(training.schedule) > 1
        row = TrialRow(len(self._rows), training.config, now, training.seed, schedule, varies)
        self._rows[trial_id] = row
        return row

    def exploit(self, trial_id: str, donor_id: str, units: int, config: Config) -> None:
        """Record that a trial takes over another's weights after `units`, and continues with other hyperparameters."""
        row, donor = self._rows[trial_id], self._rows[donor_id]
        row.schedule = [*donor.schedule, (units, self._study.full_config(config))]
        row.exploits += 1

    def __getitem__(self, trial_id: str) -> TrialRow:
        return self._rows[trial_id]

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._rows

    def report(self, trial_id: str, result: dict[str, Any], device_seconds: float, now: float) -> TrialRow:
        """Record a unit: its metrics, the device time since the trial's last result, and its time of arrival."""
        row = self._rows[trial_id]
        row.units, row.objective = int(result["units"]), float(result["objective"])
        row.trained_units += 1
        row.metrics = {key: float(result[key]) for key in self._stored if key in result}
        row.device_seconds += device_seconds
        row.reported_seconds, row.micro_batch = now, result.get(MICRO_BATCH)
        if result["diverged"]:
            row.outcome, row.reason = "diverged", divergence(row.units, row.metrics)
        else:  # also one that had diverged and has taken over another
            row.outcome, row.reason = "running", ""
        self.units.append(UnitRow(row.number, row.units, now, _parts(result), row.metrics, row.device_seconds))
        self.tokens = self.tokens or result.get(TOKENS, ())
        used = {*self.precision.split(MIXED), str(result.get(PRECISION, ""))} - {""}
        self.precision = MIXED.join(sorted(used))  # two of them are comparable with neither
        return row

    def end(self, trial_id: str, now: float, budget_spent: bool) -> TrialRow:
        """Close the row of a trial that ended without an error."""
        row = self._rows[trial_id]
        row.ended_seconds = now
        if row.outcome == "running":
            if row.units >= self._study.max_units:
                row.outcome, row.reason = "completed", f"reached the full resource of {row.units} units"
            elif budget_spent:
                row.outcome, row.reason = "stopped", f"the study's budget was spent at unit {row.units}"
            else:
                row.outcome, row.reason = "stopped", f"{self._study.method} stopped it at unit {row.units}"
        return row

    def fail(self, trial_id: str, now: float, reason: str) -> TrialRow:
        """Close the row of a trial that ended with an error, its retry included."""
        row = self._rows[trial_id]
        row.ended_seconds, row.outcome, row.reason = now, "failed", reason
        return row

    def interrupt_running(self, now: float, reason: str = "") -> list[TrialRow]:
        """End the study early: running trials are interrupted."""
        running = [row for row in self._rows.values() if row.outcome == "running"]
        for row in running:
            row.ended_seconds, row.outcome = now, "interrupted"
            row.reason = f"the study ended at unit {row.units}" + f": {reason}" * bool(reason)
        return running

    def common_failure(self, at_least: int) -> str:
        """Return the reason for which every trial fails, if every one does.

        Trials that run count as failing until they get further than those that have failed. Those that ran out of
        memory tell nothing of others, which may ask for less.

        Args:
            at_least: number of failed trials below which there is no verdict.

        Returns:
            The reason of the first one; empty if a trial has got further, or reasons differ.
        """
        rows = [row for row in self._rows.values() if not row.reason.startswith(OUT_OF_MEMORY)]
        failed = [row for row in rows if row.outcome == "failed"]
        reach = max((row.units for row in failed), default=0)
        others = [row for row in rows if row.outcome != "failed"]
        is_sound = any(row.outcome != "running" or row.units > reach for row in others)
        if is_sound or len(failed) < max(1, at_least) or len({_kind(row.reason) for row in failed}) > 1:
            return ""
        return failed[0].reason

    def incumbent(self) -> TrialRow | None:
        """Return the best trial at the full resource; before there is one, the best of those with most units."""
        candidates = [r for r in self._rows.values() if r.units and r.outcome not in ("diverged", "failed")]
        furthest = max((row.units for row in candidates), default=0)
        best = None
        for row in candidates:
            if row.units == furthest and (best is None or is_better(self._study.benchmark, _value(row), _value(best))):
                best = row
        return best


def counts(rows: Iterable[TrialRow]) -> dict[str, int]:
    """Trials by outcome, in a fixed order, those that occur."""
    order = ("running", "completed", "stopped", "diverged", "failed", "interrupted")
    outcomes = [row.outcome for row in rows]
    return {name: outcomes.count(name) for name in order if name in outcomes}


def _parts(result: dict[str, Any]) -> dict[str, float]:
    return {part: float(result[f"{part}_seconds"]) for part in MEASURED if f"{part}_seconds" in result}


def _value(row: TrialRow) -> float:
    assert row.objective is not None
    return row.objective


def _kind(reason: str) -> str:
    """Keep of a failure's reason the part that trials share: numbers, such as sizes and ids, are their own."""
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "#", reason)


def divergence(units: int, metrics: Mapping[str, float]) -> str:
    """Return the reason of a trial that has diverged at a unit, with its metrics there."""
    train_loss, loss = (metrics.get(name, float("nan")) for name in (TRAIN_LOSS, LOSS.name))
    skipped = f", {metrics['skipped_steps']:g} steps skipped" if metrics.get("skipped_steps") else ""
    return f"diverged at unit {units}: train loss {train_loss:g}, eval loss {loss:g}{skipped}"
