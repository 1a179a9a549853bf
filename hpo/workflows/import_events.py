"""A file's trials as the events of a study.

The file does not tell the time of a row: the time of the study is shared out by device time, row after row, so that
device-hours grow evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import LOSS
from hpo.core import metrics as stored
from hpo.core.books import Books, outcome_of
from hpo.core.events import Began, Ended, Event, Failed, Proposed, Released, Reserved, Unit
from hpo.core.study import Study, objective
from hpo.workflows.import_rows import CsvRow, with_train_loss


@dataclass(frozen=True)
class ExternalTrial:
    """A trial as a file tells it.

    Attributes:
        rows: its rows in order of units, at least one.
        outcome: one of `OUTCOMES`.
        reason: as the file gives it; empty if the file does not say.
    """

    rows: tuple[CsvRow, ...]
    outcome: str
    reason: str

    @property
    def schedule(self) -> list[tuple[int, Config]]:
        """Its configurations, each with the units trained before it took effect; several where they change."""
        steps = [(0, self.rows[0].config)]
        for before, row in pairwise(self.rows):
            if row.config != steps[-1][1]:
                steps.append((before.unit, row.config))
        return steps

    @property
    def by_model(self) -> bool | None:
        """The origin of its proposal, true for a model, by its first row that tells; None if none does."""
        return next((row.by_model for row in self.rows if row.by_model is not None), None)

    @property
    def units(self) -> int:
        """Resource units that it came to the end of."""
        return max((row.unit for row in self.rows if self.reports(row)), default=0)

    def reports(self, row: CsvRow) -> bool:
        """Tell whether a row is the result of a unit: it is not if the trial failed before it had one."""
        return row.eval_loss is not None or self.outcome == "diverged"

    @property
    def seconds(self) -> float:
        """Wall seconds of all its rows."""
        return sum(row.seconds for row in self.rows)


@dataclass(frozen=True)
class External:
    """The content of a file, checked.

    Attributes:
        name: of the file, without its folder.
        checksum: SHA-256 of the file.
        rows: all rows, in the file's order.
        trials: by name, in order of appearance.
    """

    name: str
    checksum: str
    rows: tuple[CsvRow, ...]
    trials: Mapping[str, ExternalTrial]

    @property
    def device_seconds(self) -> float:
        """Device time of all trials."""
        return sum(row.device_seconds for row in self.rows)

    @property
    def units(self) -> int:
        """Resource units of all trials."""
        return sum(trial.units for trial in self.trials.values())


def told(content: External, study: Study, books: Books, wall_seconds: float, reserved: float) -> Iterator[Event]:
    """Yield the events of the study, as if every trial had run here, in the order of the rows.

    Args:
        content: the file.
        study: the study.
        books: the study's, which each yielded event enters before the next one is asked for.
        wall_seconds: time of the study.
        reserved: devices that it reserved.
    """
    yield Reserved(0.0, reserved)
    spent, now = 0.0, 0.0
    seconds_per_device_second = wall_seconds / content.device_seconds
    for csv_row in content.rows:
        trial, name = content.trials[csv_row.trial], csv_row.trial
        if csv_row is trial.rows[0]:
            yield _begin(study, trial, name, len(books.rows), now)
        yield Began(now, name, csv_row.devices)
        spent += csv_row.device_seconds
        now = min(wall_seconds, spent * seconds_per_device_second)
        if trial.reports(csv_row):
            yield _report(csv_row, study.benchmark, csv_row.unit - books[name].trained_units, now)
        if csv_row is trial.rows[-1]:
            yield from _end(study, csv_row, trial, books, now)
    yield Released(wall_seconds)


def _begin(study: Study, trial: ExternalTrial, name: str, number: int, now: float) -> Proposed:
    schedule = tuple((units, study.full_config(config)) for units, config in trial.schedule)
    exploits = len(schedule) - 1  # its weights saw several configurations, wherever they came from
    return Proposed(now, name, number, study.seed, schedule, exploits > 0, exploits, trial.by_model)


def _report(csv_row: CsvRow, benchmark: Benchmark, trained: int, now: float) -> Unit:
    known = {LOSS.name: math.nan, **csv_row.metrics}
    metrics = {name: known[name] for name in stored.of_unit(benchmark) if name in known}
    value, seconds = objective(benchmark, with_train_loss(metrics)), {"train": csv_row.seconds}
    return Unit(
        now, csv_row.trial, csv_row.unit, value, diverged=False, metrics=metrics, seconds=seconds, trained=trained
    )


def _end(study: Study, csv_row: CsvRow, trial: ExternalTrial, books: Books, now: float) -> Iterator[Event]:
    name, row = csv_row.trial, books[csv_row.trial]
    outcome, reason = outcome_of(study, row, budget_spent=False)
    if trial.outcome == "failed":
        outcome, reason = "failed", trial.reason or f"failed at unit {csv_row.unit}"
        yield Failed(now, name, reason, lost_seconds=0.0 if trial.reports(csv_row) else csv_row.seconds)
    elif trial.outcome == "diverged":
        outcome, reason = "diverged", f"diverged at unit {csv_row.unit}: eval loss {row.metrics[LOSS.name]:g}"
    yield Ended(now, name, outcome, trial.reason or reason)
