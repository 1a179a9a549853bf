"""Estimates over blocks: values computed by hand, by scipy and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.estimates import Interval, mean_of, probability_of_improvement

FEW = 300
"""Resamples where the interval's exact ends do not matter."""


def spread(number: int, start: float = 0.0) -> list[float]:
    """So many different values above `start`, without ties among their differences from it."""
    return [start + 0.01 * (1 + block) for block in range(number)]


# means


def test_a_mean_has_the_interval_of_student_s_t() -> None:
    values = np.random.default_rng(3).normal(size=12)
    theirs = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_of(values.tolist())
    assert found.value == pytest.approx(values.mean())
    assert found.interval is not None
    assert [found.interval.low, found.interval.high] == pytest.approx([theirs.low, theirs.high])


def test_a_mean_counts_failed_blocks() -> None:
    assert mean_of([0.8] * 6 + [0.0] * 2).value == pytest.approx(0.6)


@pytest.mark.parametrize(("number", "has_interval"), [(1, False), (4, False), (5, True)])
def test_fewer_than_five_values_give_no_interval(number: int, has_interval: bool) -> None:
    assert (mean_of(spread(number)).interval is not None) is has_interval


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert mean_of([0.25] * 5).interval == Interval(0.25, 0.25, 0.95)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="needs at least one"):
        mean_of([])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_mean_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(BenchmarkError, match="must be finite"):
        mean_of([0.5, value])


@pytest.mark.parametrize("number", [5, 20])
def test_the_interval_covers_the_mean_of_a_normal_distribution_as_often_as_it_says(number: int) -> None:
    found = [mean_of(sample).interval for sample in np.random.default_rng(0).normal(size=(1000, number)).tolist()]
    covered = sum(interval is not None and interval.low <= 0.0 <= interval.high for interval in found)
    assert 0.93 <= covered / 1000 <= 0.97


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


@pytest.mark.parametrize(("number", "has_interval"), [(1, False), (4, False), (5, True)])
def test_probability_of_improvement_of_few_runs_has_no_interval(number: int, has_interval: bool) -> None:
    estimate = probability_of_improvement(spread(number, 0.9), spread(6), True, resamples=FEW)
    assert (estimate.value, estimate.interval is not None) == (1.0, has_interval)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_probability_of_improvement_refuses_a_confidence_outside_zero_and_one(confidence: float) -> None:
    with pytest.raises(BenchmarkError, match=f"confidence is {confidence:g}, but must be > 0 and < 1"):
        probability_of_improvement([0.1], [0.2], True, confidence=confidence)


def test_probability_of_improvement_refuses_no_resamples() -> None:
    with pytest.raises(BenchmarkError, match="resamples is 0, but must be >= 1"):
        probability_of_improvement([0.1], [0.2], True, resamples=0)


def test_the_interval_of_the_probability_of_improvement_follows_the_seed() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9)).tolist()
    first, again, other = (probability_of_improvement(a, b, True, resamples=FEW, seed=seed) for seed in (4, 4, 5))
    assert first == again != other


def test_probability_of_improvement_without_runs_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="both need at least one"):
        probability_of_improvement([], [0.1], True)
