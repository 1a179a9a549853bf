"""Statistics over blocks: hand-computed values, scipy's and brute force's, and what must never be claimed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.spec import BenchmarkError
from hpo.analysis.stats import (
    Comparison,
    Equivalence,
    Interval,
    Pair,
    blocks_needed,
    bootstrap_interval,
    compare_pairs,
    equivalence,
    holm,
    interquartile_mean,
    probability_of_improvement,
    signed_rank_p,
    smallest_p,
    verdict,
)

FEW = 300
"""Resamples where the interval's exact ends do not matter."""
NOT_EQUIVALENT = Equivalence(margin=0.005, interval=Interval(-1.0, 1.0, 0.9), p_value=1.0)
EQUIVALENT = Equivalence(margin=0.005, interval=Interval(-0.001, 0.001, 0.9), p_value=0.01)


def blocks(*values: float) -> dict[int, float]:
    """Scores by seed 0, 1, ..."""
    return dict(enumerate(values))


def spread(number: int, start: float = 0.0) -> list[float]:
    """So many different values above `start`, without ties among their differences from it."""
    return [start + 0.01 * (1 + block) for block in range(number)]


def compare_two(a: Sequence[float], b: Sequence[float], higher_is_better: bool = True) -> Comparison:
    """The only comparison of two methods on the same seeds."""
    (comparison,) = compare_pairs(
        {"a": blocks(*a), "b": blocks(*b)}, higher_is_better=higher_is_better, resamples=FEW, margin=0.005
    )
    return comparison


def enumerated_p(differences: Sequence[int]) -> float:
    """Two-sided signed-rank p by setting all signs, Pratt's zeros: the definition, in the slowest way."""
    sizes = np.abs(differences)
    ranks = scipy_stats.rankdata(sizes) * (sizes > 0)
    observed = float(ranks[np.array(differences) > 0].sum())
    sums = [float(np.dot(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(ranks))]
    upper, lower = sum(s >= observed for s in sums), sum(s <= observed for s in sums)
    return min(1.0, 2 * min(upper, lower) / len(sums))


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


# signed-rank test


def test_p_of_three_blocks_that_agree_is_a_quarter() -> None:
    assert signed_rank_p([0.5, 0.7, 0.9], [0.4, 0.5, 0.6]) == 0.25


def test_p_is_scipys_exact_one_without_ties() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.5, 1, 11), rng.normal(0, 1, 11)
    expected = scipy_stats.wilcoxon(a, b, method="exact").pvalue
    assert signed_rank_p(a.tolist(), b.tolist()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "differences",
    [[1, 1, 1, 1, 1], [1, 1, -2, 3, 3, 3], [0, 1, 2, 3, 4, 5], [0, 0, -1, 2, 2, 5, 7], [0, 0, 0, 4], [1, -1, 2, -2]],
)
def test_p_with_ties_and_zeros_is_that_of_all_signs(differences: list[int]) -> None:
    assert signed_rank_p(differences, [0] * len(differences)) == pytest.approx(enumerated_p(differences))


def test_p_with_ties_and_zeros_is_scipys_full_permutation() -> None:
    differences = [0.0, 1.0, 1.0, -2.0, 3.0, 4.0, 4.0, 5.0]
    everything = scipy_stats.PermutationMethod(n_resamples=np.inf)
    expected = scipy_stats.wilcoxon(differences, zero_method="pratt", method=everything).pvalue
    assert signed_rank_p(differences, [0.0] * 8) == pytest.approx(expected)


def test_a_true_null_is_rejected_no_more_often_than_the_level_says() -> None:
    sizes = [1, 1, 2, 3, 3, 3, 4]
    p_values = [
        signed_rank_p([s * size for s, size in zip(signs, sizes, strict=True)], [0] * 7)
        for signs in itertools.product([-1, 1], repeat=7)
    ]
    for level in (0.02, 0.05, 0.1, 0.3):
        assert np.mean([p <= level for p in p_values]) <= level


def test_each_zero_costs_a_block() -> None:
    assert signed_rank_p([1.0, 2.0, 3.0, 4.0, 0.0], [0.0] * 5) == smallest_p(4)


