"""Decisions of a study, unit by unit, and those of another study on the same proposals and curves. Pure.

A decision is made on each unit that arrives: the trial continues, pauses or ends. Schedulers decide on the numbers of
all units so far, in order of arrival. So two studies with equal proposals, curves and order must decide alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.space import Config
from hpo.core import events as core
from hpo.core.events import Event
from hpo.engine.in_process.arrivals import Arrival, Kind

UNREPEATABLE = (core.Failed, core.Retried, core.Exploited, core.Interrupted, core.Resized, core.Skipped)
"""Events of a study that no replay repeats: its trials lost units, changed on the way, or devices did."""
ARRIVALS: dict[type[Event], Kind] = {core.Began: "start", core.Unit: "unit", core.Checkpoint: "checkpoint"}


@dataclass(frozen=True)
class Decision:
    """The decision on a unit.

    Attributes:
        training: the training of the trial, see `training_key`.
        units: resource units that it had reached.
        then: "continues", "pauses", or the outcome with which it ended.
    """

    training: str
    units: int
    then: str


@dataclass(frozen=True)
class DecisionsCompared:
    """Decisions of a real study and of its replay.

    Attributes:
        total: decisions of the real study.
        equal: decisions before the first difference.
        difference: the first difference in a sentence; empty if there is none.
    """

    total: int
    equal: int
    difference: str = ""


def training_key(seed: int, schedule: Sequence[tuple[int, Config]]) -> str:
    """Name a training by its seed and configurations."""
    return json.dumps([seed, [[units, dict(config)] for units, config in schedule]], sort_keys=True)


def unrepeatable(events: Sequence[Event]) -> str:
    """Say why a study cannot be replayed unit by unit; empty if it can."""
    for event in events:
        if isinstance(event, core.Proposed) and event.varies:
            return "its trials change their hyperparameters on the way"
        if isinstance(event, UNREPEATABLE):
            return f"its log has the event {type(event).__name__.lower()}"
    return ""


def _trainings(events: Sequence[Event]) -> dict[str, str]:
    """Return the key of each trial's training, by the trial's id."""
    proposed = [event for event in events if isinstance(event, core.Proposed)]
    return {event.trial: training_key(event.seed, event.schedule) for event in proposed}


def arrivals(events: Sequence[Event]) -> list[Arrival]:
    """List starts, units and checkpoints of all trials, in order of arrival."""
    trainings = _trainings(events)
    return [
        Arrival(trainings[event.trial], ARRIVALS[type(event)])
        for event in events
        if isinstance(event, core.Began | core.Unit | core.Checkpoint)
    ]


def decisions(events: Sequence[Event]) -> list[Decision]:
    """List the decision on each unit, in order of arrival."""
    trainings, places = _trainings(events), dict[str, int]()
    found: list[Decision] = []
    for event in events:
        trial = getattr(event, "trial", "")
        if trial in places and (then := _decision_shown_by(event)):
            place = places.pop(trial)
            found[place] = Decision(found[place].training, found[place].units, then)
        if isinstance(event, core.Unit):
            places[trial] = len(found)
            found.append(Decision(trainings[trial], event.units, "continues"))
    return found


def _decision_shown_by(event: Event) -> str:
    """Name the decision on a trial's last unit that a later event of it shows; empty if it shows none."""
    if isinstance(event, core.Ended):
        return event.outcome
    if isinstance(event, core.Checkpoint):
        return "" if event.continues else "pauses"
    return "continues" if isinstance(event, core.Unit) else ""


def compared(real: Sequence[Event], replayed: Sequence[Event]) -> DecisionsCompared:
    """Compare two studies decision by decision, up to the first difference.

    Args:
        real: events of a study.
        replayed: events of its replay, on the same curves and in the same order.
    """
    ours, theirs = decisions(real), decisions(replayed)
    numbers = {key: number for number, key in enumerate(_trainings(real).values())}
    for place, (decision, again) in enumerate(zip(ours, theirs, strict=False)):
        if decision != again:
            words = f"{_words(decision, numbers)}; in the replay, {_words(again, numbers)}"
            return DecisionsCompared(len(ours), place, words)
    equal = min(len(ours), len(theirs))
    if len(theirs) < len(ours):
        words = f"{_words(ours[equal], numbers)}; the replay had ended"
    elif len(theirs) > len(ours):
        words = f"the study had ended; in the replay, {_words(theirs[equal], numbers)}"
    else:
        words = ""
    return DecisionsCompared(len(ours), equal, words)


def _words(decision: Decision, numbers: dict[str, int]) -> str:
    number = numbers.get(decision.training)
    trial = "a trial that the study does not have" if number is None else f"trial {number}"
    return f"{trial} at unit {decision.units} {decision.then}"
