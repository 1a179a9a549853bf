"""A study's own checks, and the objective that searchers see."""

from __future__ import annotations

import math

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import Study, is_better, is_diverged, objective

FINE = {"train_loss": 1.0, "eval_loss": 1.5, "exact_match": 0.4, "f1": 0.6}
BAD = {
    "NaN train loss": {**FINE, "train_loss": math.nan},
    "NaN eval loss": {**FINE, "eval_loss": math.nan},
    "infinite train loss": {**FINE, "train_loss": math.inf},
    "infinite eval loss": {**FINE, "eval_loss": math.inf},
    "train loss of minus infinity": {**FINE, "train_loss": -math.inf},
    "eval loss of minus infinity": {**FINE, "eval_loss": -math.inf},
    "eval loss above diverged_above": {**FINE, "eval_loss": 25.1},
}


@pytest.fixture
def minimised() -> Benchmark:
    return spec.load("synthetic")


@pytest.fixture
def maximised(minimised: Benchmark) -> Benchmark:
    return minimised.model_copy(update={"metric": "f1", "mode": "max"})


class TestChecks:
    @pytest.mark.parametrize("budget", [0, -1])
    def test_a_budget_below_one_is_refused(self, minimised: Benchmark, budget: int) -> None:
        with pytest.raises(BenchmarkError, match=rf"budget is {budget}, but must be >= 1"):
            Study("random", minimised, budget=budget)

    def test_a_negative_seed_is_refused(self, minimised: Benchmark) -> None:
        with pytest.raises(BenchmarkError, match="seed is -3, but must be >= 0"):
            Study("random", minimised, seed=-3)

    def test_a_seed_that_numpy_cannot_take_is_refused(self, minimised: Benchmark) -> None:
        with pytest.raises(BenchmarkError, match="seed is 4294967296, but must be"):
            Study("random", minimised, seed=2**32)

    @pytest.mark.parametrize("gpu_hours", [0.0, -0.5])
    def test_a_cap_that_leaves_no_time_is_refused(self, minimised: Benchmark, gpu_hours: float) -> None:
        with pytest.raises(BenchmarkError, match=rf"gpu_hours is {gpu_hours:g}, but must be > 0"):
            Study("random", minimised, gpu_hours=gpu_hours)

    def test_a_cap_that_is_not_a_number_is_refused(self, minimised: Benchmark) -> None:
        with pytest.raises(BenchmarkError, match="gpu_hours is nan, but must be > 0"):
            Study("random", minimised, gpu_hours=math.nan)

    def test_the_smallest_study_is_accepted(self, minimised: Benchmark) -> None:
        assert Study("random", minimised, seed=0, budget=1, gpu_hours=0.001).budget_units == 9


class TestSize:
    def test_budget_units_are_full_trainings_times_their_units(self, minimised: Benchmark) -> None:
        assert Study("random", minimised, budget=4).budget_units == 36

    def test_max_units_are_the_benchmark_s(self, minimised: Benchmark) -> None:
        assert Study("random", minimised).max_units == 9

    def test_a_proposal_wins_over_the_default(self, minimised: Benchmark) -> None:
        full = Study("random", minimised).full_config({"batch_size_per_device": 4})
        assert full == {"learning_rate": 5e-5, "batch_size_per_device": 4, "weight_decay": 0.0}


class TestObjective:
    def test_is_the_metric_of_a_sound_trial(self, minimised: Benchmark) -> None:
        assert objective(minimised, FINE) == 1.5

    def test_is_the_metric_where_it_is_maximised(self, maximised: Benchmark) -> None:
        assert objective(maximised, FINE) == 0.6

    @pytest.mark.parametrize("case", BAD)
    def test_a_bad_trial_counts_as_diverged(self, minimised: Benchmark, case: str) -> None:
        assert is_diverged(minimised, BAD[case])

    @pytest.mark.parametrize("case", BAD)
    def test_of_a_bad_trial_is_finite(self, minimised: Benchmark, case: str) -> None:
        assert math.isfinite(objective(minimised, BAD[case]))

    @pytest.mark.parametrize("case", BAD)
    def test_of_a_bad_trial_is_the_worst_there_is(self, minimised: Benchmark, case: str) -> None:
        assert objective(minimised, BAD[case]) == 25.0

    @pytest.mark.parametrize("case", BAD)
    def test_of_a_bad_trial_is_below_any_score_where_it_is_maximised(self, maximised: Benchmark, case: str) -> None:
        assert objective(maximised, BAD[case]) < 0.0

    def test_a_loss_of_diverged_above_itself_is_not_diverged(self, minimised: Benchmark) -> None:
        assert not is_diverged(minimised, {**FINE, "eval_loss": 25.0})

    def test_the_benchmark_says_where_divergence_begins(self, minimised: Benchmark) -> None:
        strict = minimised.model_copy(update={"diverged_above": 1.2})
        assert objective(strict, FINE) == 1.2

    def test_less_is_better_where_minimised(self, minimised: Benchmark) -> None:
        assert is_better(minimised, 1.0, 2.0)
        assert not is_better(minimised, 2.0, 1.0)

    def test_more_is_better_where_maximised(self, maximised: Benchmark) -> None:
        assert is_better(maximised, 2.0, 1.0)
        assert not is_better(maximised, 1.0, 2.0)

    @pytest.mark.parametrize("mode", ["minimised", "maximised"])
    def test_equal_is_not_better(self, mode: str, request: pytest.FixtureRequest) -> None:
        assert not is_better(request.getfixturevalue(mode), 1.0, 1.0)