def test_rounding_errors_do_not_make_a_difference_of_zero() -> None:
    assert signed_rank_p([0.1 + 0.2] * 3, [0.3] * 3) == 1.0


def test_rounding_errors_do_not_break_ties() -> None:
    # differences 0.1, 0.1, -0.1, 0.2 but for the last bits, which would rank them at random
    a, b = [0.3, 0.2, 0.7, 0.9], [0.2, 0.1, 0.8, 0.7]
    assert len({abs(x - y) for x, y in zip(a, b, strict=True)}) == 4
    assert signed_rank_p(a, b) == pytest.approx(enumerated_p([1, 1, -1, 2]))


def test_one_sided_p_asks_in_one_direction() -> None:
    higher, lower = [0.5, 0.7, 0.9], [0.4, 0.5, 0.6]
    assert [signed_rank_p(higher, lower, side) for side in ("greater", "less")] == [0.125, 1.0]


def test_one_sided_p_with_ties_asks_in_one_direction() -> None:
    assert [signed_rank_p([1.0] * 3, [0.0] * 3, side) for side in ("greater", "less")] == [0.125, 1.0]


@pytest.mark.parametrize("scores", [[], [0.7], [0.7, 0.7, 0.7], [0.0, 0.0]])
def test_p_of_no_difference_is_one(scores: list[float]) -> None:
    assert signed_rank_p(scores, scores) == 1.0


def test_p_is_the_same_with_the_methods_exchanged() -> None:
    a, b = [0.5, 0.7, 0.1, 0.8, 0.8], [0.4, 0.9, 0.6, 0.1, 0.1]
    assert signed_rank_p(a, b) == signed_rank_p(b, a) < 1


def test_unequal_numbers_of_blocks_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="2 scores to pair with 1"):
        signed_rank_p([0.1, 0.2], [0.1])


# Holm


def test_holm_steps_down_and_keeps_the_order() -> None:
    # sorted 0.01 x 3, 0.03 x 2, then 0.04 x 1 raised to its predecessor's
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_never_exceeds_one() -> None:
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_holm_of_one_comparison_changes_nothing() -> None:
    assert holm([0.04]) == [0.04]


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@pytest.mark.parametrize("p_value", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_probability(p_value: float) -> None:
    with pytest.raises(BenchmarkError, match="must be >= 0 and <= 1"):
        holm([0.1, p_value])


# equivalence


def test_differences_well_within_the_margin_are_equivalent() -> None:
    a = [0.701, 0.712, 0.689, 0.700, 0.721, 0.733]
    b = [0.700, 0.713, 0.690, 0.702, 0.720, 0.732]
    result = equivalence(a, b, 0.005, resamples=FEW)
    assert result.p_value == 1 / 2**6  # every block within the margin
    assert result.holds


def test_a_difference_beyond_the_margin_is_not_equivalent() -> None:
    a = [0.706, 0.717, 0.698, 0.709, 0.727, 0.739]
    b = [0.700, 0.710, 0.690, 0.700, 0.720, 0.730]
    assert not equivalence(a, b, 0.005, resamples=FEW).holds


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_difference_of_exactly_the_margin_is_not_equivalent(sign: int) -> None:
    assert not equivalence([0.7 + sign * 0.005] * 8, [0.7] * 8, 0.005, resamples=FEW).holds


@pytest.mark.parametrize(
    ("low", "high", "within"),
    [(-0.9, 0.9, True), (-1.1, 0.0, False), (0.0, 1.1, False), (-1.0, 0.0, False), (0.0, 1.0, False)],
)
def test_an_interval_is_within_a_margin_by_both_ends(low: float, high: float, within: bool) -> None:
    assert Interval(low, high).within(1.0) is within


@pytest.mark.parametrize(("number", "holds"), [(0, False), (1, False), (2, False), (4, False), (5, True)])
def test_equivalence_takes_five_blocks_even_if_nothing_differs(number: int, holds: bool) -> None:
    assert equivalence([0.7] * number, [0.7] * number, resamples=FEW).holds is holds


def test_equivalence_needs_the_interval_too() -> None:
    outlier = [0.0] * 11 + [0.5]  # the ranks see one block in twelve, the mean is 0.04
    result = equivalence(outlier, [0.0] * 12, 0.005, resamples=FEW)
    assert result.p_value < 0.05
    assert not result.holds


def test_a_true_difference_of_the_margin_is_called_equivalent_at_most_one_time_in_twenty() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.4, size=(200, 5))
    results = [equivalence(sample.tolist(), [0.0] * 5, margin=1.0, resamples=200) for sample in samples]
    within = np.mean([result.interval is not None and result.interval.within(1.0) for result in results])
    assert np.mean([result.holds for result in results]) <= 0.05 < 0.08 < within  # the interval alone is not enough


