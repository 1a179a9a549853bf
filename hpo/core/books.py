"""The books of a study: its trials, its units and its device time, all from one log of events. Pure.

`Books.apply` is the only way in, so the trials' rows and the ledger cannot disagree: the device time that a failed
attempt lost is in its trial's row and in the ledger's part "failed", or in neither. Applying a log again gives the same
books.

Reserved is devices x time, summed up where their number changes. Trials report the seconds of each part: start-up,
training, evaluation, checkpoints and the waiting between. All time of a failed attempt since its last checkpoint is
booked as failed. Devices that no trial held are idle.

    books = Books(study.benchmark)
    for event in events:
        books.apply(event)
    print(books.incumbent(), books.shares().utilization)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from benchmarks.files import BenchmarkError, writable
from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics
from hpo.core import events as core
from hpo.core import metrics as stored
from hpo.core.ledger import PARTS, Shares
from hpo.core.results import MIXED, Outcome, TrialRow, UnitRow, divergence
from hpo.core.study import Study, is_better

BUDGET_SPENT = "the study's budget was spent"
"""Beginning of the reason of a trial that the budget ended, not the method."""
KNOWN_PARTS = frozenset(PARTS)
IN_WORD = r"[^\s'\"(),;:=\[\]{}]*"
ROUNDING = 1e-3
"""Seconds by which two clocks may differ over an event."""
COUNTED = (core.Exploited, core.Unit, core.Failed, core.Retried)
"""Events that would count twice if a log had their line twice."""


@dataclass
class _Attempt:
    """A trial's hold on its devices since its last checkpoint.

    Attributes:
        devices: how many it holds.
        seen: time of its last event.
        seconds: device-seconds that it has reported, by part.
    """

    devices: float
    seen: float
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))


class Books:
    """The trials and the ledger of a study.

    Args:
        benchmark: the benchmark that is tuned; it ranks trials.

    Attributes:
        units: all resource units, in order of arrival.
        tokens: statistics of the data; empty before the first result, and without data.
        skipped: proposals that were not trained, since they ask for as much memory as a trial that ran out of it.
        precision: the arithmetic that trials reported; empty before the first result, and where nothing is trained.
        seconds: time of the latest event.
        reservations: number of reserved devices, each with the time since when there were so many.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self._rows: dict[str, TrialRow] = {}
        self.units: list[UnitRow] = []
        self.tokens: Sequence[TokenStatistics] = ()
        self.precision, self.skipped, self.seconds = "", 0, 0.0
        self._devices: dict[str, float] = {}
        self.reservations: list[tuple[float, float]] = []
        self._booked = dict.fromkeys(PARTS, 0.0)
        self._attempts: dict[str, _Attempt] = {}
        self._last: core.Event | None = None

    # ---- reading

    @property
    def rows(self) -> list[TrialRow]:
        """All trials, in order of creation."""
        return list(self._rows.values())

    def __getitem__(self, trial: str) -> TrialRow:
        return self._rows[trial]

    def __contains__(self, trial: str) -> bool:
        return trial in self._rows

    @property
    def devices(self) -> float:
        """Devices that are reserved now."""
        return sum(self._devices.values())

    @property
    def open_trials(self) -> list[str]:
        """Ids of the trials that have not ended."""
        return [trial for trial, row in self._rows.items() if row.ended_seconds is None]

    @property
    def held_devices(self) -> float:
        """Devices that trials hold now."""
        return sum(attempt.devices for attempt in self._attempts.values())

    @property
    def trained_units(self) -> int:
        """Resource units that all trials have trained, those of failed attempts included."""
        return sum(row.trained_units for row in self._rows.values())

    def shares(self, now: float | None = None) -> Shares:
        """Return the ledger as it stands.

        Args:
            now: seconds since the study began; by default the time of the latest event.
        """
        attempts = self._attempts.values()
        seconds = {part: self._booked[part] + sum(one.seconds[part] for one in attempts) for part in PARTS}
        measured, reserved = sum(seconds.values()), self._reserved_at(self.seconds if now is None else now)
        seconds["idle"] += max(0.0, reserved - measured)
        return Shares(seconds, reserved)

    def incumbent(self) -> TrialRow | None:
        """Return the best trial at the full resource; before there is one, the best of those with most units."""
        candidates = [row for row in self._rows.values() if row.units and row.outcome not in ("diverged", "failed")]
        furthest = max((row.units for row in candidates), default=0)
        best = None
        for row in candidates:
            if row.units == furthest and (best is None or is_better(self._benchmark, _value(row), _value(best))):
                best = row
        return best

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

    # ---- writing

    def apply(self, event: core.Event) -> None:
        """Enter an event.

        Raises:
            BenchmarkError: no study has this event at this point.
        """
        if not event.at >= self.seconds:
            raise _impossible(event, f"its time is before that of the event before it, {self.seconds!r}")
        if fault := _fault(event):
            raise _impossible(event, fault)
        self._require_trial(event)
        if event.at == self.seconds and isinstance(event, COUNTED) and repr(event) == repr(self._last):
            raise _impossible(event, "it is there already: a line of the log came twice")
        self.seconds, self._last = event.at, event
        match event:
            case core.Reserved() | core.Resized():
                self._hold({**self._devices, event.holder: event.devices})
            case core.Released():
                self._hold({holder: devices for holder, devices in self._devices.items() if holder != event.holder})
            case core.Proposed():
                self._open(event)
            case core.Exploited():
                self._exploit(event)
            case core.Began():
                self._begin(event)
            case core.Unit():
                self._report(event)
            case core.Checkpoint():
                self._wait_for_checkpoint(event)
                self._keep(event.trial, event.at if event.continues else None)
            case core.Failed():
                self._fail(event)
            case core.Retried():
                failures = (*self._rows[event.trial].failures, writable(event.reason))
                self._change(event.trial, failures=failures)
            case core.Ended():
                self._keep(event.trial)
                reason = writable(event.reason)
                self._change(event.trial, outcome=event.outcome, reason=reason, ended_seconds=event.at)
            case core.Skipped():
                self.skipped = event.proposals
            case core.Interrupted():
                for trial in list(self._attempts):
                    self._lose(trial, event.at - self._attempts[trial].seen)
            case _:
                assert_never(event)

    def _require_trial(self, event: core.Event) -> None:
        """Make sure that the event's trial is in a state in which the event is possible."""
        trial = getattr(event, "trial", None)
        if trial is None:
            return
        if isinstance(event, core.Proposed):
            if trial in self._rows:
                raise _impossible(event, f"trial {trial} is there already")
            return
        named = [trial, event.donor] if isinstance(event, core.Exploited) else [trial]
        for name in named:
            if name not in self._rows:
                raise _impossible(event, f"trial {name} is not there")
        if self._rows[trial].ended_seconds is not None:
            raise _impossible(event, f"trial {trial} has ended")
        if isinstance(event, core.Unit) and trial not in self._attempts:
            raise _impossible(event, f"trial {trial} holds no devices")

    def _open(self, event: core.Proposed) -> None:
        row = TrialRow(event.number, event.schedule[0][1], event.at, event.seed, event.schedule, event.varies)
        self._rows[event.trial] = row.changed(exploits=event.exploits, by_model=event.by_model)

    def _exploit(self, event: core.Exploited) -> None:
        schedule = (*self._rows[event.donor].schedule, (event.units, event.config))
        self._change(event.trial, schedule=schedule, exploits=self._rows[event.trial].exploits + 1)

    def _begin(self, event: core.Began) -> None:
        """Note that the trial holds devices; time that it has reported since its last checkpoint stays open."""
        attempt = self._attempts.setdefault(event.trial, _Attempt(event.devices, event.at))
        attempt.devices, attempt.seen = event.devices, event.at

    def _report(self, event: core.Unit) -> None:
        attempt, row = self._attempts[event.trial], self._rows[event.trial]
        for part, seconds in event.seconds.items():
            attempt.seconds[part] += seconds * attempt.devices
        attempt.seen = event.at
        used = row.device_seconds + sum(event.seconds.values()) * attempt.devices
        outcome: Outcome = "diverged" if event.diverged else "running"  # also if it had diverged and has taken over one
        self._change(
            event.trial,
            units=event.units,
            trained_units=row.trained_units + event.trained,
            **self._selected(row, event),
            device_seconds=used,
            outcome=outcome,
            reason=divergence(event.units, event.metrics) if event.diverged else "",
            micro_batch=event.micro_batch,
            records=event.records,
            reported_seconds=event.at,
        )
        self.units.append(UnitRow(row.number, event.units, event.at, event.seconds, event.metrics, used))
        self.tokens = self.tokens or event.tokens
        if event.precision != self.precision:  # results of two are comparable with neither
            self.precision = MIXED.join(sorted({*self.precision.split(MIXED), event.precision} - {""}))

    def _selected(self, row: TrialRow, event: core.Unit) -> dict[str, Any]:
        """Return the figures of the unit that stands for a trial after a unit; one that diverged stands by its last."""
        has_earlier = self._benchmark.selects_best and not event.diverged and row.objective is not None
        if has_earlier and not is_better(self._benchmark, event.objective, _value(row)):
            names = stored.of_test(self._benchmark)
            of_test = {name: event.metrics[name] for name in names if name in event.metrics}
            return {"metrics": {**row.metrics, **of_test}, "last_metrics": event.metrics}
        own = {"metrics": event.metrics, "last_metrics": {}, "selected_unit": event.units}
        return {**own, "objective": event.objective}

    def _wait_for_checkpoint(self, event: core.Checkpoint) -> None:
        attempt, row = self._attempts.get(event.trial), self._rows[event.trial]
        if attempt is None:  # it has given up its devices already
            return
        used = event.seconds * attempt.devices
        attempt.seconds["checkpoint"] += used
        self._change(event.trial, device_seconds=row.device_seconds + used)

    def _fail(self, event: core.Failed) -> None:
        attempt = self._attempts.get(event.trial)  # none if its actor died before it had its devices
        since = event.at - attempt.seen if attempt else 0.0
        self._lose(event.trial, since if event.lost_seconds is None else event.lost_seconds)
        if event.raised:
            self._change(event.trial, raised=(*self._rows[event.trial].raised, writable(event.raised)))

    def _lose(self, trial: str, seconds: float) -> None:
        """Book an open attempt as failed, with the seconds since its last event, which nothing has reported."""
        attempt = self._attempts.pop(trial, None)
        if attempt is None:
            return
        lost = seconds * attempt.devices
        self._booked["failed"] += lost + sum(attempt.seconds.values())
        self._change(trial, device_seconds=self._rows[trial].device_seconds + lost)

    def _keep(self, trial: str, continues_at: float | None = None) -> None:
        """Book an open attempt by its parts; the trial may continue on its devices from then on."""
        attempt = self._attempts.pop(trial, None)
        if attempt is None:
            return
        for part, seconds in attempt.seconds.items():
            self._booked[part] += seconds
        if continues_at is not None:
            self._attempts[trial] = _Attempt(attempt.devices, continues_at)

    def _change(self, trial: str, **values: Any) -> None:
        self._rows[trial] = self._rows[trial].changed(**values)

    def _hold(self, devices: dict[str, float]) -> None:
        self._devices = devices
        self.reservations.append((self.seconds, self.devices))

    def _reserved_at(self, now: float) -> float:
        return device_seconds(self.reservations, now)


