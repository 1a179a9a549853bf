"""Estimates over blocks, each with an interval: the mean, and the probability of improvement.

Pure functions; nothing here draws from global randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second
from numpy.typing import NDArray

from benchmarks.spec import BenchmarkError

CONFIDENCE = 0.95
"""Nominal coverage of the intervals that are shown."""
MIN_BLOCKS = 5
"""Blocks below which no interval is shown."""
RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95 % interval then move by about 1 % of its width between seeds."""

Floats = NDArray[np.float64]


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

    def __str__(self) -> str:
        return f"{100 * self.confidence:g} % interval [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure.
        interval: its interval; None if there are too few values for one.
    """

    value: float
    interval: Interval | None


def last_that(holds: Callable[[float], bool], low: float, high: float, halvings: int) -> float:
    """Find the place between two values up to which a condition holds; `scipy.optimize` takes long to import.

    Args:
        holds: the condition, true up to some value and false beyond.
        low: a value for which it holds.
        high: one for which it does not.
        halvings: of the distance between the two.

    Returns:
        A value for which it holds, nearer to the place than the last half.
    """
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def mean_of(values: Sequence[float]) -> Estimate:
    """Average values, with the interval of Student's t.

    The mean counts every block: two failed ones of eight move it, while a trimmed mean would leave them out. The
    interval takes the mean for normal, which few and skewed values are not: a nominal 95 % then covers 88 to 92 %, a
    percentile bootstrap of 5 values 77 % (`python -m benchmarks.measure.verdicts`).

    Args:
        values: at least one, finite.

    Returns:
        Without an interval if there are fewer than `MIN_BLOCKS`: such an interval would look surer than it is.

    Raises:
        BenchmarkError: no value, or one that is not finite.
    """
    array = finite(values)
    if array.size == 0:
        raise BenchmarkError("there are no values, but a mean needs at least one; give one per seed")
    mean = float(array.mean())
    return Estimate(mean, student_interval(array, CONFIDENCE) if array.size >= MIN_BLOCKS else None)


def student_interval(values: Floats, confidence: float) -> Interval:
    """Return the interval of Student's t of a mean; a single point where all values are equal.

    Args:
        values: at least two, finite.
        confidence: nominal coverage, in (0, 1).
    """
    mean, half = float(values.mean()), 0.0
    if np.ptp(values) > 0:
        error = float(values.std(ddof=1)) / math.sqrt(values.size)
        half = error * float(scipy.special.stdtrit(values.size - 1, (1 + confidence) / 2))  # Student t's quantile
    return Interval(mean - half, mean + half, confidence)


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
        A value in [0, 1]; without an interval if `a` or `b` has fewer than `MIN_BLOCKS` values.

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
    if min(num_a, num_b) < MIN_BLOCKS:
        return Estimate(value, None)
    rng = np.random.default_rng(seed)
    times_a = rng.multinomial(num_a, np.full(num_a, 1 / num_a), size=resamples)  # (resamples, num_a)
    times_b = rng.multinomial(num_b, np.full(num_b, 1 / num_b), size=resamples)
    resampled = ((times_a @ beats) * times_b).sum(axis=1) / (num_a * num_b)
    return Estimate(value, percentile_interval(resampled, confidence))


def percentile_interval(resampled: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Return the central interval of resampled values, `(resamples,)`."""
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
