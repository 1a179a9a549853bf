"""Aggregates of runs on several tasks: mean, interquartile mean and performance profile, with bootstrap bands. Pure.

Agarwal et al. 2021, https://arxiv.org/abs/2108.13264 (rliable): runs are resampled within their task, a stratum each.
That tells of other seeds on the same tasks. To tell of other tasks like these, tasks are resampled too, and runs within
them.

A resample is a weight for each run, and every aggregate is a function of runs and weights. All tasks count the same,
however many runs each has; with as many runs each, the interquartile mean is rliable's.

    aggregate([[0.2, 0.5, 0.1], [0.9, 1.1, 0.7], [0.0, 0.3, 0.2]]).mean.value
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second

from hpo.analysis.statistics.estimates import (
    CONFIDENCE,
    MIN_BLOCKS,
    Estimate,
    Floats,
    Interval,
    finite,
    percentile_interval,
)

RESAMPLES = 2000
"""Bootstrap resamples, as in rliable's figures: ends of intervals then move by about 2 % of the width."""
QUARTILES = (0.25, 0.75)
"""Share of the weight below and up to which runs count for the interquartile mean."""


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a method's runs on several tasks.

    Attributes:
        mean: mean, with the interval over other seeds on the same tasks.
        interquartile_mean: the same of the middle half of the runs.
        mean_over_tasks: the mean, with the interval over other tasks like these.
        interquartile_mean_over_tasks: the same of the interquartile mean.
    """

    mean: Estimate
    interquartile_mean: Estimate
    mean_over_tasks: Estimate
    interquartile_mean_over_tasks: Estimate


@dataclass(frozen=True)
class PerformanceProfile:
    """A performance profile: the share of runs that are at or below each bound.

    Attributes:
        bounds: in ascending order.
        shares: in [0, 1], by bound.
        low: lower ends of pointwise intervals over other seeds, by bound; None below `MIN_BLOCKS` runs on any task.
        high: upper ends.
    """

    bounds: Floats
    shares: Floats
    low: Floats | None
    high: Floats | None


def aggregate(runs: Sequence[Sequence[float]], seed: int = 0, resamples: int = RESAMPLES) -> Aggregate:
    """Aggregate runs.

    Args:
        runs: the values of each task, finite, at least one each.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        Without intervals over seeds below `MIN_BLOCKS` runs on any task, and over tasks below as many tasks.

    Raises:
        BenchmarkError: a value that is not finite.
    """
    values, sizes = _pooled(runs)
    equal = _equal_weights(sizes)
    over_seeds, over_tasks = (_resampled(sizes, seed, resamples, has_tasks) for has_tasks in (False, True))

    def estimate(
        function: Callable[[Floats, Floats], Floats],
        weights: Floats | None,
        interval: Callable[[Floats], Interval] = percentile_interval,
    ) -> Estimate:
        value = float(function(values, equal[None])[0])
        return Estimate(value, None if weights is None else interval(function(values, weights)))

    return Aggregate(
        estimate(_means, over_seeds),
        estimate(_interquartile_means, over_seeds),
        estimate(_means, over_tasks, lambda resampled: expanded_interval(resampled, len(sizes))),
        estimate(_interquartile_means, over_tasks),
    )


def expanded_interval(resampled: Floats, number: int) -> Interval:
    """Return the central interval of the resampled means of a few values, expanded as Student's t is for few values.

    Resamples of n values vary by (n-1)/n of what the values do, and their spread is itself uncertain. So the
    percentiles lie further out (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789). The plain ones of 5
    tasks hold the mean too seldom (`python -m benchmarks.measure.verdicts --tasks`); an interquartile mean, which
    leaves the ends out, does not need it.

    Args:
        resampled: means, `(resamples,)`.
        number: of values that were resampled, at least 2.
    """
    wide = math.sqrt(number / (number - 1)) * float(scipy.special.stdtrit(number - 1, (1 + CONFIDENCE) / 2))
    return replace(percentile_interval(resampled, 2 * float(scipy.special.ndtr(wide)) - 1), confidence=CONFIDENCE)


def profile(
    runs: Sequence[Sequence[float]], bounds: Sequence[float] | Floats, seed: int = 0, resamples: int = RESAMPLES
) -> PerformanceProfile:
    """Compute the share of runs at or below each bound; see `aggregate` for the arguments."""
    values, sizes = _pooled(runs)
    limits = finite(bounds)
    is_within = (values[:, None] <= limits).astype(float)  # (runs, bounds)
    shares = _equal_weights(sizes) @ is_within
    weights = _resampled(sizes, seed, resamples, has_tasks=False)
    if weights is None:
        return PerformanceProfile(limits, shares, None, None)
    low, high = np.quantile(weights @ is_within, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return PerformanceProfile(limits, shares, low, high)


def _pooled(runs: Sequence[Sequence[float]]) -> tuple[Floats, list[int]]:
    arrays = [finite(own) for own in runs]
    return np.concatenate(arrays), [own.size for own in arrays]


def _equal_weights(sizes: Sequence[int]) -> Floats:
    return np.concatenate([np.full(size, 1 / size / len(sizes)) for size in sizes])


def _resampled(sizes: Sequence[int], seed: int, resamples: int, has_tasks: bool) -> Floats | None:
    """Return a weight for each run by resample, `(resamples, runs)`; None if there are too few to resample.

    Args:
        sizes: number of runs of each task.
        seed: of the draws.
        resamples: their number.
        has_tasks: resample the tasks too.
    """
    if (len(sizes) if has_tasks else min(sizes)) < MIN_BLOCKS:
        return None
    rng, number = np.random.default_rng(seed), len(sizes)
    within = [rng.multinomial(size, np.full(size, 1 / size), size=resamples) / size for size in sizes]
    times = rng.multinomial(number, np.full(number, 1 / number), size=resamples) if has_tasks else np.ones((1, number))
    return np.concatenate([own * times[:, [task]] / number for task, own in enumerate(within)], axis=1)


def _means(values: Floats, weights: Floats) -> Floats:
    means: Floats = weights @ values
    return means


def _interquartile_means(values: Floats, weights: Floats) -> Floats:
    """Average the middle half of the weight; a run at a quartile counts by its part within."""
    order = np.argsort(values, kind="stable")
    total = np.clip(np.cumsum(weights[:, order], axis=1), *QUARTILES)
    inside = np.diff(total, axis=1, prepend=QUARTILES[0])
    means: Floats = inside @ values[order] / (QUARTILES[1] - QUARTILES[0])
    return means
