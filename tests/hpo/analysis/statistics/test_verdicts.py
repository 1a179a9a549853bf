"""Verdicts over blocks: decided by hand, and no claim that the blocks do not bear."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.paired_tests import blocks_needed, holm, signed_rank_p
from hpo.analysis.statistics.verdicts import Comparison, Pair, Scored, compare_others, compare_pairs, verdict

FEW = 300
"""Resamples where the interval's exact ends do not matter."""
NOT_EQUIVALENT, EQUIVALENT = 1.0, 0.01
"""Corrected p of equivalence."""


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


# verdicts


def test_blocks_that_differ_by_rounding_are_tied() -> None:
    """Else the reason counts them as evidence that the test does not have."""
    a, b = ({**dict.fromkeys(range(8), score), 8: last} for score, last in ((0.1 + 0.2, 0.5), (0.3, 0.4)))
    [pair] = compare_pairs({"a": a, "b": b}, higher_is_better=True, margin=1e-20)
    assert "p never gets below 1 with 1 block without ties" in pair.reason


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
    assert comparison.interval is None  # of four blocks


def test_the_interval_is_student_s_t_of_the_differences() -> None:
    differences = [0.02, 0.04, 0.08, -0.01, 0.03]
    interval = compare_two(differences, [0.0] * 5).interval
    assert interval is not None
    half = 2.776445 * statistics.stdev(differences) / math.sqrt(5)  # t at 0.975 with 4 degrees of freedom
    assert [interval.low, interval.high] == pytest.approx([0.032 - half, 0.032 + half])


def test_five_blocks_are_never_resolved_however_large_the_difference() -> None:
    comparison = compare_two(spread(5, 0.9), [0.0] * 5)
    assert (comparison.p_value, comparison.verdict) == (0.0625, "not resolved")
    assert comparison.reason == (
        "p never gets below 0.0625 with 5 blocks; it takes at least 6 for 1 comparison at 0.05; "
        "nor is it shown to be below 0.005 as a rule (0 of 5 are)"
    )


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, "better"), (False, "worse")])
def test_ten_blocks_that_agree_are_resolved_by_the_metrics_mode(higher_is_better: bool, expected: str) -> None:
    comparison = compare_two(spread(10, 0.3), [0.3] * 10, higher_is_better)
    assert comparison.verdict == expected
    assert comparison.reason == "Holm-corrected p 0.00195 < 0.05 over 10 blocks"
    assert comparison.mean_difference == pytest.approx(0.055)  # a - b in either mode


def test_enough_blocks_that_do_not_agree_give_their_p_as_the_reason() -> None:
    comparison = compare_two([0.1, -0.2, 0.3, -0.4, 0.5, -0.6], [0.0] * 6)
    assert comparison.reason == (
        "Holm-corrected p 0.844 >= 0.05 over 6 blocks; nor is it shown to be below 0.005 as a rule (0 of 6 are)"
    )


def test_equal_scores_are_equivalent_and_no_more() -> None:
    comparison = compare_two([0.7] * 6, [0.7] * 6)
    assert (comparison.p_value, comparison.mean_difference, comparison.verdict) == (1.0, 0.0, "equivalent")
    assert comparison.reason == (
        "the difference is below 0.005 in 6 of 6 blocks (Holm-corrected p 0.0156); it may lie beyond in up to 39% of "
        "all"
    )


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
    scores = {"a": {2: 0.3, 0: 0.1, 1: 0.2, 4: 0.5, 3: 0.4}, "b": {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}}
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


def test_equivalence_is_corrected_for_all_comparisons_made_together() -> None:
    scores = {name: blocks(*[0.7] * 5) for name in ("a", "b", "c")}
    compared = compare_pairs(scores, higher_is_better=True, resamples=FEW)
    assert [comparison.p_equivalence_holm for comparison in compared] == pytest.approx([3 / 32] * 3)
    assert {comparison.verdict for comparison in compared} == {"not resolved"}  # each on its own is equivalent


def test_a_difference_that_is_large_in_some_blocks_and_shown_is_no_equivalence() -> None:
    comparison = compare_two([0.7 + 0.0001 * block for block in range(14)] + [0.9] * 6, [0.69999] * 20)
    assert comparison.p_equivalence_holm > 0.05  # 14 of 20
    more = compare_two([0.7 + 0.0001 * block for block in range(16)] + [0.9] * 4, [0.69999] * 20)
    assert more.p_equivalence_holm < 0.05
    assert (more.verdict, more.mean_difference) == ("better", pytest.approx(0.0406, abs=1e-3))
    assert more.reason.endswith("over 20 blocks; by less than 0.005 in 16 of them, so by much in a few")


def test_a_rare_large_difference_is_told_by_its_bound_and_not_denied() -> None:
    comparison = compare_two([0.7] * 11 + [0.0], [0.7] * 12)
    assert comparison.verdict == "equivalent"
    assert comparison.mean_difference == pytest.approx(-0.7 / 12)
    assert "in 11 of 12 blocks" in comparison.reason
    assert "beyond in up to 34% of all" in comparison.reason


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


# looks, ties and other metrics


def test_each_of_several_looks_has_its_share_of_the_level() -> None:
    scores = {"a": dict(enumerate(spread(6, 0.3))), "b": dict.fromkeys(range(6), 0.3)}
    [once] = compare_pairs(scores, higher_is_better=True)
    [often] = compare_pairs(scores, higher_is_better=True, looks=4)
    assert (once.p_holm, once.verdict) == (0.03125, "better")
    assert (often.p_holm, often.verdict) == (0.125, "not resolved")
    assert "takes at least 8 for 1 comparison and 4 looks at 0.05" in often.reason


@pytest.mark.slow
def test_looking_at_growing_data_finds_false_winners_unless_the_looks_were_planned() -> None:
    """The level of each of 15 looks, from 6 to 20 blocks, at differences that are noise alone."""
    rng, plain, planned = np.random.default_rng(0), 0, 0
    for differences in rng.normal(size=(400, 20)):
        p_values = [signed_rank_p(differences[:n].tolist(), [0.0] * n) for n in range(6, 21)]
        plain += min(p_values) < 0.05
        planned += 15 * min(p_values) < 0.05
    assert plain / 400 > 0.1
    assert planned / 400 <= 0.05


def test_blocks_that_tie_are_not_counted_as_evidence() -> None:
    comparison = compare_two([*spread(5, 0.3), *[0.3] * 7], [0.3] * 12)
    assert "0.0625 with 5 blocks without ties; it takes at least 6 for 1 comparison" in comparison.reason


def test_other_metrics_are_corrected_together_with_the_first() -> None:
    six = dict(enumerate(spread(6, 0.3)))
    first = Scored({"a": six, "b": dict.fromkeys(six, 0.3)}, True)
    [alone] = compare_pairs(first.scores, higher_is_better=True)
    [[one], [other]] = compare_others(first, [first, Scored(first.scores, False)])
    assert (alone.verdict, one.verdict, other.verdict) == ("better", "not resolved", "not resolved")
    assert one.p_holm == other.p_holm == pytest.approx(3 * alone.p_holm)
    assert "takes at least 7 for 3 comparisons" in one.reason
