"""The rows of a study's books: its trials and their resource units. Pure; `hpo.core.books` fills them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.space import Config
from benchmarks.tasks.task import LOSS, TRAIN_LOSS

Outcome = Literal["running", "completed", "stopped", "diverged", "failed", "interrupted"]
TOKENS = "tokens"
"""Key of a trial's first result that holds the statistics of each split, if there are data."""
PRECISION = "precision"
"""The arithmetic of a trial in each of its results: fp32, bf16 or fp16; empty where nothing was trained."""
MICRO_BATCH = "micro_batch"
"""The micro-batch in each result of a trial that was rescued: one with its own batch size ran out of memory."""
TRAINED_AGAIN = "trained_again"
"""The units in a result that were trained a second time, since the trial's checkpoint was lost with its node."""
RECORDS = "records"
"""Key of a confirmation's last result: packed figures of each test record, see `benchmarks.tasks.record_scores`."""
EVERY_TRIAL_FAILS = "every trial fails"
"""First words of the reason for a study's end, if no trial can succeed until the cause is mended."""
MIXED = " and "
"""Separator of the arithmetics of a study whose trials differ."""


@dataclass(frozen=True)
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
        by_model: whether a model of earlier results proposed it; None for methods without one, and if it is not known.
        units: resource units reached.
        trained_units: resource units it trained itself, those of failed attempts included.
        metrics: those of the unit that stands for it, see `Benchmark.select`: the last, or the best so far.
        last_metrics: the last unit's, where another one stands for it; else empty.
        selected_unit: the unit that stands for it.
        objective: that unit's, in the searcher's terms; None before the first unit.
        device_seconds: device time it has used in all attempts.
        outcome: completed, stopped, diverged, failed, interrupted, or "running".
        reason: cause of the end, in a sentence.
        failures: reasons of failed attempts after which it was tried again.
        raised: the error of each failed attempt, traceback included.
        micro_batch: samples of a forward pass of its last unit, if it was rescued; None if its batch size fitted.
        records: packed figures of each record of the test split by name, if it was scored there; see `RECORDS`.
        reported_seconds: when its last unit arrived.
        ended_seconds: when it ended.
    """

    number: int
    config: Config
    began_seconds: float
    seed: int = 0
    schedule: tuple[tuple[int, Config], ...] = ()
    varies: bool = False
    exploits: int = 0
    by_model: bool | None = None
    units: int = 0
    trained_units: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    selected_unit: int = 0
    objective: float | None = None
    device_seconds: float = 0.0
    outcome: Outcome = "running"
    reason: str = ""
    failures: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()
    micro_batch: int | None = None
    records: Mapping[str, str] = field(default_factory=dict)
    reported_seconds: float = 0.0
    ended_seconds: float | None = None

    @property
    def last_config(self) -> Config:
        """The hyperparameters of its latest unit."""
        begun = [config for since, config in self.schedule if since < max(1, self.units)]
        return begun[-1] if begun else self.config

    def changed(self, **values: Any) -> TrialRow:
        """Return a row with other values of these attributes.

        `dataclasses.replace` sets all 26 one by one, which took a thirtieth of a simulated study.

        Raises:
            TypeError: it has no such attribute.
        """
        if unknown := values.keys() - vars(self).keys():
            raise TypeError(f"a trial's row has no {min(unknown)}")
        row = object.__new__(TrialRow)
        vars(row).update(vars(self), **values)
        return row


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


def counts(rows: Iterable[TrialRow]) -> dict[str, int]:
    """Trials by outcome, in a fixed order, those that occur."""
    order = ("running", "completed", "stopped", "diverged", "failed", "interrupted")
    outcomes = [row.outcome for row in rows]
    return {name: outcomes.count(name) for name in order if name in outcomes}


def why_nothing_found(rows: Sequence[TrialRow]) -> str:
    """Return the reason of a study's end if every trial has failed: it never counts as finished. Else return ""."""
    if not rows or any(row.outcome != "failed" for row in rows):
        return ""
    return f"{EVERY_TRIAL_FAILS}: {rows[-1].reason}"


def divergence(units: int, metrics: Mapping[str, float]) -> str:
    """Return the reason of a trial that has diverged at a unit, with its metrics there."""
    train_loss, loss = (metrics.get(name, float("nan")) for name in (TRAIN_LOSS, LOSS.name))
    skipped = f", {metrics['skipped_steps']:g} steps skipped" if metrics.get("skipped_steps") else ""
    return f"diverged at unit {units}: train loss {train_loss:g}, eval loss {loss:g}{skipped}"
