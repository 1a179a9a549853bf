"""Exact paired tests over blocks: Wilcoxon's signed-rank test, Holm's correction, equivalence within a margin.

Schuirmann 1987, https://doi.org/10.1007/BF01068419, for equivalence. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.spec import BenchmarkError
from hpo.analysis.estimates import RESAMPLES, Floats, Interval, bootstrap_interval, finite

ALPHA = 0.05
"""Level of every test: a corrected p must be below it."""
MARGIN = 0.005
"""Differences below it are of no practical interest: by default half a point, on a scale from 0 to 1."""
TICK = 2.0**-40
"""Differences are ranked in this fraction of the largest score, so that rounding errors neither break nor make ties."""

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Equivalence:
    """Equivalence of two methods within a margin.

    Attributes:
        margin: largest difference that does not matter, in the metric's unit, above 0.
        interval: of the mean difference, at confidence 1 - 2 ALPHA; None for fewer than two blocks.
        p_value: the larger one of the two one-sided tests', not corrected for the number of comparisons.
    """

    margin: float
    interval: Interval | None
    p_value: float

    @property
    def holds(self) -> bool:
        """Tell whether the interval lies within the margin and both tests agree."""
        return self.interval is not None and self.interval.within(self.margin) and self.p_value < ALPHA


def signed_rank_p(a: Sequence[float], b: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Compute the exact p of Wilcoxon's signed-rank test that the differences a - b are symmetric around zero.

    Never an approximation. Without ties and zeros it is scipy's. With them the 2**n ways to set the signs are counted
    given the ranks: ties share their mean rank, zeros are ranked and then left out (Pratt 1959,
    https://doi.org/10.1080/01621459.1959.10501526), so each zero costs a block.

    Args:
        a: one score per block, finite.
        b: the scores of another method on the same blocks.
        alternative: "greater" asks whether `a` is above `b`, "less" whether it is below.

    Returns:
        In (0, 1]; 1 if there is no block, or no difference.

    Raises:
        BenchmarkError: a score that is not finite, or the numbers of blocks differ.
    """
    differences = _ticks(finite(a), finite(b))
    sizes = np.abs(differences)
    if len(sizes) and np.all(sizes > 0) and len(np.unique(sizes)) == len(sizes):
        return float(stats.wilcoxon(differences, alternative=alternative, method="exact").pvalue)
    doubled_ranks = (2 * stats.rankdata(sizes)).astype(int)  # whole numbers, also for ties
    chances = _rank_sum_chances([int(rank) for rank in doubled_ranks[differences != 0]])
    observed = int(doubled_ranks[differences > 0].sum())
    greater, less = float(chances[observed:].sum()), float(chances[: observed + 1].sum())
    return min(1.0, {"greater": greater, "less": less, "two-sided": 2 * min(greater, less)}[alternative])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's step-down: the chance of any false finding among all stays below the level.

    Holm 1979, https://www.jstor.org/stable/4615733.

    Args:
        p_values: of all comparisons that were asked for, each in [0, 1].

    Raises:
        BenchmarkError: a value outside [0, 1].
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise BenchmarkError(
                f"a p-value is {p_value:g}, but must be >= 0 and <= 1; leave out pairs that were not tested"
            )
    return [float(p_value) for p_value in multipletests(list(p_values), method="holm")[1]] if p_values else []


def equivalence(
    a: Sequence[float], b: Sequence[float], margin: float = MARGIN, resamples: int = RESAMPLES, seed: int = 0
) -> Equivalence:
    """Test whether a - b lies within a margin: two one-sided tests at `ALPHA`, in two forms that must agree.

    The interval rule: the bootstrap interval of the mean difference at 90 % lies within the margin. For few blocks
    that interval is too narrow: where the true difference is the margin, so that 5 in 100 are allowed, it lies within
    for 11 in 100 sets of 5 normal blocks, and for 20 in 100 of 3. So exact signed-rank tests must also reject both
    "a - b >= margin" and "a - b <= -margin", which fewer than 5 blocks cannot.

    Args:
        a: one score per block, finite.
        b: the scores of another method on the same blocks.
        margin: in the metric's unit, above 0, fixed before the scores are seen.
        resamples: of the bootstrap, at least 1.
        seed: of the bootstrap.

    Raises:
        BenchmarkError: a score that is not finite, numbers of blocks that differ, or a margin that is not above 0.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise BenchmarkError(f"margin is {margin:g}, but must be finite and > 0, such as {MARGIN}")
    left, right = finite(a), finite(b)
    below = signed_rank_p(left.tolist(), (right + margin).tolist(), "less")
    above = signed_rank_p(left.tolist(), (right - margin).tolist(), "greater")
    interval = bootstrap_interval((left - right).tolist(), np.mean, 1 - 2 * ALPHA, resamples, seed)
    return Equivalence(margin, interval, max(below, above))


def smallest_p(num_blocks: int) -> float:
    """Return the smallest two-sided p of the signed-rank test, if all blocks agree: 2 / 2**num_blocks, at most 1."""
    if num_blocks < 0:
        raise BenchmarkError(f"num_blocks is {num_blocks}, but must be >= 0")
    return min(1.0, 2.0 / 2.0**num_blocks)


def blocks_needed(num_comparisons: int, alpha: float = ALPHA) -> int:
    """Count the fewest blocks that can resolve one of so many comparisons after Holm's correction, if all agree.

    A lower bound: with ties or any block that disagrees it takes more.

    Args:
        num_comparisons: made together, at least 1.
        alpha: level, in (0, 1).

    Raises:
        BenchmarkError: an argument out of its range.
    """
    if num_comparisons < 1:
        raise BenchmarkError(f"num_comparisons is {num_comparisons}, but must be >= 1")
    if not 0 < alpha < 1:
        raise BenchmarkError(f"alpha is {alpha:g}, but must be > 0 and < 1")
    return next(number for number in count(1) if num_comparisons * smallest_p(number) < alpha)


def _ticks(a: Floats, b: Floats) -> Floats:
    """Round differences to whole numbers of `TICK` of the largest score: 0.3 - 0.2 ties with 0.2 - 0.1."""
    if len(a) != len(b):
        raise BenchmarkError(f"there are {len(a)} scores to pair with {len(b)}, but each block needs one of both")
    largest = float(np.max(np.abs([a, b]), initial=0.0))
    return np.round((a - b) / (largest * TICK)) if largest > 0 else np.zeros(len(a))


def _rank_sum_chances(ranks: list[int]) -> Floats:
    """Compute the chance of each sum of the ranks with positive sign, if every sign is a fair coin."""
    chances = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances
