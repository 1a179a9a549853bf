"""Random state of one's own: drawn from undisturbed, and disturbing nobody."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hpo.search.randomness import OwnRandomness

Draw = tuple[float, float]


def draw() -> Draw:
    """Draw a number from each global generator."""
    return random.random(), float(np.random.random())


def draw_borrowed(randomness: OwnRandomness) -> Draw:
    with randomness.borrowed():
        return draw()


def draw_and_fail(randomness: OwnRandomness) -> None:
    with randomness.borrowed():
        draw()
        raise RuntimeError("broken")


def test_one_seed_gives_one_sequence() -> None:
    one, other = OwnRandomness(5), OwnRandomness(5)
    assert [draw_borrowed(one) for _ in range(3)] == [draw_borrowed(other) for _ in range(3)]


def test_another_seed_gives_another_sequence() -> None:
    (python, numpy), (other_python, other_numpy) = draw_borrowed(OwnRandomness(5)), draw_borrowed(OwnRandomness(6))
    assert python != other_python
    assert numpy != other_numpy


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_any_seed_of_a_study_may_be_given(seed: int) -> None:
    assert draw_borrowed(OwnRandomness(seed)) == draw_borrowed(OwnRandomness(seed))


def test_the_sequence_goes_on_where_it_got_to() -> None:
    pieces = OwnRandomness(5)
    with OwnRandomness(5).borrowed():
        whole = [draw() for _ in range(4)]
    assert [draw_borrowed(pieces) for _ in range(4)] == whole
    assert len(set(whole)) == 4


def test_draws_of_others_do_not_change_it() -> None:
    alone = OwnRandomness(5)
    expected = [draw_borrowed(alone) for _ in range(3)]
    disturbed, found = OwnRandomness(5), []
    for seed in range(3):
        random.seed(seed)
        np.random.seed(seed)
        draw()
        found.append(draw_borrowed(disturbed))
    assert found == expected


def test_two_do_not_change_each_other() -> None:
    alone = OwnRandomness(5)
    expected = [draw_borrowed(alone) for _ in range(3)]
    one, other, found = OwnRandomness(5), OwnRandomness(6), []
    for _ in range(3):
        found.append(draw_borrowed(one))
        draw_borrowed(other)
    assert found == expected


def test_it_does_not_change_the_draws_of_others() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = [draw() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    randomness, found = OwnRandomness(5), []
    for _ in range(3):
        draw_borrowed(randomness)
        found.append(draw())
    assert found == expected


def test_the_global_state_comes_back_after_an_error_too() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = draw()
    random.seed(1)
    np.random.seed(1)
    randomness = OwnRandomness(5)
    with pytest.raises(RuntimeError, match="broken"):
        draw_and_fail(randomness)
    assert draw() == expected


def test_the_sequence_goes_on_after_an_error() -> None:
    broken, sound = OwnRandomness(5), OwnRandomness(5)
    with pytest.raises(RuntimeError, match="broken"):
        draw_and_fail(broken)
    draw_borrowed(sound)
    assert draw_borrowed(broken) == draw_borrowed(sound)
