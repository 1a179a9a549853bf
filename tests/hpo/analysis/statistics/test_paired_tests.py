"""Paired tests over blocks: values computed by hand, by scipy and by counting all signs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics import paired_tests
from hpo.analysis.statistics.paired_tests import blocks_needed, equivalence, holm, signed_rank_p, smallest_p


def spread(number: int, start: float = 0.0) -> list[float]:
    """So many different values above `start`, without ties among their differences from it."""
    return [start + 0.01 * (1 + block) for block in range(number)]


def enumerated_p(differences: Sequence[int]) -> float:
    """Two-sided signed-rank p by setting all signs, Pratt's zeros: the definition, in the slowest way."""
    sizes = np.abs(differences)
    ranks = scipy_stats.rankdata(sizes) * (sizes > 0)
    observed = float(ranks[np.array(differences) > 0].sum())
    sums = [float(np.dot(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(ranks))]
    upper, lower = sum(s >= observed for s in sums), sum(s <= observed for s in sums)
    return min(1.0, 2 * min(upper, lower) / len(sums))


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


@pytest.mark.parametrize("blocks", [1, 5, 12, 40])
def test_coins_are_scipy_s(blocks: int) -> None:
    """The p of so many heads or more, and Clopper and Pearson's bound of tails."""
    for within in range(blocks + 1):
        tails = scipy_stats.binomtest(blocks - within, blocks, alternative="less").proportion_ci(0.95)
        heads = scipy_stats.binomtest(within, blocks, 0.5, alternative="greater").pvalue
        assert paired_tests._of_coins(within, blocks) == pytest.approx((heads, tails.high), rel=1e-9)


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


def test_holm_agrees_with_statsmodels() -> None:
    p_values = np.random.default_rng(5).random(30).round(2).tolist()  # with ties
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


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


def test_blocks_within_the_margin_are_counted() -> None:
    a = [0.701, 0.712, 0.689, 0.700, 0.721, 0.733]
    b = [0.700, 0.713, 0.690, 0.702, 0.720, 0.742]
    result = equivalence(a, b, 0.005)
    assert (result.within, result.num_blocks) == (5, 6)
    assert result.p_value == pytest.approx((6 + 1) / 2**6)  # 5 or 6 of 6 fair coins


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("score", [0.3, 0.7, 1.0])
def test_a_difference_of_exactly_the_margin_is_not_within_it(sign: int, score: float) -> None:
    assert equivalence([score + sign * 0.005] * 8, [score] * 8, 0.005).within == 0


@pytest.mark.parametrize(("number", "p_value"), [(0, 1.0), (1, 0.5), (4, 1 / 16), (5, 1 / 32)])
def test_equivalence_takes_five_blocks_even_if_nothing_differs(number: int, p_value: float) -> None:
    assert equivalence([0.7] * number, [0.7] * number).p_value == pytest.approx(p_value)


def test_twelve_blocks_within_leave_room_for_a_fifth_beyond() -> None:
    assert equivalence([0.7] * 12, [0.7] * 12).beyond_at_most == pytest.approx(1 - 0.05 ** (1 / 12))  # 22 %


def test_the_share_beyond_is_bounded_by_clopper_and_pearson() -> None:
    result = equivalence([0.0] * 10 + [0.5, 0.5], [0.0] * 12)
    assert result.beyond_at_most == pytest.approx(scipy_stats.beta.ppf(0.95, 3, 10))


def test_where_half_of_all_blocks_lie_beyond_equivalence_is_claimed_at_most_one_time_in_twenty() -> None:
    beyond = np.random.default_rng(0).random((400, 12)) < 0.5
    p_values = [equivalence(np.where(row, 0.3, 0.0).tolist(), [0.0] * 12).p_value for row in beyond]
    assert np.mean(np.array(p_values) < 0.05) <= 0.05


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


def test_a_negative_number_of_blocks_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="num_blocks is -1"):
        smallest_p(-1)


@pytest.mark.parametrize(("comparisons", "alpha"), [(0, 0.05), (1, 0.0), (1, 1.0)])
def test_blocks_needed_refuses_what_has_no_answer(comparisons: int, alpha: float) -> None:
    with pytest.raises(BenchmarkError, match="but must be"):
        blocks_needed(comparisons, alpha)
