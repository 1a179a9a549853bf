"""Estimates over blocks, each with a percentile bootstrap interval: interquartile mean, probability of improvement.

Agarwal et al. 2021, https://arxiv.org/abs/2108.13264. Pure functions; nothing here draws from global randomness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.spec import BenchmarkError

CONFIDENCE = 0.95
"""Nominal coverage of the intervals that are shown."""
RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95 % interval then move by about 1 % of its width between seeds."""

Floats = NDArray[np.float64]


class Statistic(Protocol):
    """A function of values that numpy could have written, such as `np.mean` or `interquartile_mean`."""

    def __call__(self, values: Floats, /, *, axis: int) -> Any:
        """Reduce `axis`."""
        ...


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: lower end.
        high: upper end, at least `low`.
        confidence: nominal coverage, in (0, 1).
    """

    low: float
    high: float
    confidence: float = CONFIDENCE

    def within(self, margin: float) -> bool:
        """Tell whether it lies between -margin and +margin, the ends excluded."""
        return -margin < self.low and self.high < margin

    def __str__(self) -> str:
        return f"{100 * self.confidence:g} % interval [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure.
        interval: its bootstrap interval; None if there are too few values for one.
    """

    value: float
    interval: Interval | None


@overload
def interquartile_mean(values: Sequence[float]) -> float: ...
@overload
def interquartile_mean(values: Floats, *, axis: int) -> Floats: ...
def interquartile_mean(values: Sequence[float] | Floats, *, axis: int = -1) -> float | Floats:
    """Average the middle half: less noisy than the median, less moved by outliers than the mean.

    A quarter of the values, rounded down, is cut at either end (as rliable does): nothing of 3 values or fewer, one
    each of 5. Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3.

    Args:
        values: at least one, finite.
        axis: the one to reduce, for arrays.

    Raises:
        BenchmarkError: no value, or one that is not finite.
    """
    array = finite(values)
    if array.size == 0:
        raise BenchmarkError("there are no values, but an interquartile mean needs at least one; give one per seed")
    means = stats.trim_mean(array, 0.25, axis=axis)
    return float(means) if array.ndim == 1 else np.asarray(means)


def bootstrap_interval(
    values: Sequence[float] | Mapping[Any, Sequence[float]],
    statistic: Statistic = interquartile_mean,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Bootstrap a percentile interval of a statistic; values are drawn with replacement within each stratum.

    Too narrow for few values: of 5 from a normal distribution, a 95 % interval of the mean covers it about 85 times
    in 100, of 10 about 90 times. Values that are all equal give an interval of no width.

    Args:
        values: finite; by stratum (say, a benchmark), or all of one stratum.
        statistic: of the values of all strata together, such as `np.mean`; it is called with the keyword `axis`.
        confidence: nominal coverage, in (0, 1).
        resamples: at least 1.
        seed: of the draws, which nothing else influences.

    Returns:
        None if a stratum has fewer than two values. One value says nothing about its spread, and an interval
        without it would look surer than it is.

    Raises:
        BenchmarkError: a value that is not finite, or an argument out of its range.
    """
    _check_bootstrap(confidence, resamples)
    strata = [finite(stratum) for stratum in (values.values() if isinstance(values, Mapping) else [values])]
    if not strata or min(len(stratum) for stratum in strata) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(stratum, size=(resamples, len(stratum))) for stratum in strata]
    return _percentiles(statistic(np.concatenate(drawn, axis=1), axis=-1), confidence)


def probability_of_improvement(
    a: Sequence[float],
    b: Sequence[float],
    higher_is_better: bool,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate how often a run of `a` beats a run of `b`, ties counted half: the Mann-Whitney U by number of pairs.

    It holds on one benchmark; over several it is the mean of theirs. 0.5 is no difference, and the size of a
    difference does not matter. Runs of `a` and `b` are resampled apart, as in Agarwal et al. 2021, https://arxiv.org/abs/2108.13264,
    section 4.3, so blocks are not used: it describes, the paired test decides.

    Args:
        a: scores of a method, at least one, finite.
        b: scores of another; the number may differ.
        higher_is_better: the metric's mode is "max".
        confidence: nominal coverage, in (0, 1).
        resamples: at least 1.
        seed: of the draws.

    Returns:
        A value in [0, 1]; without an interval if `a` or `b` has fewer than two values.

    Raises:
        BenchmarkError: no score, one that is not finite, or an argument out of its range.
    """
    _check_bootstrap(confidence, resamples)
    left, right = finite(a), finite(b)
    num_a, num_b = len(left), len(right)
    if not num_a or not num_b:
        raise BenchmarkError(f"there are {num_a} scores to compare with {num_b}, but both need at least one")
    gain = left[:, None] - right[None, :]  # (num_a, num_b)
    beats = np.heaviside(gain if higher_is_better else -gain, 0.5)
    value = float(beats.mean())
    if min(num_a, num_b) < 2:
        return Estimate(value, None)
    rng = np.random.default_rng(seed)
    times_a = rng.multinomial(num_a, np.full(num_a, 1 / num_a), size=resamples)  # (resamples, num_a)
    times_b = rng.multinomial(num_b, np.full(num_b, 1 / num_b), size=resamples)
    resampled = ((times_a @ beats) * times_b).sum(axis=1) / (num_a * num_b)
    return Estimate(value, _percentiles(resampled, confidence))


def _percentiles(resampled: Floats, confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence)


def _check_bootstrap(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise BenchmarkError(f"confidence is {confidence:g}, but must be > 0 and < 1, such as {CONFIDENCE}")
    if resamples < 1:
        raise BenchmarkError(f"resamples is {resamples}, but must be >= 1; {RESAMPLES} are usual")


def finite(values: Sequence[float] | Floats) -> Floats:
    """Return scores as an array.

    Raises:
        BenchmarkError: a score that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        check_finite(array[~np.isfinite(array)].flat[0], "a score")
    return array


def check_finite(value: float, name: str) -> None:
    """Refuse a score that is not finite.

    Args:
        value: the score.
        name: of the score, in the message.

    Raises:
        BenchmarkError: it is not finite.
    """
    if not math.isfinite(value):
        raise BenchmarkError(
            f"{name} is {value}, but must be finite; leave the block out, or score it as the worst there is"
        )