@pytest.mark.parametrize("margin", [0.0, -0.005, math.nan, math.inf])
def test_a_margin_that_is_not_above_zero_is_refused(margin: float) -> None:
    with pytest.raises(BenchmarkError, match=r"margin is .* but must be finite and > 0"):
        equivalence([0.1, 0.2], [0.1, 0.2], margin)


# what a number of blocks can show


@pytest.mark.parametrize(("number", "expected"), [(0, 1.0), (1, 1.0), (2, 0.5), (5, 0.0625), (6, 0.03125), (10, 2**-9)])
def test_smallest_p_halves_with_every_block(number: int, expected: float) -> None:
    assert smallest_p(number) == expected


@pytest.mark.parametrize(("comparisons", "expected"), [(1, 6), (2, 7), (9, 9), (36, 11)])
def test_blocks_needed_are_those_worked_out_by_hand(comparisons: int, expected: int) -> None:
    assert blocks_needed(comparisons) == expected


def test_a_smaller_alpha_needs_more_blocks() -> None:
    assert blocks_needed(1, alpha=0.01) == 8


@pytest.mark.parametrize("comparisons", [1, 5])
def test_blocks_needed_resolve_and_one_less_does_not(comparisons: int) -> None:
    def verdicts(number: int) -> set[str]:
        scores = {f"method {i}": blocks(*spread(number, 0.5 + i)) for i in range(comparisons)}
        compared = compare_pairs(
            {**scores, "random": blocks(*[0.0] * number)}, higher_is_better=True, reference="random", resamples=FEW
        )
        assert len(compared) == comparisons
        return {comparison.verdict for comparison in compared}

    needed = blocks_needed(comparisons)
    assert verdicts(needed) == {"better"}
    assert verdicts(needed - 1) == {"not resolved"}


def test_a_negative_number_of_blocks_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="num_blocks is -1"):
        smallest_p(-1)


@pytest.mark.parametrize(("comparisons", "alpha"), [(0, 0.05), (1, 0.0), (1, 1.0)])
def test_blocks_needed_refuses_what_has_no_answer(comparisons: int, alpha: float) -> None:
    with pytest.raises(BenchmarkError, match="but must be"):
        blocks_needed(comparisons, alpha)


# verdicts


def test_verdict_is_better_only_below_the_level() -> None:
    pair = Pair("a", "b", tuple(spread(6)), (0.0,) * 6)
    assert verdict(pair, 0.049, NOT_EQUIVALENT, higher_is_better=True) == "better"
    assert verdict(pair, 0.05, NOT_EQUIVALENT, higher_is_better=True) == "not resolved"


def test_verdict_turns_where_lower_is_better() -> None:
    pair = Pair("a", "b", tuple(spread(6)), (0.0,) * 6)
    assert verdict(pair, 0.01, NOT_EQUIVALENT, higher_is_better=False) == "worse"


def test_a_difference_that_is_shown_but_does_not_matter_is_equivalent() -> None:
    pair = Pair("a", "b", (0.001,) * 8, (0.0,) * 8)
    assert verdict(pair, 0.01, EQUIVALENT, higher_is_better=True) == "equivalent"


