"""The best method, and its score without the luck of having been chosen: by hand, and where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.selection import Selection, choose_best, common_blocks


def blocks(*scores: float) -> dict[int, float]:
    return dict(enumerate(scores))


def best(scores: dict[str, dict[int, float]], **settings: object) -> Selection:
    return choose_best(scores, settings.pop("costs", {}), **{"higher_is_better": True, **settings})  # type: ignore[arg-type]


def test_the_best_mean_wins_and_those_shown_to_be_worse_are_told_apart() -> None:
    found = best(
        {
            "far": blocks(*(0.1 + 0.01 * block for block in range(8))),
            "best": blocks(*(0.7 + 0.011 * block for block in range(8))),
            "near": blocks(*(0.7 + 0.011 * block + (-1) ** block * 0.01 * (1 + block) for block in range(8))),
        }
    )
    assert (found.winner, found.not_worse, found.worse) == ("best", ("near",), ("far",))
    assert (found.blocks, found.num_rivals, found.is_cheaper) == (tuple(range(8)), 3, False)
    assert found.score == pytest.approx(0.7385)


@pytest.mark.parametrize(("high", "low"), [(0.205, 0.2), (0.705, 0.7)])
def test_means_that_differ_by_the_margin_are_no_tie(high: float, low: float) -> None:
    """The difference of one of the two is less than 0.005 by rounding."""
    found = best({"dear": blocks(high, high), "cheap": blocks(low, low)}, costs={"dear": 2.0, "cheap": 1.0})
    assert (found.winner, found.is_cheaper) == ("dear", False)


def test_a_loss_is_turned() -> None:
    found = best({"a": blocks(0.3, 0.5), "b": blocks(0.2, 0.4)}, higher_is_better=False)
    assert (found.winner, found.score) == ("b", pytest.approx(0.3))
    assert found.corrected == pytest.approx(0.3)  # each half chooses it


def test_methods_that_lack_blocks_are_left_out_however_high_their_one_score_is() -> None:
    six = [0.5, 0.6, 0.7, 0.5, 0.6, 0.7]
    found = best({"lucky": blocks(0.99), "a": blocks(*six), "b": blocks(*(score - 0.1 for score in six))})
    assert (found.winner, found.left_out) == ("a", {"lucky": 5})


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([{0, 1, 2}, {0, 1, 2}, {0}], (0, 1, 2)),
        ([{0, 1, 2, 3}, {0, 1, 2, 3, 4, 5}], (0, 1, 2, 3)),  # a verdict takes two
        ([{0, 1, 2}, {1, 2, 3}], (1, 2)),
        ([{0, 1}, {0, 1}, {5, 6}], (0, 1)),
        ([{7}], (7,)),
        ([], ()),
    ],
)
def test_the_blocks_that_choose_are_those_by_which_most_is_known(
    own: list[set[int]], expected: tuple[int, ...]
) -> None:
    assert common_blocks({str(name): dict.fromkeys(found, 0.5) for name, found in enumerate(own)}) == expected


def test_cost_breaks_a_tie() -> None:
    scores = {"dear": blocks(0.704, 0.70), "cheap": blocks(0.70, 0.70), "worse": blocks(0.6, 0.6)}
    costs = {"dear": 10.0, "cheap": 1.0, "worse": 0.1}
    found = best(scores, costs=costs, margin=0.005)
    assert (found.winner, found.is_cheaper, found.score) == ("cheap", True, pytest.approx(0.70))
    assert best(scores, costs=costs, margin=0.001).winner == "dear"  # no tie any more


def test_half_of_the_blocks_choose_and_the_other_half_reports() -> None:
    """Each method wins two of four blocks: halves that choose well report ill."""
    found = best({"a": blocks(1.0, 1.0, 0.0, 0.0), "b": blocks(0.0, 0.0, 1.0, 1.0)})
    # six halvings: {0, 1} and {2, 3} choose a method that then scores 0; in the other four both methods score 0.5
    assert found.score == 0.5
    assert found.corrected == pytest.approx((2 * 0.0 + 4 * 0.5) / 6)


def test_a_single_block_has_no_correction() -> None:
    assert best({"a": blocks(0.5), "b": blocks(0.4)}).corrected is None


def test_methods_of_which_one_always_wins_need_no_correction() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random(15)
    found = best({"a": blocks(*(shared + 1)), "b": blocks(*shared)})
    assert found.corrected == pytest.approx(found.score)


def test_the_corrected_score_of_alike_methods_is_right_on_average_and_the_plain_one_flatters() -> None:
    rng = np.random.default_rng(1)
    drawn = [best({str(m): blocks(*scores) for m, scores in enumerate(rng.normal(size=(8, 6)))}) for _ in range(150)]
    assert np.mean([one.score for one in drawn]) > 0.4
    assert abs(np.mean([one.corrected or 0.0 for one in drawn])) < 0.1


def test_the_truly_best_method_is_seldom_called_worse() -> None:
    """It is better than the others by less than its noise, so that another often wins."""
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(200):
        scores = rng.normal(size=(6, 10))
        scores[0] += 0.2
        missed += "0" in best({str(method): blocks(*row) for method, row in enumerate(scores)}).worse
    assert missed <= 10


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no method has a score"):
        best({})
