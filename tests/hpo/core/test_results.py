"""The rows of a study: how each trial ended and why, and which one is the incumbent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.tasks.task import TokenStatistics
from hpo.core.results import TOKENS, Results, TrialRow, counts
from hpo.core.study import Study, objective

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
def results(study: Study) -> Results:
    return Results(study)


def result_of(study: Study, units: int, eval_loss: float, f1: float = 0.5) -> dict[str, Any]:
    """Make a trial's result at a unit, as the trial reports it."""
    metrics = {"eval_loss": eval_loss, "train_loss": eval_loss, "exact_match": f1, "f1": f1}
    diverged = not math.isfinite(eval_loss)
    return {**metrics, "units": units, "objective": objective(study.benchmark, metrics), "diverged": diverged}


def add_trial(results: Results, study: Study, name: str, units: int, eval_loss: float, f1: float = 0.5) -> TrialRow:
    """Add a trial that reached `units` and ended."""
    results.add(name, CONFIG, now=0.0)
    results.report(name, result_of(study, units, eval_loss, f1), device_seconds=1.0, now=1.0)
    return results.end(name, now=1.0, budget_spent=False)


class TestOutcome:
    def test_a_trial_runs_until_it_ends(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        assert results["a"].outcome == "running"

    def test_completed_at_the_full_resource(self, study: Study, results: Results) -> None:
        row = add_trial(results, study, "a", units=9, eval_loss=1.0)
        assert (row.outcome, row.reason) == ("completed", "reached the full resource of 9 units")

    def test_completed_even_where_that_was_the_last_unit_of_the_budget(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 9, 1.0), 1.0, now=1.0)
        assert results.end("a", now=1.0, budget_spent=True).outcome == "completed"

    def test_stopped_by_the_method(self, study: Study, results: Results) -> None:
        row = add_trial(results, study, "a", units=3, eval_loss=1.0)
        assert (row.outcome, row.reason) == ("stopped", "asha stopped it at unit 3")

    def test_stopped_by_the_budget(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 3, 1.0), 1.0, now=1.0)
        row = results.end("a", now=1.0, budget_spent=True)
        assert (row.outcome, row.reason) == ("stopped", "the study's budget was spent at unit 3")

    def test_diverged_with_both_losses(self, study: Study, results: Results) -> None:
        row = add_trial(results, study, "a", units=2, eval_loss=math.nan)
        assert (row.outcome, row.reason) == ("diverged", "diverged at unit 2: train loss nan, eval loss nan")

    def test_diverged_in_the_last_unit_is_not_completed(self, study: Study, results: Results) -> None:
        assert add_trial(results, study, "a", units=9, eval_loss=math.nan).outcome == "diverged"

    def test_failed_with_the_reason_given(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        row = results.fail("a", now=2.0, reason="RuntimeError: out of memory")
        assert (row.outcome, row.reason) == ("failed", "RuntimeError: out of memory")

    def test_interrupted_where_the_study_ends_first(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 4, 1.0), 1.0, now=1.0)
        (row,) = results.interrupt_running(now=5.0)
        assert (row.outcome, row.reason) == ("interrupted", "the study ended at unit 4")

    def test_interrupting_leaves_ended_trials_alone(self, study: Study, results: Results) -> None:
        row = add_trial(results, study, "a", units=9, eval_loss=1.0)
        assert results.interrupt_running(now=5.0) == []
        assert row.outcome == "completed"

    @pytest.mark.parametrize("how", ["end", "fail", "interrupt"])
    def test_every_end_has_its_time(self, study: Study, results: Results, how: str) -> None:
        results.add("a", CONFIG, now=1.0)
        results.report("a", result_of(study, 4, 1.0), 1.0, now=1.0)
        if how == "end":
            results.end("a", now=7.0, budget_spent=False)
        elif how == "fail":
            results.fail("a", now=7.0, reason="x")
        else:
            results.interrupt_running(now=7.0)
        assert (results["a"].began_seconds, results["a"].ended_seconds) == (1.0, 7.0)

    def test_outcomes_are_counted_in_a_fixed_order(self, study: Study, results: Results) -> None:
        add_trial(results, study, "a", units=2, eval_loss=math.nan)
        add_trial(results, study, "b", units=3, eval_loss=1.0)
        add_trial(results, study, "c", units=9, eval_loss=1.0)
        add_trial(results, study, "d", units=9, eval_loss=2.0)
        assert list(counts(results.rows).items()) == [("completed", 2), ("stopped", 1), ("diverged", 1)]


