"""The rows of a study: their counts by outcome, and which one is the incumbent."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.space import Config
from hpo.core.results import TrialRow, counts
from hpo.core.study import Study, objective
from tests.hpo.told import Told

CONFIG: Config = {"learning_rate": 1e-3}


def make_study(mode: str = "min") -> Study:
    """Make a study whose full resource is 9 units."""
    benchmark = spec.load("synthetic")
    if mode == "max":
        benchmark = benchmark.model_copy(update={"metric": "f1", "mode": "max"})
    return Study("asha", benchmark, budget=3)


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def told(study: Study) -> Told:
    return Told(study)


def result_of(study: Study, units: int, eval_loss: float, f1: float = 0.5) -> dict[str, Any]:
    """Make a trial's result at a unit, as the trial reports it."""
    metrics = {"eval_loss": eval_loss, "train_loss": eval_loss, "exact_match": f1, "f1": f1}
    diverged = not math.isfinite(eval_loss)
    return {**metrics, "units": units, "objective": objective(study.benchmark, metrics), "diverged": diverged}


def add_trial(told: Told, study: Study, name: str, units: int, eval_loss: float, f1: float = 0.5) -> TrialRow:
    """Add a trial that reached `units` and ended."""
    told.begin(name, CONFIG)
    told.report(name, result_of(study, units, eval_loss, f1))
    return told.end(name)


class TestOutcome:
    def test_outcomes_are_counted_in_a_fixed_order(self, study: Study, told: Told) -> None:
        add_trial(told, study, "a", units=2, eval_loss=math.nan)
        add_trial(told, study, "b", units=3, eval_loss=1.0)
        add_trial(told, study, "c", units=9, eval_loss=1.0)
        add_trial(told, study, "d", units=9, eval_loss=2.0)
        assert list(counts(told.books.rows).items()) == [("completed", 2), ("stopped", 1), ("diverged", 1)]


class TestIncumbent:
    def test_none_before_the_first_result(self, study: Study, told: Told) -> None:
        told.begin("a", CONFIG)
        assert told.books.incumbent() is None

    def test_the_best_at_the_full_resource(self, study: Study, told: Told) -> None:
        for name, loss in (("a", 2.0), ("b", 1.0), ("c", 3.0)):
            add_trial(told, study, name, units=9, eval_loss=loss)
        assert told.books.incumbent() is told.books["b"]

    def test_a_lucky_early_trial_does_not_win(self, study: Study, told: Told) -> None:
        add_trial(told, study, "full", units=9, eval_loss=1.0)
        add_trial(told, study, "lucky", units=3, eval_loss=0.1)
        assert told.books.incumbent() is told.books["full"]

    def test_before_the_full_resource_the_furthest_counts(self, study: Study, told: Told) -> None:
        add_trial(told, study, "early", units=1, eval_loss=0.1)
        add_trial(told, study, "far", units=3, eval_loss=2.0)
        add_trial(told, study, "also far", units=3, eval_loss=1.5)
        assert told.books.incumbent() is told.books["also far"]

    def test_of_equals_the_first_stays(self, study: Study, told: Told) -> None:
        add_trial(told, study, "a", units=9, eval_loss=1.0)
        add_trial(told, study, "b", units=9, eval_loss=1.0)
        assert told.books.incumbent() is told.books["a"]

    def test_a_diverged_trial_never_is(self, study: Study, told: Told) -> None:
        add_trial(told, study, "diverged", units=9, eval_loss=math.nan)
        add_trial(told, study, "poor", units=1, eval_loss=20.0)
        assert told.books.incumbent() is told.books["poor"]

    def test_a_failed_trial_never_is(self, study: Study, told: Told) -> None:
        told.begin("failed", CONFIG)
        told.report("failed", result_of(study, 8, 0.1))
        told.fail("failed", "x")
        add_trial(told, study, "poor", units=1, eval_loss=20.0)
        assert told.books.incumbent() is told.books["poor"]

    def test_none_where_all_diverged(self, study: Study, told: Told) -> None:
        add_trial(told, study, "a", units=2, eval_loss=math.nan)
        assert told.books.incumbent() is None

    def test_a_metric_to_be_maximised_is(self) -> None:
        study = make_study("max")
        told = Told(study)
        add_trial(told, study, "low loss", units=9, eval_loss=0.5, f1=0.3)
        add_trial(told, study, "high f1", units=9, eval_loss=1.0, f1=0.7)
        add_trial(told, study, "lucky", units=3, eval_loss=0.1, f1=0.9)
        assert told.books.incumbent() is told.books["high f1"]


def test_a_changed_row_is_a_new_one_with_all_else_as_it_was() -> None:
    row = TrialRow(3, CONFIG, 1.5, reason="why")
    changed = row.changed(units=2, outcome="completed")
    assert changed == replace(row, units=2, outcome="completed") != row
    with pytest.raises(FrozenInstanceError):
        changed.units = 3  # type: ignore[misc]  # it is what is asserted


def test_a_row_takes_no_value_that_it_has_no_attribute_for() -> None:
    with pytest.raises(TypeError, match="no unit"):
        TrialRow(3, CONFIG, 1.5).changed(unit=2)
