"""Aggregates over tasks: known values, and intervals of the width that theory has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.aggregates import aggregate, profile

RUNS = np.random.default_rng(0).gamma(2.0, 1.0, size=(6, 8))


def test_with_as_many_runs_each_they_are_numpy_s_mean_and_scipy_s_trimmed_mean() -> None:
    found = aggregate(RUNS.tolist())
    assert found.mean.value == pytest.approx(RUNS.mean())
    assert found.interquartile_mean.value == pytest.approx(stats.trim_mean(RUNS.ravel(), 0.25))


def test_tasks_count_the_same_however_many_runs_they_have() -> None:
    found = aggregate([[0.0] * 30, [3.0] * 6])
    assert (found.mean.value, found.interquartile_mean.value) == pytest.approx((1.5, 1.5))


def test_an_outlier_moves_the_mean_and_not_the_interquartile_mean() -> None:
    spoilt = RUNS.copy()
    spoilt[0, RUNS[0].argmax()] = 1000.0
    assert aggregate(spoilt.tolist()).mean.value > 20
    assert aggregate(spoilt.tolist()).interquartile_mean.value == pytest.approx(
        aggregate(RUNS.tolist()).interquartile_mean.value, rel=0.05
    )


def test_runs_are_resampled_within_their_task() -> None:
    """Tasks far apart leave the interval over seeds as narrow as the runs are, and widen that over tasks."""
    apart = np.arange(6)[:, None] * 100.0 + RUNS
    found = aggregate(apart.tolist())
    assert found.mean.interval is not None
    assert found.mean_over_tasks.interval is not None
    error = np.sqrt((RUNS.var(axis=1) / 8).sum()) / 6  # of the mean over strata
    width = found.mean.interval.high - found.mean.interval.low
    assert width == pytest.approx(2 * 1.96 * error, rel=0.1)
    over = found.mean_over_tasks.interval
    between = np.arange(6).std(ddof=1) * 100 / np.sqrt(6)
    assert over.high - over.low == pytest.approx(2 * stats.t.ppf(0.975, 5) * between, rel=0.1)


@pytest.mark.slow
def test_the_interval_over_five_tasks_holds_the_mean() -> None:
    """Percentiles that are not expanded hold it in 83 %."""
    rng = np.random.default_rng(0)
    runs = (rng.normal(rng.normal(size=(5, 1)), 0.2, (5, 5)) for _ in range(200))
    drawn = [aggregate(own.tolist(), resamples=1000) for own in runs]
    intervals = [one.mean_over_tasks.interval for one in drawn]
    assert np.mean([one is not None and one.low <= 0 <= one.high for one in intervals]) >= 0.91


def test_few_seeds_or_tasks_have_no_interval() -> None:
    few_seeds, few_tasks = aggregate([[0.1] * 4] * 6), aggregate([[0.1, 0.2] * 4] * 4)
    assert (few_seeds.mean.interval, few_tasks.mean_over_tasks.interval) == (None, None)
    assert few_seeds.mean_over_tasks.interval is not None
    assert few_tasks.interquartile_mean.interval is not None


def test_a_profile_is_the_share_of_runs_up_to_each_bound() -> None:
    found = profile([[0.0, 1.0], [1.0, 1.0, 1.0, 3.0]], [0.0, 0.5, 1.0, 3.0])
    assert found.shares.tolist() == [0.25, 0.25, 0.875, 1.0]
    assert found.low is None


def test_bands_hold_the_profile() -> None:
    found = profile(RUNS.tolist(), np.linspace(0, 4, 9))
    assert found.low is not None
    assert found.high is not None
    assert (found.low <= found.shares).all()
    assert (found.shares <= found.high).all()
    assert found.high[4] - found.low[4] > 0.1


def test_figures_are_the_same_each_time_and_no_nan_is_taken() -> None:
    assert aggregate(RUNS.tolist()) == aggregate(RUNS.tolist())
    with pytest.raises(BenchmarkError, match="must be finite"):
        aggregate([[0.1, float("nan")]])
