"""Random search as a curve: its median, the coverage of its bands, and the worth of a score."""

from __future__ import annotations

import math
import statistics
import warnings

import numpy as np
import pytest

from hpo.analysis.statistics.estimates import CONFIDENCE
from hpo.analysis.statistics.random_search import MAX_DRAWS, RandomSearch

SCORES = [float(n) for n in range(1, 21)]


def known(scores: list[float], higher_is_better: bool = False) -> RandomSearch:
    found = RandomSearch.of(scores, higher_is_better)
    assert found is not None
    return found


def test_the_curve_is_the_median_of_the_best_of_so_many_draws() -> None:
    curve = known(SCORES).curve(5)
    rng = np.random.default_rng(0)
    for number, value in zip(curve["trainings"], curve["value"], strict=True):
        best = rng.choice(SCORES, size=(4001, number)).min(axis=1)
        assert value == pytest.approx(float(np.median(best)), abs=1.0)
    assert curve["value"].is_monotonic_decreasing


def test_higher_is_better_mirrors_it() -> None:
    low, high = known(SCORES).curve(5), known([-score for score in SCORES], higher_is_better=True).curve(5)
    assert (-high["value"]).tolist() == low["value"].tolist()
    assert (-high["high"]).tolist() == low["low"].tolist()


def test_a_score_is_worth_as_many_trainings_as_reach_it_in_half_of_all_cases() -> None:
    worth = known(SCORES).worth(2.0)  # one draw in ten is as good
    assert worth.trainings == pytest.approx(math.log(0.5) / math.log(0.9))
    assert worth.low < worth.trainings < worth.high


def test_the_curve_and_the_worth_agree() -> None:
    found = known(SCORES)
    curve = found.curve(40).set_index("trainings")["value"]
    for score in (1.0, 2.0, 3.0, 6.0):
        trainings = found.worth(score).trainings
        assert curve[math.ceil(trainings)] <= score < curve[math.floor(trainings)]


def test_a_score_better_than_every_draw_has_a_lower_end_alone() -> None:
    worth = known(SCORES).worth(0.5)
    assert math.isinf(worth.trainings)
    assert math.isinf(worth.high)
    assert 1 < worth.low < 20


def test_few_draws_tell_nothing_and_very_many_are_cut() -> None:
    assert RandomSearch.of(SCORES[:9], higher_is_better=False) is None
    assert known(np.random.default_rng(0).uniform(size=MAX_DRAWS + 1).tolist()).draws == MAX_DRAWS == 400


@pytest.mark.slow
def test_it_is_opda_s_within_the_error_of_its_simulation() -> None:
    """Estimates to rounding, ends of the band as far as the level that it simulates is off; scores that repeat too."""
    from opda.nonparametric import EmpiricalDistribution

    scores = np.random.default_rng(1).uniform(size=24).round(1)
    with warnings.catch_warnings():  # of scores that are equal
        warnings.simplefilter("ignore", RuntimeWarning)
        made = {"method": "ld_equal_tailed", "generator": np.random.default_rng(0), "n_jobs": 1}
        bands = EmpiricalDistribution.confidence_bands(scores, CONFIDENCE, **made)
    found, numbers = known(scores.tolist()), np.arange(1, 41)
    curves = [band.quantile_tuning_curve(numbers, q=0.5, minimize=True) for band in bands]
    curve = found.curve(40)
    assert curve["value"].tolist() == curves[1].tolist()
    assert (curve["low"] == np.minimum(curves[0], curves[2])).mean() > 0.9
    assert (curve["high"] == np.maximum(curves[0], curves[2])).mean() > 0.9
    for score in (-1.0, 0.0, 0.15, 0.3, 0.5, 2.0):
        reached = int(np.searchsorted(found.scores, score, side="right"))
        for row, band in zip(found.distributions, bands, strict=True):
            assert row[reached] == pytest.approx(float(band.cdf(score)), abs=1e-3)


@pytest.mark.slow
def test_bands_hold_the_whole_curve_as_often_as_they_say() -> None:
    """The true median of the best of n uniform draws is 1 - 0.5^(1/n), and the bands hold all n at once."""
    true, held = np.array([1 - 0.5 ** (1 / n) for n in range(1, 16)]), []
    for seed in range(100):
        curve = known(np.random.default_rng(seed).uniform(size=12).tolist()).curve(15)
        held.append(bool(((curve["low"] <= true) & (true <= curve["high"])).all()))
    assert 0.88 <= statistics.fmean(held) <= 1.0
