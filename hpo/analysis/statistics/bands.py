"""Exact simultaneous bands of a distribution that is known from independent draws.

The share of all draws that the i-th smallest of n is at least as large as follows Beta(i, n + 1 - i), whatever the
distribution. Intervals of equal tails for all i hold at once with a probability that depends on n alone, and which a
recursion over the places of their ends computes exactly (Moscovich and Nadler, "Fast calculation of boundary crossing
probabilities for Poisson processes", 2017, https://doi.org/10.1016/j.spl.2016.11.027). The intervals that hold with the
confidence asked for are those of Lourie, Cho and He, "Show Your Work with Confidence: Confidence Bands for Tuning
Curves", NAACL 2024, https://arxiv.org/abs/2311.09480, whose package `opda` finds them by simulation. Pure.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second
from numpy.typing import NDArray

from hpo.analysis.statistics.estimates import Floats, last_that

HALVINGS = 24
"""Halvings of the logarithm of an interval's error: its seventh digit is right then."""


@cache
def shares(draws: int, confidence: float) -> tuple[Floats, Floats]:
    """Bound the share of the distribution up to each draw, from the smallest to the largest, at once.

    Args:
        draws: number of independent draws, at least 1.
        confidence: probability that all bounds hold, in (0, 1); more if values repeat.

    Returns:
        Lower and upper bounds, (draws,) each, rising.
    """
    all_wrong = math.log1p(-confidence)  # at one place, as often as at any: too wide an interval leaves too little

    def holds(error: float) -> bool:
        return probability(*_intervals(draws, math.exp(error))) >= confidence

    return _intervals(draws, math.exp(last_that(holds, all_wrong - math.log(draws), all_wrong, HALVINGS)))


def _intervals(draws: int, error: float) -> tuple[Floats, Floats]:
    """Return for each draw the interval that its share leaves at either side with half the probability `error`."""
    place = np.arange(1, draws + 1)
    ends = (scipy.special.betaincinv(place, draws + 1 - place, tail) for tail in (error / 2, 1 - error / 2))
    low, high = map(np.asarray, ends)
    return low, high


def probability(low: Floats, high: Floats) -> float:
    """Compute the probability that each of n sorted uniform draws lies between its two ends.

    The number of draws up to a place, one after the other, is that of a Poisson process of rate n that has n points in
    all: at a lower end the draw must not have come yet, at an upper end it must. The chance of each number that breaks
    no rule is carried from end to end.

    Args:
        low: (n,) lower ends in [0, 1], rising.
        high: (n,) upper ends, rising.
    """
    draws = len(low)
    ends, is_high = np.concatenate([low, high]), np.repeat([0, 1], draws)
    order = np.lexsort((is_high, ends))
    come, begun = np.cumsum(is_high[order]), np.cumsum(1 - is_high[order])
    most = begun - (1 - is_high[order])  # the draw whose lower end this is has not come
    chances, fewest, before = np.ones(1), 0, 0.0
    for end, least, largest in zip(ends[order], come, most, strict=True):
        numbers = largest - fewest + 1
        further = _poisson(np.arange(numbers), draws * (end - before))
        chances, fewest, before = np.convolve(chances, further)[:numbers][least - fewest :], least, end
    left = draws - fewest - np.arange(len(chances))
    return float(chances @ _poisson(left, draws * (1 - before)) / _poisson(np.array(draws), float(draws)))


def _poisson(numbers: NDArray[np.int64], mean: float) -> Floats:
    """Return the probability of each number of points of a Poisson process."""
    return np.asarray(np.exp(scipy.special.xlogy(numbers, mean) - mean - scipy.special.gammaln(numbers + 1)))