def test_no_difference_in_sight_is_not_equivalence() -> None:
    pair = Pair("a", "b", (0.7, 0.8, 0.6), (0.8, 0.7, 0.6))
    assert verdict(pair, 1.0, NOT_EQUIVALENT, higher_is_better=True) == "not resolved"


def test_ranks_and_mean_that_disagree_resolve_nothing() -> None:
    a = [*spread(13), -9.0]  # thirteen blocks up, one far down
    comparison = compare_two(a, [0.0] * 14)
    assert comparison.p_holm < 0.05
    assert comparison.verdict == "not resolved"
    assert "mean difference does not point the same way" in comparison.reason


# comparisons


def test_a_comparison_holds_what_was_computed_by_hand() -> None:
    comparison = compare_two([0.72, 0.75, 0.78, 0.71], [0.70, 0.71, 0.70, 0.72])
    assert (comparison.a, comparison.b, comparison.num_blocks) == ("a", "b", 4)
    assert comparison.mean_difference == pytest.approx(0.0325)  # (2 + 4 + 8 - 1) / 4 points
    assert comparison.p_value == comparison.p_holm == 0.25  # rank 1 of 4 is negative: 2 x 2 of 16
    assert comparison.probability_of_improvement is not None
    assert comparison.probability_of_improvement.value == 14 / 16  # 3.5 + 4 + 4 + 2.5 of the pairs
    assert comparison.interval is not None
    assert comparison.interval.low < 0.0325 < comparison.interval.high


def test_five_blocks_are_never_resolved_however_large_the_difference() -> None:
    comparison = compare_two(spread(5, 0.9), [0.0] * 5)
    assert (comparison.p_value, comparison.verdict) == (0.0625, "not resolved")
    assert comparison.reason == (
        "p never gets below 0.0625 with 5 blocks; it takes at least 6 for 1 comparison at 0.05; "
        "not shown to be within +-0.005 either"
    )


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, "better"), (False, "worse")])
def test_ten_blocks_that_agree_are_resolved_by_the_metrics_mode(higher_is_better: bool, expected: str) -> None:
    comparison = compare_two(spread(10, 0.3), [0.3] * 10, higher_is_better)
    assert comparison.verdict == expected
    assert comparison.reason == "Holm-corrected p 0.00195 < 0.05 over 10 blocks"
    assert comparison.mean_difference == pytest.approx(0.055)  # a - b in either mode


def test_enough_blocks_that_do_not_agree_give_their_p_as_the_reason() -> None:
    comparison = compare_two([0.1, -0.2, 0.3, -0.4, 0.5, -0.6], [0.0] * 6)
    assert comparison.reason == "Holm-corrected p 0.844 >= 0.05 over 6 blocks; not shown to be within +-0.005 either"


def test_equal_scores_are_equivalent_and_no_more() -> None:
    comparison = compare_two([0.7] * 6, [0.7] * 6)
    assert (comparison.p_value, comparison.mean_difference, comparison.verdict) == (1.0, 0.0, "equivalent")
    assert comparison.reason == "90 % interval [0, 0] of the difference lies within +-0.005"


def test_a_small_difference_that_is_shown_says_so() -> None:
    comparison = compare_two([0.7 + 0.0001 * block for block in range(1, 9)], [0.7] * 8)
    assert comparison.verdict == "equivalent"
    assert "a difference is shown (Holm-corrected p 0.00781), but it is that small" in comparison.reason


def test_the_margin_decides_on_equivalence() -> None:
    scores = {"a": blocks(*spread(5)), "b": blocks(*[0.0] * 5)}
    (wide,) = compare_pairs(scores, higher_is_better=True, margin=0.1, resamples=FEW)
    (narrow,) = compare_pairs(scores, higher_is_better=True, margin=0.02, resamples=FEW)
    assert (wide.verdict, narrow.verdict) == ("equivalent", "not resolved")


def test_one_block_is_a_difference_without_interval_or_verdict() -> None:
    comparison = compare_two([0.8], [0.7])
    assert (comparison.num_blocks, comparison.interval, comparison.p_value) == (1, None, 1.0)
    assert comparison.mean_difference == pytest.approx(0.1)
    assert comparison.verdict == "not resolved"


