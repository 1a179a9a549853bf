"""Costs until a target where some studies never reach it: Kaplan and Meier by hand, and the expected running time."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from hpo.analysis.statistics.censored import Reaching, Spell


def known(*spells: tuple[float, bool]) -> Reaching:
    found = Reaching.of([Spell(*spell) for spell in spells])
    assert found is not None
    return found


def test_shares_are_those_of_kaplan_and_meier() -> None:
    """After the one that ends at 2 without the target, two are left; one of these arrives at 3: 1 - 3/4 * 1/2."""
    shares = known((1, True), (2, False), (3, True), (4, False)).shares()
    assert shares["cost"].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert shares["share"].tolist() == pytest.approx([0.0, 0.25, 0.625, 0.625])


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_that_of_statsmodels(seed: int) -> None:
    """Studies that arrive, and that end without, at the same cost as others among them."""
    rng = np.random.default_rng(seed)
    costs, reached = rng.integers(1, 9, size=30).astype(float), rng.random(30) < 0.6
    curve = SurvfuncRight(costs, reached.astype(int))
    shares = known(*zip(costs.tolist(), reached.tolist(), strict=True)).shares()
    assert shares["cost"].tolist() == [0.0, *curve.surv_times, costs.max()]
    assert shares["share"].tolist() == pytest.approx([0.0, *(1 - curve.surv_prob), 1 - curve.surv_prob[-1]])


def test_the_median_counts_those_that_never_arrive() -> None:
    arrived = [1.0, 2.0]
    assert known((1, True), (2, True), (9, False), (9, False), (9, False)).median is None
    assert float(np.median(arrived)) == 1.5  # of those that did, which flatters


def test_exactly_half_is_half() -> None:
    assert known((5, True), (9, False)).median == 5.0
    assert known(*[(float(n), n <= 6) for n in range(1, 13)]).median == 6.0


def test_the_expected_running_time_spreads_all_costs_over_those_that_arrive() -> None:
    found = known((2, True), (10, False), (4, True))
    assert (found.reached, found.expected_running_time) == (2, 8.0)


def test_where_none_arrives_there_is_neither() -> None:
    found = known((3, False), (4, False))
    assert (found.reached, found.median, found.expected_running_time) == (0, None, None)
    assert found.shares()["share"].max() == 0.0


def test_no_study_is_no_figure() -> None:
    assert Reaching.of([]) is None


def test_simulated_searches_that_are_cut_keep_their_median() -> None:
    """Times of an exponential with the median 10, cut at a random end: the naive median of arrivals is too early."""
    rng = np.random.default_rng(0)
    times, ends = rng.exponential(10 / np.log(2), size=2000), rng.uniform(5, 30, size=2000)
    found = known(*zip(np.minimum(times, ends).tolist(), (times <= ends).tolist(), strict=True))
    assert found.median == pytest.approx(10.0, rel=0.1)
    assert float(np.median(times[times <= ends])) < 8
    assert found.expected_running_time == pytest.approx(10 / np.log(2), rel=0.1)