def entered(events: Iterable[core.Event], books: Books) -> Iterator[core.Event]:
    """Yield events that these books enter one by one; each may depend on the books after the one before it."""
    for event in events:
        books.apply(event)
        yield event


def device_seconds(reservations: Sequence[tuple[float, float]], until: float) -> float:
    """Sum up the device-seconds that were reserved up to a time.

    Args:
        reservations: see `Books.reservations`.
        until: the time, in seconds since the study began.
    """
    ends = [*(since for since, _ in reservations[1:]), until]
    spans = ((since, min(end, until), devices) for (since, devices), end in zip(reservations, ends, strict=False))
    return sum((devices * (end - since) for since, end, devices in spans if end > since), 0.0)


def outcome_of(study: Study, row: TrialRow, budget_spent: bool) -> tuple[Outcome, str]:
    """Return the outcome of a trial that ended without an error, and the reason.

    Args:
        study: the study that runs.
        row: the trial as it stands.
        budget_spent: whether the budget ended it, not the method.
    """
    if row.outcome != "running":
        return row.outcome, row.reason
    if row.units >= study.max_units:
        return "completed", f"reached the full resource of {row.units} units"
    if budget_spent:
        return "stopped", f"{BUDGET_SPENT} at unit {row.units}"
    return "stopped", f"{study.method} stopped it at unit {row.units}"


