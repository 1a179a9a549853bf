"""Random search as a curve over its trainings, with exact simultaneous bands, and the worth of a score in trainings.

Random draws are independent, so the distribution of one draw's score gives that of the best of n: its median is the
score v with F(v)^n = 1/2, where F(v) is the share of draws that v is at least as good as. The bands hold the whole
distribution at once with the confidence that they name, whatever it is (Lourie, Cho and He, "Show Your Work with
Confidence: Confidence Bands for Tuning Curves", NAACL 2024, https://arxiv.org/abs/2311.09480). `opda` computes them.
Pure.

    found = RandomSearch.of((0.41, 0.38, 0.52, 0.47), higher_is_better=False)
    found.curve(12)
    found.worth(0.39)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hpo.analysis.statistics.estimates import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

METHOD = "ld_equal_tailed"
"""Bands whose error is spread over all of the distribution: those of Kolmogorov are too wide at its best end."""
MAX_DRAWS = 120
"""Draws that bands are computed for, the first ones: with three times as many they take twenty times as long."""
MIN_DRAWS = 10
SEED = 0
"""Seed of the simulation by which `opda` finds the level of the bands."""


@dataclass(frozen=True)
class Worth:
    """The number of random trainings whose best is as good as a score, in the median.

    Attributes:
        trainings: estimate; infinite for a score that is better than every draw.
        low: lower end of the simultaneous band.
        high: upper end; infinite where the draws do not bound it.
    """

    trainings: float
    low: float
    high: float


@dataclass(frozen=True)
class RandomSearch:
    """The distribution of one random training's score.

    Attributes:
        draws: number of trainings that it is known from.
        sign: 1 where lower scores are better, else -1.
        bands: distributions at the lower end of the band, as estimated, and at the upper end, of scores times `sign`.
    """

    draws: int
    sign: float
    bands: tuple[Any, Any, Any]

    @classmethod
    def of(cls, scores: Sequence[float], higher_is_better: bool) -> RandomSearch | None:
        """Estimate the distribution; None from fewer than `MIN_DRAWS` scores.

        Args:
            scores: one of each random training, the worst there is for those that diverged.
            higher_is_better: the metric's direction.
        """
        if len(scores) < MIN_DRAWS:
            return None
        sign = -1.0 if higher_is_better else 1.0
        kept = tuple(sign * score for score in scores[:MAX_DRAWS])
        return cls(len(kept), sign, _bands(kept))

    def curve(self, trainings: int) -> pd.DataFrame:
        """Return the median of the best of 1, 2, ... trainings.

        Returns:
            `trainings`, `value`, and `low` and `high`, the ends of the band; infinite where there is none.
        """
        number = np.arange(1, trainings + 1)
        one, middle, other = (
            self.sign * np.asarray(band.quantile_tuning_curve(number, q=0.5, minimize=True)) for band in self.bands
        )
        ends = {"low": np.minimum(one, other), "high": np.maximum(one, other)}
        return pd.DataFrame({"trainings": number, "value": middle, **ends})

    def worth(self, score: float) -> Worth:
        """Return the number of random trainings that are as good as a score."""
        low, middle, high = (_trainings(float(one.cdf(self.sign * score))) for one in self.bands)
        return Worth(middle, min(low, high), max(low, high))


@cache
def _bands(scores: tuple[float, ...]) -> tuple[Any, Any, Any]:
    from opda.nonparametric import EmpiricalDistribution

    settings = {"method": METHOD, "generator": np.random.default_rng(SEED), "n_jobs": 1}
    with warnings.catch_warnings():  # of scores that are equal: bands are then wider than need be, never narrower
        warnings.filterwarnings("ignore", "Duplicates detected", RuntimeWarning)
        found: tuple[Any, Any, Any] = EmpiricalDistribution.confidence_bands(np.array(scores), CONFIDENCE, **settings)
    return found


def _trainings(share: float) -> float:
    """Return n such that the best of n draws is in the best `share` of all in half of all cases."""
    if share <= 0.0:
        return math.inf
    return math.log(0.5) / math.log1p(-share) if share < 1.0 else 0.0
