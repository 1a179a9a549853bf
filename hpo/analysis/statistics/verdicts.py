"""Verdicts on pairs of methods over blocks: estimates first, then exact paired tests; no winner without evidence.

A block is one seed, with which all methods were run: scores are compared block by block. The rules are those of
docs/protocol.md:

- estimates: mean difference with the interval of Student's t, and probability of improvement (Agarwal et al. 2021,
  https://arxiv.org/abs/2108.13264);
- tests: exact Wilcoxon signed-rank by block, Holm-corrected over all comparisons that were asked for;
- equivalence: an exact test that most blocks differ by less than a margin fixed beforehand, Holm-corrected over the
  same comparisons;
- looks: if the plan looks at the growing data several times, each look has an equal share of the level (Bonferroni);
- other metrics: corrected together, the metric of verdicts among them, which keeps the level for itself.

It does not rank methods, fill in missing blocks, or treat seeds as if they were benchmarks. Pure functions;
nothing here reads a file or draws from global randomness.

    compare_pairs({"asha": {0: 0.71, 1: 0.74}, "random": {0: 0.70, 1: 0.70}}, higher_is_better=True, reference="random")
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.estimates import (
    RESAMPLES,
    Estimate,
    Interval,
    check_finite,
    mean_of,
    probability_of_improvement,
)
from hpo.analysis.statistics.paired_tests import (
    ALPHA,
    MARGIN,
    Equivalence,
    blocks_needed,
    equivalence,
    holm,
    least_beyond,
    num_untied,
    signed_rank_p,
    smallest_p,
)
from hpo.core.wording import counted

Verdict = Literal["better", "worse", "equivalent", "not resolved"]


@dataclass(frozen=True)
class Pair:
    """Two methods on the blocks that both have.

    Attributes:
        a: name of a method.
        b: name of the method it is compared with.
        a_scores: one score of `a` per block.
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
    def num_untied(self) -> int:
        """Number of them whose scores differ: a tie is no evidence."""
        return num_untied(self.a_scores, self.b_scores)

    @property
    def differences(self) -> list[float]:
        """Score of `a` minus score of `b`, by block."""
        return [a - b for a, b in zip(self.a_scores, self.b_scores, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """Two methods side by side, with the verdict on them.

    Attributes:
        a: name of a method.
        b: name of the method it is compared with.
        num_blocks: blocks that both have.
        mean_difference: mean of a - b in the metric's unit, not turned where lower is better; None without blocks.
        interval: of the mean difference, at `CONFIDENCE`; None for fewer than `estimates.MIN_BLOCKS` blocks.
        probability_of_improvement: of `a` over `b`, in [0, 1]; None without blocks.
        p_value: of the exact two-sided signed-rank test.
        p_holm: the same, corrected for all comparisons made together.
        equivalence: the test of a typical difference below the margin.
        p_equivalence_holm: its p, corrected for all comparisons made together.
        verdict: of `a` against `b`; see `verdict`.
        reason: the evidence of the verdict, for people.
    """

    a: str
    b: str
    num_blocks: int
    mean_difference: float | None
    interval: Interval | None
    probability_of_improvement: Estimate | None
    p_value: float
    p_holm: float
    equivalence: Equivalence
    p_equivalence_holm: float
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Scored:
    """Scores of methods by one metric.

    Attributes:
        scores: by method and block (the study's seed), finite, in the metric's unit.
        higher_is_better: the metric's mode is "max".
        margin: of equivalence, in the metric's unit, above 0; to be fixed before the scores are seen.
    """

    scores: Mapping[str, Mapping[int, float]]
    higher_is_better: bool
    margin: float = MARGIN


def compare_pairs(
    scores: Mapping[str, Mapping[int, float]],
    *,
    higher_is_better: bool,
    margin: float = MARGIN,
    reference: str | None = None,
    looks: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every two methods, or every method with one, on the blocks that both have.

    A study without a score is left out, which the comparison then says, or scored as the worst there is: leaving
    failed studies out favours methods that fail.

    Args:
        scores: see `Scored`.
        higher_is_better: see `Scored`.
        margin: see `Scored`.
        reference: compare the others with this method only: fewer comparisons need fewer blocks.
        looks: number of times that the growing data are looked at, at least 1; each has an equal share of the level.
        resamples: of the bootstrap of the probability of improvement, at least 1.
        seed: of the bootstrap; the same seed gives the same intervals.

    Returns:
        One comparison per pair, in the order of `scores`, corrected together. A reference is `b` in all of them.

    Raises:
        BenchmarkError: fewer than two methods, an unknown reference, a score that is not finite, or a bad margin.
    """
    family = _Family(Scored(scores, higher_is_better, margin), reference)
    corrected = [_corrected(p_values, looks) for p_values in family.p_values]
    return family.comparisons(corrected, _Rules(len(family.pairs), looks, resamples, seed))


def compare_others(
    first: Scored,
    others: Sequence[Scored],
    *,
    reference: str | None = None,
    looks: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[list[Comparison]]:
    """Compare the same methods by other metrics, corrected together over all metrics.

    Args:
        first: scores by the metric of verdicts, whose comparisons count in the correction.
        others: scores by each of the others.
        reference: see `compare_pairs`.
        looks: see `compare_pairs`.
        resamples: see `compare_pairs`.
        seed: see `compare_pairs`.

    Returns:
        The comparisons by each of the other metrics.

    Raises:
        BenchmarkError: see `compare_pairs`.
    """
    families = [_Family(scored, reference) for scored in (first, *others)]
    number = sum(len(family.pairs) for family in families)
    together = [iter(_corrected([p for family in families for p in family.p_values[kind]], looks)) for kind in (0, 1)]
    rules = _Rules(number, looks, resamples, seed)
    found = [
        family.comparisons([[next(p_values) for _ in family.pairs] for p_values in together], rules)
        for family in families
    ]
    return found[1:]


def verdict(
    pair: Pair, p_holm: float, p_equivalence_holm: float, *, higher_is_better: bool, margin: float = MARGIN
) -> Verdict:
    """Reach a verdict on `pair.a` against `pair.b`.

    "better" or "worse" if the corrected p is below `ALPHA` and mean and ranks point the same way. "equivalent" if the
    typical difference is shown to be below the margin; also if a difference is shown whose mean is below it, since the
    margin says that it does not matter. Everything else is "not resolved", which is no evidence of equality.

    Args:
        pair: the scores.
        p_holm: corrected p of the two-sided test, in [0, 1].
        p_equivalence_holm: corrected p of equivalence, in [0, 1].
        higher_is_better: the metric's mode is "max".
        margin: of equivalence, in the metric's unit.
    """
    direction = _direction(pair)
    is_shown = p_holm < ALPHA and direction != 0
    least = least_beyond(margin, np.array([pair.a_scores, pair.b_scores]))
    if p_equivalence_holm < ALPHA and not (is_shown and abs(math.fsum(pair.differences)) >= least * pair.num_blocks):
        return "equivalent"
    if not is_shown:
        return "not resolved"
    return "better" if (direction > 0) == higher_is_better else "worse"


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
            check_finite(score, f"the score of {method} with seed {block}")
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


@dataclass(frozen=True)
class _Rules:
    """The rules of all comparisons made together; see `compare_pairs` for those that are its arguments."""

    num_comparisons: int
    looks: int
    resamples: int
    seed: int

    @property
    def blocks_needed(self) -> int:
        """Fewest untied blocks that can resolve one of the comparisons."""
        return blocks_needed(self.num_comparisons * self.looks)


class _Family:
    """The pairs of methods by one metric, tested and not yet corrected."""

    def __init__(self, scored: Scored, reference: str | None) -> None:
        self._scored, self.pairs = scored, _pairs(scored.scores, reference)
        self._equal = [equivalence(pair.a_scores, pair.b_scores, scored.margin) for pair in self.pairs]
        different = [signed_rank_p(pair.a_scores, pair.b_scores) for pair in self.pairs]
        self.p_values = different, [one.p_value for one in self._equal]

    def comparisons(self, corrected: Sequence[Sequence[float]], rules: _Rules) -> list[Comparison]:
        """Judge each pair by its p values of a difference and of equivalence, both corrected."""
        evidence = map(_Evidence, self.p_values[0], corrected[0], self._equal, corrected[1])
        higher = self._scored.higher_is_better
        return [_compare(pair, shown, higher, rules) for pair, shown in zip(self.pairs, evidence, strict=True)]


def _corrected(p_values: Sequence[float], looks: int) -> list[float]:
    """Correct by Holm for the number of tests, and by Bonferroni for the number of looks."""
    if looks < 1:
        raise BenchmarkError(f"looks is {looks}, but must be >= 1")
    return [min(1.0, looks * p_value) for p_value in holm(p_values)]


@dataclass(frozen=True)
class _Evidence:
    """Results of the tests of a pair; see `Comparison`."""

    p_value: float
    p_holm: float
    equivalence: Equivalence
    p_equivalence_holm: float

    @property
    def is_equivalent(self) -> bool:
        return self.p_equivalence_holm < ALPHA


def _compare(pair: Pair, shown: _Evidence, higher_is_better: bool, rules: _Rules) -> Comparison:
    a, b, differences = pair.a_scores, pair.b_scores, pair.differences
    said = verdict(
        pair,
        shown.p_holm,
        shown.p_equivalence_holm,
        higher_is_better=higher_is_better,
        margin=shown.equivalence.margin,
    )
    mean = mean_of(differences) if differences else None
    draws = {"resamples": rules.resamples, "seed": rules.seed}
    return Comparison(
        a=pair.a,
        b=pair.b,
        num_blocks=pair.num_blocks,
        mean_difference=mean.value if mean else None,
        interval=mean.interval if mean else None,
        probability_of_improvement=(
            probability_of_improvement(a, b, higher_is_better, **draws) if differences else None
        ),
        p_value=shown.p_value,
        p_holm=shown.p_holm,
        equivalence=shown.equivalence,
        p_equivalence_holm=shown.p_equivalence_holm,
        verdict=said,
        reason=_reason(pair, said, shown, rules),
    )


def _reason(pair: Pair, said: Verdict, shown: _Evidence, rules: _Rules) -> str:
    p_holm, equal = shown.p_holm, shown.equivalence
    missing = f"; {counted(pair.num_missing, 'block')} left out, which only one of them has" if pair.num_missing else ""
    if said == "equivalent":
        real = f"; a difference is shown (Holm-corrected p {p_holm:.3g}), but it is that small" * (p_holm < ALPHA)
        return (
            f"the difference is below {equal.margin:g} in {equal.within} of {counted(equal.num_blocks, 'block')} "
            f"(Holm-corrected p {shown.p_equivalence_holm:.3g}); it may lie beyond in up to {equal.beyond_at_most:.0%} "
            f"of all{real}{missing}"
        )
    if said != "not resolved":
        rare = f"; by less than {equal.margin:g} in {equal.within} of them, so by much in a few" * shown.is_equivalent
        return f"Holm-corrected p {p_holm:.3g} < {ALPHA:g} over {pair.num_blocks} blocks{rare}{missing}"
    return f"{_why_not_resolved(pair, p_holm, equal, rules)}{missing}"


def _why_not_resolved(pair: Pair, p_holm: float, equal: Equivalence, rules: _Rules) -> str:
    if pair.num_blocks == 0:
        return "no block that both have; run both with the same seeds"
    if p_holm < ALPHA:
        return f"Holm-corrected p {p_holm:.3g} < {ALPHA:g}, but the mean difference does not point the same way"
    untied, needed = pair.num_untied, rules.blocks_needed
    blocks = counted(untied, "block") if untied == pair.num_blocks else f"{counted(untied, 'block')} without ties"
    if untied < needed:
        often = f" and {rules.looks} looks" * (rules.looks > 1)
        why = (
            f"p never gets below {smallest_p(untied):.3g} with {blocks}; it takes at least {needed} for "
            f"{counted(rules.num_comparisons, 'comparison')}{often} at {ALPHA:g}"
        )
    else:
        why = f"Holm-corrected p {p_holm:.3g} >= {ALPHA:g} over {pair.num_blocks} blocks"
    return f"{why}; nor is it shown to be below {equal.margin:g} as a rule ({equal.within} of {equal.num_blocks} are)"


def _direction(pair: Pair) -> int:
    """Return 1 if `a` scores higher by mean and by ranks, -1 if lower by both, 0 if they disagree."""
    mean = math.fsum(pair.differences)
    towards_mean = signed_rank_p(pair.a_scores, pair.b_scores, "greater" if mean > 0 else "less")
    return int(np.sign(mean)) if towards_mean < 0.5 else 0
