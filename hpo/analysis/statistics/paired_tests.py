"""Exact paired tests over blocks: Wilcoxon's signed-rank test, Holm's correction, equivalence within a margin. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count
from typing import Literal

import numpy as np
import pandas as pd
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.estimates import Floats, finite

ALPHA = 0.05
"""Level of every test: a corrected p must be below it."""
MARGIN = 0.005
"""Differences below it are of no practical interest: by default half a point, on a scale from 0 to 1."""
TICK = 2.0**-40
"""Differences are ranked in this fraction of the largest score, so that rounding errors neither break nor make ties."""

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Equivalence:
    """Equivalence of two methods: the typical difference, that of most blocks, is below a margin.

    Nothing is said of the mean: methods that share draws tie in many blocks and differ much in others, and no number of
    ties excludes a rare large difference. `beyond_at_most` says how rare.

    Attributes:
        margin: largest difference that does not matter, in the metric's unit, above 0.
        within: blocks whose difference is below it.
        num_blocks: blocks that both have.
        p_value: exact, of at least half of all blocks lying beyond; not corrected for the number of comparisons.
        beyond_at_most: upper bound of the share of all blocks beyond, at confidence 1 - ALPHA (Clopper & Pearson 1934,
            https://doi.org/10.1093/biomet/26.4.404); 1 without blocks.
    """

    margin: float
    within: int
    num_blocks: int
    p_value: float
    beyond_at_most: float


def signed_rank_p(a: Sequence[float], b: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Compute the exact p of Wilcoxon's signed-rank test that the differences a - b are symmetric around zero.

    Never an approximation: the 2**n ways to set the signs are counted given the ranks. Ties share their mean rank,
    zeros are ranked and then left out (Pratt 1959, https://doi.org/10.1080/01621459.1959.10501526), so each zero costs
    a block. Without ties and zeros it is `scipy.stats.wilcoxon` with `method="exact"`, which knows neither.

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
    doubled_ranks = (2 * pd.Series(sizes).rank()).to_numpy(dtype=int)  # whole numbers, also for ties
    chances = _rank_sum_chances(tuple(sorted(doubled_ranks[differences != 0].tolist())))
    observed = int(doubled_ranks[differences > 0].sum())
    greater, less = float(chances[observed:].sum()), float(chances[: observed + 1].sum())
    return min(1.0, {"greater": greater, "less": less, "two-sided": 2 * min(greater, less)}[alternative])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's step-down: the chance of any false finding among all stays below the level.

    Holm 1979, https://www.jstor.org/stable/4615733. statsmodels' `multipletests` gives the same, and collects garbage
    in the whole process at each call, which takes a tenth of a second in a command.

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
    order, number = np.argsort(p_values, kind="stable"), len(p_values)
    steps = np.array(p_values, dtype=np.float64)[order] * np.arange(number, 0, -1)  # times the hypotheses that are left
    corrected = np.empty(number)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p_value) for p_value in corrected]


def equivalence(a: Sequence[float], b: Sequence[float], margin: float = MARGIN) -> Equivalence:
    """Test whether the difference is below a margin in most blocks: an exact binomial test.

    It assumes nothing of the differences but that blocks are drawn alike. Two one-sided signed-rank tests, the usual
    way, assume that differences are symmetric, and were wrong in up to half of their claims where methods share draws.

    Args:
        a: one score per block, finite.
        b: the scores of another method on the same blocks.
        margin: in the metric's unit, above 0, fixed before the scores are seen.

    Raises:
        BenchmarkError: a score that is not finite, numbers of blocks that differ, or a margin that is not above 0.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise BenchmarkError(f"margin is {margin:g}, but must be finite and > 0, such as {MARGIN}")
    left, right = finite(a), finite(b)
    _require_pairs(left, right)
    if not len(left):
        return Equivalence(margin, 0, 0, 1.0, 1.0)
    least = least_beyond(margin, np.array([left, right]))
    within, blocks = int(np.sum(np.abs(left - right) < least)), len(left)
    return Equivalence(margin, within, blocks, *_of_coins(within, blocks))


def least_beyond(margin: float, scores: Floats) -> float:
    """Return the least difference of scores, or of their means, that is no smaller than a margin but for rounding."""
    return margin - TICK * float(np.max(np.abs(scores), initial=0.0))


def num_untied(a: Sequence[float], b: Sequence[float]) -> int:
    """Count the blocks whose scores differ by more than rounding: a tie is no evidence."""
    return int(np.count_nonzero(_ticks(finite(a), finite(b))))


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
    _require_pairs(a, b)
    largest = float(np.max(np.abs([a, b]), initial=0.0))
    return np.round((a - b) / (largest * TICK)) if largest > 0 else np.zeros(len(a))


@cache
def _of_coins(within: int, blocks: int) -> tuple[float, float]:
    """Return the p of so many heads or more of fair coins, and Clopper and Pearson's bound of the share of tails."""
    bound = scipy.special.betaincinv(blocks - within + 1, within, 1 - ALPHA) if within else 1.0
    return float(scipy.special.bdtrc(within - 1, blocks, 0.5)) if within else 1.0, float(bound)


def _require_pairs(a: Floats, b: Floats) -> None:
    if len(a) != len(b):
        raise BenchmarkError(f"there are {len(a)} scores to pair with {len(b)}, but each block needs one of both")


@lru_cache(maxsize=1000)
def _rank_sum_chances(ranks: tuple[int, ...]) -> Floats:
    """Compute the chance of each sum of the ranks with positive sign, if every sign is a fair coin."""
    chances = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances
