"""Decisions of a study, and of its replay on the same curves in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hpo.core import events as core
from hpo.core.events import Event
from hpo.engine.in_process import InProcess
from hpo.planning.contest import parse_methods
from hpo.recording.certificate.decisions import compared, decisions, unrepeatable
from hpo.recording.certificate.replays import replayed, same_decisions
from tests.hpo.engine.in_process import every, synthetic

AT_ONCE = 3


def study(words: str, seed: int = 0, budget: int = 4) -> Any:
    [method] = parse_methods(words, budget)
    return method.study(synthetic(), seed, None)


def real(words: str, seed: int = 0) -> tuple[Event, ...]:
    """Run a study whose units arrive in an order drawn by lot, as if its devices were of uneven speed."""
    return replayed(study(words, seed), InProcess(AT_ONCE, order=seed)).events


@pytest.mark.parametrize("words", ["random", "asha", "hyperband", "median", "optuna", "hyperopt", "manual", "default"])
def test_a_study_decides_alike_on_its_own_curves_and_order(words: str) -> None:
    found = same_decisions(study(words), real(words), AT_ONCE)
    assert (found.difference, found.equal) == ("", found.total)
    assert found.total > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("words", ["asha", "bohb", "hyperband", "asha:searcher=optuna"])
def test_brackets_and_models_decide_alike_in_any_order(words: str, seed: int) -> None:
    found = same_decisions(study(words, seed), real(words, seed), AT_ONCE)
    assert (found.difference, found.equal) == ("", found.total)


def with_unit(events: Sequence[Event], place: int, **changes: Any) -> list[Event]:
    """Change the unit at a place among the units."""
    units = [event for event in events if isinstance(event, core.Unit)]
    return [replace(event, **changes) if event is units[place] else event for event in events]


def test_another_loss_makes_another_decision() -> None:
    events = real("asha")
    stopped = next(i for i, one in enumerate(decisions(events)) if one.then == "stopped")
    unit = [event for event in events if isinstance(event, core.Unit)][stopped]
    better = with_unit(events, stopped, metrics={**unit.metrics, "eval_loss": 1e-3})
    found = same_decisions(study("asha"), better, AT_ONCE)
    assert found.equal == stopped < found.total
    assert "stopped; in the replay, trial" in found.difference
    assert found.difference.endswith("continues")


def test_a_decision_is_shown_by_the_next_event_of_its_trial() -> None:
    shown = {one.then for words in ("asha", "hyperband") for one in decisions(real(words))}
    assert shown >= {"continues", "completed", "stopped", "pauses"}


def test_a_replay_that_ends_early_or_late_is_found() -> None:
    events = real("random")
    units = [place for place, event in enumerate(events) if isinstance(event, core.Unit)]
    shorter = events[: units[-2]]
    assert compared(shorter, events).difference
    assert compared(events, shorter).difference.endswith("; the replay had ended")
    assert compared(events, events).difference == ""


def test_other_proposals_are_found() -> None:
    found = compared(real("random", seed=0), real("random", seed=1))
    assert found.equal < found.total
    assert "in the replay, a trial that the study does not have" in found.difference


def test_a_study_that_lost_units_is_not_replayed_unit_by_unit() -> None:
    dies = InProcess(AT_ONCE, dies=every(10, "train"))
    events = replayed(study("random"), dies).events
    assert unrepeatable(events) == "its log has the event failed"
    assert unrepeatable(real("random")) == ""


def test_a_population_is_not_replayed_unit_by_unit() -> None:
    assert unrepeatable(real("pbt")) == "its trials change their hyperparameters on the way"