def interruption_of(row: TrialRow, reason: str = "") -> tuple[Outcome, str]:
    """Return the outcome of a trial whose study ended before it, and the reason, with that of the study if given."""
    if row.outcome != "running":
        return row.outcome, row.reason
    return "interrupted", f"the study ended at unit {row.units}" + f": {reason}" * bool(reason)


def _fault(event: core.Event) -> str:
    """Return the reason why no study has such an event at any point; empty if one may have it."""
    times, lasted = [event.at], list[float]()
    match event:
        case core.Reserved() | core.Resized() | core.Began() if not 0 <= event.devices < math.inf:
            return f"its devices are {event.devices!r}"
        case core.Proposed() if not event.schedule or event.schedule[0][0] != 0:
            return "its schedule has no configuration from unit 0 on"
        case core.Unit():
            if others := event.seconds.keys() - KNOWN_PARTS:
                return f"{min(others)} is no part of a trial's time, but one of {', '.join(PARTS)} must be"
            times += event.seconds.values()
            lasted.append(sum(event.seconds.values()))
        case core.Checkpoint():
            lasted.append(event.seconds)
        case core.Failed() if event.lost_seconds is not None:
            lasted.append(event.lost_seconds)
    if not all(map(math.isfinite, (*times, *lasted))):
        return "one of its times is not finite"
    return next((f"its {one!r} s are less than none" for one in lasted if one < -ROUNDING), "")


def _impossible(event: core.Event, why: str) -> BenchmarkError:
    return BenchmarkError(f"{type(event).__name__.lower()} at {event.at!r} s is no event of this study: {why}")


def _value(row: TrialRow) -> float:
    assert row.objective is not None
    return row.objective


def _kind(reason: str) -> str:
    """Keep of a failure's reason the part that trials share, not their own words with a digit or slash: ids, paths."""
    return re.sub(rf"{IN_WORD}[\d/]{IN_WORD}", "#", reason)
