"""Estimates over blocks: values computed by hand, by scipy and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.spec import BenchmarkError
from hpo.analysis.estimates import Interval, bootstrap_interval, interquartile_mean, probability_of_improvement

FEW = 300
"""Resamples where the interval's exact ends do not matter."""


def spread(number: int, start: float = 0.0) -> list[float]:
    """So many different values above `start`, without ties among their differences from it."""
    return [start + 0.01 * (1 + block) for block in range(number)]


# interquartile mean


def test_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]) == 4.5  # of 3, 4, 5, 6


def test_interquartile_mean_does_not_see_one_outlier_in_five() -> None:
    assert interquartile_mean([1.0, 2.0, 3.0, 4.0, 1e6]) == 3.0


def test_interquartile_mean_of_three_values_is_their_mean() -> None:
    assert interquartile_mean([0.0, 0.0, 3.0]) == 1.0


def test_interquartile_mean_reduces_the_axis_it_is_given() -> None:
    values = np.array([[1.0, 2.0, 3.0, 100.0], [5.0, 5.0, 5.0, 5.0]])
    assert interquartile_mean(values, axis=1).tolist() == [2.5, 5.0]


def test_interquartile_mean_of_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="needs at least one"):
        interquartile_mean([])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_interquartile_mean_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(BenchmarkError, match="must be finite"):
        interquartile_mean([0.5, value])


# bootstrap


def test_bootstrap_of_two_values_has_the_ends_worked_out_by_hand() -> None:
    # the mean of two draws from {0, 1} is 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    assert bootstrap_interval([0.0, 1.0], np.mean, confidence=0.95) == Interval(0.0, 1.0, 0.95)
    assert bootstrap_interval([0.0, 1.0], np.mean, confidence=0.4) == Interval(0.5, 0.5, 0.4)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(size=12)
    ours = bootstrap_interval(values.tolist(), np.mean, resamples=20_000)
    theirs = scipy_stats.bootstrap(
        [values], np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours is not None
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.03)


def test_bootstrap_draws_within_strata() -> None:
    interval = bootstrap_interval({"easy": [1.0, 1.0], "hard": [0.0, 0.0]}, np.mean, resamples=FEW)
    assert interval == Interval(0.5, 0.5, 0.95)  # drawn from all four, some resample would hold three of a kind


def test_bootstrap_is_the_same_under_the_same_seed() -> None:
    values = spread(7)
    assert bootstrap_interval(values, resamples=FEW, seed=4) == bootstrap_interval(values, resamples=FEW, seed=4)


def test_bootstrap_differs_between_seeds() -> None:
    values = np.random.default_rng(0).normal(size=9).tolist()
    assert bootstrap_interval(values, resamples=FEW, seed=4) != bootstrap_interval(values, resamples=FEW, seed=5)


@pytest.mark.parametrize("values", [[], [0.7], {}, {"nano": [0.7]}, {"nano": [0.7], "squad": [0.1, 0.2]}])
def test_one_value_of_a_stratum_gives_no_interval(values: list[float] | dict[str, list[float]]) -> None:
    assert bootstrap_interval(values, np.mean, resamples=FEW) is None


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert bootstrap_interval([0.25] * 4, resamples=FEW) == Interval(0.25, 0.25, 0.95)


def test_bootstrap_covers_the_mean_of_a_normal_distribution_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for sample in rng.normal(size=(300, 20)):
        interval = bootstrap_interval(sample.tolist(), np.mean, resamples=FEW)
        assert interval is not None
        covered += interval.low <= 0.0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.97


def test_bootstrap_refuses_nan() -> None:
    with pytest.raises(BenchmarkError, match="must be finite"):
        bootstrap_interval([0.1, math.nan, 0.2], resamples=FEW)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_bootstrap_refuses_a_confidence_outside_zero_and_one(confidence: float) -> None:
    with pytest.raises(BenchmarkError, match=f"confidence is {confidence:g}, but must be > 0 and < 1"):
        bootstrap_interval([0.1, 0.2], confidence=confidence, resamples=FEW)


def test_bootstrap_refuses_no_resamples() -> None:
    with pytest.raises(BenchmarkError, match="resamples is 0, but must be >= 1"):
        bootstrap_interval([0.1, 0.2], resamples=0)


# probability of improvement


def test_probability_of_improvement_counts_pairs_and_half_the_ties() -> None:
    # 3 > 2, 3 > 1, 1 < 2, 1 = 1: 2.5 of 4
    assert probability_of_improvement([3.0, 1.0], [2.0, 1.0], True, resamples=FEW).value == 0.625


def test_probability_of_improvement_turns_where_lower_is_better() -> None:
    assert probability_of_improvement([3.0, 1.0], [2.0, 1.0], False, resamples=FEW).value == 0.375


def test_probability_of_improvement_is_the_u_statistic_by_number_of_pairs() -> None:
    a, b = [0.3, 0.5, 0.5, 0.9], [0.1, 0.5, 0.8]
    expected = scipy_stats.mannwhitneyu(a, b).statistic / 12
    assert probability_of_improvement(a, b, True, resamples=FEW).value == pytest.approx(expected)


def test_probability_of_improvement_over_itself_is_a_half() -> None:
    assert probability_of_improvement([0.1, 0.4, 0.2], [0.1, 0.4, 0.2], True, resamples=FEW).value == 0.5


def test_probability_of_improvement_has_the_interval_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.5, 1, 8), rng.normal(0, 1, 6)
    plain = [np.mean(rng.choice(a, 8)[:, None] > rng.choice(b, 6)[None, :]) for _ in range(4000)]
    interval = probability_of_improvement(a.tolist(), b.tolist(), True, resamples=4000).interval
    assert interval is not None
    assert [interval.low, interval.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.04)


def test_probability_of_improvement_of_one_run_has_no_interval() -> None:
    estimate = probability_of_improvement([0.9], [0.1, 0.2], True, resamples=FEW)
    assert (estimate.value, estimate.interval) == (1.0, None)


def test_probability_of_improvement_without_runs_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="both need at least one"):
        probability_of_improvement([], [0.1], True)
