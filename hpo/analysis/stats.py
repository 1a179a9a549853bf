"""Comparing methods over blocks: estimates first, then exact paired tests, and no winner that was not shown.

A block is one seed, by which all methods were run: scores are compared block by block. The rules are those of
docs/protocol.md:

- estimates: interquartile mean and probability of improvement, with percentile bootstrap intervals
  (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264);
- tests: exact Wilcoxon signed-rank by block, Holm-corrected over all comparisons that were asked for;
- equivalence: two one-sided tests against a margin fixed beforehand (Schuirmann 1987,
  https://doi.org/10.1007/BF01068419).

What it does not: rank methods, fill in missing blocks, or treat seeds as if they were benchmarks. Pure functions;
nothing here reads a file or draws from global randomness.

    compare_pairs({"asha": {0: 0.71, 1: 0.74}, "random": {0: 0.70, 1: 0.70}}, higher_is_better=True, reference="random")
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.spec import BenchmarkError

ALPHA = 0.05
"""Level of every test: a corrected p must be below it."""
CONFIDENCE = 0.95
"""Of the intervals that are shown."""
MARGIN = 0.005
"""Differences below it are of no practical interest: half a point of F1, on the scale from 0 to 1."""
RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95 % interval then move by about 1 % of its width between seeds."""
TICK = 2.0**-40
"""Differences are ranked in this fraction of the largest score, so that rounding errors neither break nor make ties."""

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]
Verdict = Literal["better", "worse", "equivalent", "not resolved"]


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
        """Whether it lies between -margin and +margin, the ends excluded."""
        return -margin < self.low and self.high < margin

    def __str__(self) -> str:
        return f"{100 * self.confidence:g} % interval [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is.

    Attributes:
        value: the figure.
        interval: its bootstrap interval; None where there are too few values for one.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Equivalence:
    """Whether two methods differ by less than a margin.

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
        """Whether the interval lies within the margin and both tests agree."""
        return self.interval is not None and self.interval.within(self.margin) and self.p_value < ALPHA


@dataclass(frozen=True)
class Pair:
    """Two methods on the blocks that both have.

    Attributes:
        a: name of a method.
        b: name of the method it is compared with.
        a_scores: one score of `a` a block.
        b_scores: the scores of `b` on the same blocks, in the same order.
        num_missing: blocks that only one of them has.
    """

    a: str
    b: str
    a_scores: tuple[float, ...]
    b_scores: tuple[float, ...]
    num_missing: int = 0

    @property
    def num_blocks(self) -> int:
        """Number of blocks that both have."""
        return len(self.a_scores)

    @property
    def differences(self) -> list[float]:
        """Score of `a` minus score of `b`, by block."""
        return [a - b for a, b in zip(self.a_scores, self.b_scores, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """What is known of two methods.

    Attributes:
        a: name of a method.
        b: name of the method it is compared with.
        num_blocks: blocks that both have.
        mean_difference: mean of a - b in the metric's unit, not turned where lower is better; None without blocks.
        interval: of the mean difference, at `CONFIDENCE`; None for fewer than two blocks.
        probability_of_improvement: of `a` over `b`, in [0, 1]; None without blocks.
        p_value: of the exact two-sided signed-rank test.
        p_holm: the same, corrected for all comparisons made together.
        verdict: of `a` against `b`; see `verdict`.
        reason: what the verdict rests on, for people.
    """

    a: str
    b: str
    num_blocks: int
    mean_difference: float | None
    interval: Interval | None
    probability_of_improvement: Estimate | None
    p_value: float
    p_holm: float
    verdict: Verdict
    reason: str


def compare_pairs(
    scores: Mapping[str, Mapping[int, float]],
    *,
    higher_is_better: bool,
    margin: float = MARGIN,
    reference: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every two methods, or every method with one, on the blocks that both have.

    A study without a score is to be left out, which the comparison then says, or scored as the worst there is:
    leaving out what failed favours methods that fail.

    Args:
        scores: by method and block (the study's seed), finite, in the metric's unit.
        higher_is_better: the metric's mode is "max".
        margin: of equivalence, in the metric's unit, above 0; to be fixed before the scores are seen.
        reference: compare the others with this method only: fewer comparisons need fewer blocks.
        resamples: of each bootstrap, at least 1.
        seed: of the bootstraps; the same seed gives the same intervals.

    Returns:
        One comparison a pair, in the order of `scores`, corrected together. With a reference that is `b` in all.

    Raises:
        BenchmarkError: fewer than two methods, an unknown reference, a score that is not finite, or a bad margin.
    """
    pairs = _pairs(scores, reference)
    p_values = [signed_rank_p(pair.a_scores, pair.b_scores) for pair in pairs]
    return [
        _compare(pair, p_value, p_holm, len(pairs), higher_is_better, margin, resamples, seed)
        for pair, p_value, p_holm in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def verdict(pair: Pair, p_holm: float, equivalence: Equivalence, *, higher_is_better: bool) -> Verdict:
    """What may be said of `pair.a` against `pair.b`.

    "equivalent" where the difference is shown to be within the margin, also if it is shown not to be zero: the margin
    says that it does not matter. "better" or "worse" where the corrected p is below `ALPHA` and mean and ranks point
    the same way. Everything else is "not resolved", which is no evidence of equality.

    Args:
        pair: the scores.
        p_holm: corrected p of the two-sided test, in [0, 1].
        equivalence: see `equivalence`.
        higher_is_better: the metric's mode is "max".
    """
    if equivalence.holds:
        return "equivalent"
    direction = _direction(pair)
    if p_holm >= ALPHA or direction == 0:
        return "not resolved"
    return "better" if (direction > 0) == higher_is_better else "worse"


@overload
def interquartile_mean(values: Sequence[float]) -> float: ...
@overload
def interquartile_mean(values: Floats, *, axis: int) -> Floats: ...
def interquartile_mean(values: Sequence[float] | Floats, *, axis: int = -1) -> float | Floats:
    """The mean of the middle half: less noisy than the median, less moved by outliers than the mean.

    A quarter of the values, rounded down, is cut at either end (as rliable does): nothing of 3 values or fewer, one
    each of 5. Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3.

    Args:
        values: at least one, finite.
        axis: the one to reduce, for arrays.

    Raises:
        BenchmarkError: no value, or one that is not finite.
    """
    array = _finite(values)
    if array.size == 0:
        raise BenchmarkError("there are no values, but an interquartile mean needs at least one; give one a seed")
    means = stats.trim_mean(array, 0.25, axis=axis)
    return float(means) if array.ndim == 1 else np.asarray(means)


def bootstrap_interval(
    values: Sequence[float] | Mapping[Any, Sequence[float]],
    statistic: Statistic = interquartile_mean,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of a statistic; values are drawn with replacement within each stratum.

    Too narrow for few values: of 5 from a normal distribution, a 95 % interval of the mean covers it about 85 times
    in 100, of 10 about 90 times. Values that are all equal give an interval of no width.

    Args:
        values: finite; by stratum (say, a benchmark), or all of one stratum.
        statistic: of the values of all strata together, such as `np.mean`; it is called with the keyword `axis`.
        confidence: nominal coverage, in (0, 1).
        resamples: at least 1.
        seed: of the draws, which nothing else influences.

    Returns:
        None where a stratum has fewer than two values: one value says nothing about its spread, and an interval
        that leaves it out would look surer than it is.

    Raises:
        BenchmarkError: a value that is not finite, or an argument out of its range.
    """
    _check_bootstrap(confidence, resamples)
    strata = [_finite(stratum) for stratum in (values.values() if isinstance(values, Mapping) else [values])]
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
    """How often a run of `a` beats a run of `b`, ties counted half: the Mann-Whitney U by number of pairs.

    On one benchmark; over several it is the mean of theirs. 0.5 is no difference, and the size of a difference does
    not matter. Runs of `a` and `b` are resampled apart, as in Agarwal et al. 2021, https://arxiv.org/abs/2108.13264,
    section 4.3, so blocks are not used: it describes, the paired test decides.

    Args:
        a: scores of a method, at least one, finite.
        b: scores of another; the number may differ.
        higher_is_better: the metric's mode is "max".
        confidence: nominal coverage, in (0, 1).
        resamples: at least 1.
        seed: of the draws.

    Returns:
        A value in [0, 1]; no interval where `a` or `b` has fewer than two values.

    Raises:
        BenchmarkError: no score, one that is not finite, or an argument out of its range.
    """
    _check_bootstrap(confidence, resamples)
    left, right = _finite(a), _finite(b)
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


def signed_rank_p(a: Sequence[float], b: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Exact p of Wilcoxon's signed-rank test that the differences a - b are symmetric around zero.

    Never an approximation. Without ties and zeros it is scipy's. With them the 2**n ways to set the signs are counted
    given the ranks: ties share their mean rank, zeros are ranked and then left out (Pratt 1959,
    https://doi.org/10.1080/01621459.1959.10501526), so each zero costs a block.

    Args:
        a: one score a block, finite.
        b: the scores of another method on the same blocks.
        alternative: "greater" asks whether `a` is above `b`, "less" whether it is below.

    Returns:
        In (0, 1]; 1 where there is no block, or no difference.

    Raises:
        BenchmarkError: a score that is not finite, or the numbers of blocks differ.
    """
    differences = _ticks(_finite(a), _finite(b))
    sizes = np.abs(differences)
    if len(sizes) and np.all(sizes > 0) and len(np.unique(sizes)) == len(sizes):
        return float(stats.wilcoxon(differences, alternative=alternative, method="exact").pvalue)
    doubled_ranks = (2 * stats.rankdata(sizes)).astype(int)  # whole numbers, also for ties
    chances = _rank_sum_chances([int(rank) for rank in doubled_ranks[differences != 0]])
    observed = int(doubled_ranks[differences > 0].sum())
    greater, less = float(chances[observed:].sum()), float(chances[: observed + 1].sum())
    return min(1.0, {"greater": greater, "less": less, "two-sided": 2 * min(greater, less)}[alternative])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false finding among all stays below the level.

    Holm 1979, https://www.jstor.org/stable/4615733.

    Args:
        p_values: of all comparisons that were asked for, each in [0, 1].

    Raises:
        BenchmarkError: a value outside [0, 1].
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise BenchmarkError(f"a p-value is {p_value:g}, but must be >= 0 and <= 1; leave out what was not tested")
    return [float(p_value) for p_value in multipletests(list(p_values), method="holm")[1]] if p_values else []


def equivalence(
    a: Sequence[float], b: Sequence[float], margin: float = MARGIN, resamples: int = RESAMPLES, seed: int = 0
) -> Equivalence:
    """Whether a - b lies within a margin: two one-sided tests at `ALPHA`, in two forms that must agree.

    The interval rule: the bootstrap interval of the mean difference at 90 % lies within the margin. For few blocks
    that interval is too narrow: where the true difference is the margin, so that 5 in 100 are allowed, it lies within
    for 11 in 100 sets of 5 normal blocks, and for 20 in 100 of 3. So exact signed-rank tests must also reject both
    "a - b >= margin" and "a - b <= -margin", which fewer than 5 blocks cannot.

    Args:
        a: one score a block, finite.
        b: the scores of another method on the same blocks.
        margin: in the metric's unit, above 0, fixed before the scores are seen.
        resamples: of the bootstrap, at least 1.
        seed: of the bootstrap.

    Raises:
        BenchmarkError: a score that is not finite, numbers of blocks that differ, or a margin that is not above 0.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise BenchmarkError(f"margin is {margin:g}, but must be finite and > 0; {MARGIN} is half a point of F1")
    left, right = _finite(a), _finite(b)
    below = signed_rank_p(left.tolist(), (right + margin).tolist(), "less")
    above = signed_rank_p(left.tolist(), (right - margin).tolist(), "greater")
    interval = bootstrap_interval((left - right).tolist(), np.mean, 1 - 2 * ALPHA, resamples, seed)
    return Equivalence(margin, interval, max(below, above))


def smallest_p(num_blocks: int) -> float:
    """The smallest two-sided p of the signed-rank test, where all blocks agree: 2 / 2**num_blocks, at most 1."""
    if num_blocks < 0:
        raise BenchmarkError(f"num_blocks is {num_blocks}, but must be >= 0")
    return min(1.0, 2.0 / 2.0**num_blocks)


def blocks_needed(num_comparisons: int, alpha: float = ALPHA) -> int:
    """Fewest blocks that can resolve one of so many comparisons after Holm's correction, if all of them agree.

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


def _pairs(scores: Mapping[str, Mapping[int, float]], reference: str | None) -> list[Pair]:
    if len(scores) < 2:
        raise BenchmarkError(
            f"there are scores of {len(scores)} methods ({', '.join(scores) or 'none'}), but a comparison needs 2; "
            "run another method with the same seeds"
        )
    if reference is not None and reference not in scores:
        raise BenchmarkError(f"reference is {reference!r}, but must be one of the methods: {', '.join(scores)}")
    for method, by_block in scores.items():
        for block, score in by_block.items():
            _check_finite(score, f"the score of {method} with seed {block}")
    names = combinations(scores, 2) if reference is None else ((a, reference) for a in scores if a != reference)
    return [_pair(scores, a, b) for a, b in names]


def _pair(scores: Mapping[str, Mapping[int, float]], a: str, b: str) -> Pair:
    either, both = scores[a].keys() | scores[b].keys(), sorted(scores[a].keys() & scores[b].keys())
    return Pair(
        a,
        b,
        tuple(float(scores[a][block]) for block in both),
        tuple(float(scores[b][block]) for block in both),
        num_missing=len(either) - len(both),
    )


def _compare(
    pair: Pair,
    p_value: float,
    p_holm: float,
    num_comparisons: int,
    higher_is_better: bool,
    margin: float,
    resamples: int,
    seed: int,
) -> Comparison:
    a, b, differences = pair.a_scores, pair.b_scores, pair.differences
    equal = equivalence(a, b, margin, resamples, seed)
    said = verdict(pair, p_holm, equal, higher_is_better=higher_is_better)
    return Comparison(
        pair.a,
        pair.b,
        pair.num_blocks,
        float(np.mean(differences)) if differences else None,
        bootstrap_interval(differences, np.mean, resamples=resamples, seed=seed),
        probability_of_improvement(a, b, higher_is_better, resamples=resamples, seed=seed) if differences else None,
        p_value,
        p_holm,
        said,
        _reason(pair, said, p_holm, equal, num_comparisons),
    )


def _reason(pair: Pair, said: Verdict, p_holm: float, equal: Equivalence, num_comparisons: int) -> str:
    missing = f"; {_number(pair.num_missing, 'block')} left out, which only one of them has" if pair.num_missing else ""
    if said == "equivalent":
        real = f"; a difference is shown (Holm-corrected p {p_holm:.3g}), but it is that small" * (p_holm < ALPHA)
        return f"{equal.interval} of the difference lies within +-{equal.margin:g}{real}{missing}"
    if said != "not resolved":
        return f"Holm-corrected p {p_holm:.3g} < {ALPHA:g} over {pair.num_blocks} blocks{missing}"
    return f"{_why_not_resolved(pair, p_holm, equal, num_comparisons)}{missing}"


def _why_not_resolved(pair: Pair, p_holm: float, equal: Equivalence, num_comparisons: int) -> str:
    if pair.num_blocks == 0:
        return "no block that both have; run both with the same seeds"
    if p_holm < ALPHA:
        return f"Holm-corrected p {p_holm:.3g} < {ALPHA:g}, but the mean difference does not point the same way"
    needed = blocks_needed(num_comparisons)
    if pair.num_blocks < needed:
        why = (
            f"p never gets below {smallest_p(pair.num_blocks):.3g} with {_number(pair.num_blocks, 'block')}; it takes "
            f"at least {needed} for {_number(num_comparisons, 'comparison')} at {ALPHA:g}"
        )
    else:
        why = f"Holm-corrected p {p_holm:.3g} >= {ALPHA:g} over {pair.num_blocks} blocks"
    return f"{why}; not shown to be within +-{equal.margin:g} either"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _direction(pair: Pair) -> int:
    """1 where `a` scores higher by mean and by ranks, -1 where lower by both, 0 where they disagree."""
    mean = math.fsum(pair.differences)
    towards_mean = signed_rank_p(pair.a_scores, pair.b_scores, "greater" if mean > 0 else "less")
    return int(np.sign(mean)) if towards_mean < 0.5 else 0


def _ticks(a: Floats, b: Floats) -> Floats:
    """Differences as whole numbers of `TICK` of the largest score: 0.3 - 0.2 ties with 0.2 - 0.1."""
    if len(a) != len(b):
        raise BenchmarkError(f"there are {len(a)} scores to pair with {len(b)}, but each block needs one of both")
    largest = float(np.max(np.abs([a, b]), initial=0.0))
    return np.round((a - b) / (largest * TICK)) if largest > 0 else np.zeros(len(a))


def _rank_sum_chances(ranks: list[int]) -> Floats:
    """Chance of each sum of the ranks with positive sign, where every sign is a fair coin."""
    chances = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances


def _percentiles(resampled: Floats, confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence)


def _check_bootstrap(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise BenchmarkError(f"confidence is {confidence:g}, but must be > 0 and < 1, such as {CONFIDENCE}")
    if resamples < 1:
        raise BenchmarkError(f"resamples is {resamples}, but must be >= 1; {RESAMPLES} are usual")


def _finite(values: Sequence[float] | Floats) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        _check_finite(array[~np.isfinite(array)].flat[0], "a score")
    return array


def _check_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise BenchmarkError(
            f"{what} is {value}, but must be finite; leave the block out, or score it as the worst there is"
        )