class TestTokens:
    def test_the_first_that_come_are_kept(self, study: Study, results: Results) -> None:
        tokens = [TokenStatistics("train", 8, 60.0, 60.0, 70, 80, 160, 0.0, 0.0)]
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 1, 1.0), 1.0, now=1.0)
        assert not results.tokens
        for told in (tokens, [], [*tokens, *tokens]):
            results.report("a", {**result_of(study, 2, 1.0), TOKENS: told}, 1.0, now=2.0)
        assert results.tokens == tokens


class TestRow:
    def test_numbers_follow_creation(self, study: Study, results: Results) -> None:
        assert [results.add(name, CONFIG, now=0.0).number for name in ("x", "c", "m")] == [0, 1, 2]

    def test_config_holds_what_the_benchmark_sets_beside_the_proposal(self, study: Study, results: Results) -> None:
        row = results.add("a", CONFIG, now=0.0)
        assert row.config == {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0}

    def test_metrics_are_the_last_unit_s(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 1, 3.0), 1.0, now=1.0)
        results.report("a", result_of(study, 2, 2.0), 1.0, now=1.0)
        assert (results["a"].units, results["a"].metrics["eval_loss"]) == (2, 2.0)

    def test_device_seconds_add_up(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        results.report("a", result_of(study, 1, 3.0), 1.5, now=1.0)
        results.report("a", result_of(study, 2, 2.0), 2.0, now=1.0)
        assert results["a"].device_seconds == 3.5


class TestIncumbent:
    def test_none_before_the_first_result(self, study: Study, results: Results) -> None:
        results.add("a", CONFIG, now=0.0)
        assert results.incumbent() is None

    def test_the_best_at_the_full_resource(self, study: Study, results: Results) -> None:
        for name, loss in (("a", 2.0), ("b", 1.0), ("c", 3.0)):
            add_trial(results, study, name, units=9, eval_loss=loss)
        assert results.incumbent() is results["b"]

    def test_a_lucky_early_trial_does_not_win(self, study: Study, results: Results) -> None:
        add_trial(results, study, "full", units=9, eval_loss=1.0)
        add_trial(results, study, "lucky", units=3, eval_loss=0.1)
        assert results.incumbent() is results["full"]

    def test_before_the_full_resource_the_furthest_counts(self, study: Study, results: Results) -> None:
        add_trial(results, study, "early", units=1, eval_loss=0.1)
        add_trial(results, study, "far", units=3, eval_loss=2.0)
        add_trial(results, study, "also far", units=3, eval_loss=1.5)
        assert results.incumbent() is results["also far"]

    def test_of_equals_the_first_stays(self, study: Study, results: Results) -> None:
        add_trial(results, study, "a", units=9, eval_loss=1.0)
        add_trial(results, study, "b", units=9, eval_loss=1.0)
        assert results.incumbent() is results["a"]

    def test_a_diverged_trial_never_is(self, study: Study, results: Results) -> None:
        add_trial(results, study, "diverged", units=9, eval_loss=math.nan)
        add_trial(results, study, "poor", units=1, eval_loss=20.0)
        assert results.incumbent() is results["poor"]

    def test_a_failed_trial_never_is(self, study: Study, results: Results) -> None:
        results.add("failed", CONFIG, now=0.0)
        results.report("failed", result_of(study, 8, 0.1), 1.0, now=1.0)
        results.fail("failed", now=1.0, reason="x")
        add_trial(results, study, "poor", units=1, eval_loss=20.0)
        assert results.incumbent() is results["poor"]

    def test_none_where_all_diverged(self, study: Study, results: Results) -> None:
        add_trial(results, study, "a", units=2, eval_loss=math.nan)
        assert results.incumbent() is None

    def test_a_metric_to_be_maximised_is(self) -> None:
        study = make_study("max")
        results = Results(study)
        add_trial(results, study, "low loss", units=9, eval_loss=0.5, f1=0.3)
        add_trial(results, study, "high f1", units=9, eval_loss=1.0, f1=0.7)
        add_trial(results, study, "lucky", units=3, eval_loss=0.1, f1=0.9)
        assert results.incumbent() is results["high f1"]
