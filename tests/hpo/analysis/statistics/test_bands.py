"""Simultaneous bands: the exact probability that they hold, by hand, by integration and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.analysis.statistics import bands


def test_one_draw_has_the_interval_of_equal_tails() -> None:
    low, high = bands.shares(1, 0.95)
    assert (low.tolist(), high.tolist()) == (pytest.approx([0.025]), pytest.approx([0.975]))


def test_the_probability_of_two_draws_is_an_area() -> None:
    """The smaller in [0.1, 0.6], the larger in [0.3, 0.9]: in two orders, each the area above the diagonal."""
    area = 0.5 * 0.6 - 0.3**2 / 2  # without the triangle in which the smaller would be the larger
    assert bands.probability(np.array([0.1, 0.3]), np.array([0.6, 0.9])) == pytest.approx(2 * area)


def test_it_is_one_without_bounds_and_zero_where_ends_leave_nothing() -> None:
    assert bands.probability(np.zeros(5), np.ones(5)) == pytest.approx(1.0)
    assert bands.probability(np.full(3, 0.5), np.full(3, 0.5)) == pytest.approx(0.0)


@pytest.mark.parametrize("draws", [2, 12, 60])
def test_the_bounds_of_all_draws_hold_at_once_as_often_as_they_say(draws: int) -> None:
    low, high = bands.shares(draws, 0.9)
    assert bands.probability(low, high) == pytest.approx(0.9, abs=1e-6)
    drawn = np.sort(np.random.default_rng(draws).uniform(size=(20_000, draws)), axis=1)
    held = ((low <= drawn) & (drawn <= high)).all(axis=1).mean()
    assert held == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 20_000))


def test_more_draws_bound_closer() -> None:
    widths = [float(np.max(np.subtract(*bands.shares(draws, 0.95)[::-1]))) for draws in (10, 40, 160)]
    assert widths == sorted(widths, reverse=True)