def test_only_blocks_that_both_have_are_compared() -> None:
    scores = {"a": {0: 0.9, 1: 0.5, 2: 0.6}, "b": {1: 0.4, 2: 0.4, 3: 0.0}}
    (comparison,) = compare_pairs(scores, higher_is_better=True, resamples=FEW)
    assert comparison.num_blocks == 2
    assert comparison.mean_difference == pytest.approx(0.15)
    assert comparison.reason.endswith("; 2 blocks left out, which only one of them has")


def test_blocks_are_paired_by_seed_whatever_their_order() -> None:
    scores = {"a": {2: 0.3, 0: 0.1, 1: 0.2}, "b": {0: 0.0, 1: 0.1, 2: 0.2}}
    (comparison,) = compare_pairs(scores, higher_is_better=True, resamples=FEW)
    assert comparison.interval is not None
    assert [comparison.interval.low, comparison.interval.high] == pytest.approx([0.1, 0.1])


def test_methods_without_a_common_block_are_a_row_with_its_reason() -> None:
    (comparison,) = compare_pairs({"a": {0: 0.9}, "b": {1: 0.4}}, higher_is_better=True, resamples=FEW)
    assert (comparison.num_blocks, comparison.mean_difference, comparison.interval) == (0, None, None)
    assert (comparison.probability_of_improvement, comparison.p_value) == (None, 1.0)
    assert comparison.verdict == "not resolved"
    assert comparison.reason.startswith("no block that both have; run both with the same seeds")


def test_all_pairs_are_compared_in_the_order_given() -> None:
    scores = {name: blocks(0.1, 0.2) for name in ("pbt", "asha", "random")}
    compared = compare_pairs(scores, higher_is_better=True, resamples=FEW)
    assert [(c.a, c.b) for c in compared] == [("pbt", "asha"), ("pbt", "random"), ("asha", "random")]


def test_a_reference_is_what_all_others_are_compared_with() -> None:
    scores = {name: blocks(0.1, 0.2) for name in ("pbt", "random", "asha")}
    compared = compare_pairs(scores, higher_is_better=True, reference="random", resamples=FEW)
    assert [(c.a, c.b) for c in compared] == [("pbt", "random"), ("asha", "random")]


def test_p_is_corrected_for_all_comparisons_made_together() -> None:
    scores = {"a": blocks(*spread(6, 0.5)), "b": blocks(*[0.0] * 6), "c": blocks(*spread(6, 2.0))}
    compared = compare_pairs(scores, higher_is_better=True, resamples=FEW)
    p_values = [comparison.p_value for comparison in compared]
    assert [comparison.p_holm for comparison in compared] == holm(p_values)
    assert compared[0].p_value == 0.03125
    assert compared[0].verdict == "not resolved"  # on its own it would be resolved


def test_comparisons_are_the_same_under_the_same_seed() -> None:
    scores = {"a": blocks(0.1, 0.5, 0.2), "b": blocks(0.3, 0.2, 0.2)}
    first, second = (compare_pairs(scores, higher_is_better=True, resamples=FEW, seed=3) for _ in range(2))
    assert first == second


def test_a_score_that_is_not_finite_is_refused_by_method_and_seed() -> None:
    scores = {"a": {0: 0.1, 7: math.nan}, "b": blocks(0.1)}
    with pytest.raises(BenchmarkError, match="the score of a with seed 7 is nan, but must be finite; leave the block"):
        compare_pairs(scores, higher_is_better=True)


def test_an_unknown_reference_is_refused_with_the_methods_there_are() -> None:
    with pytest.raises(BenchmarkError, match="reference is 'grid', but must be one of the methods: asha, random"):
        compare_pairs({"asha": blocks(0.1), "random": blocks(0.2)}, higher_is_better=True, reference="grid")


def test_one_method_is_not_compared() -> None:
    with pytest.raises(BenchmarkError, match=r"scores of 1 methods \(asha\), but a comparison needs 2"):
        compare_pairs({"asha": blocks(0.1)}, higher_is_better=True)
