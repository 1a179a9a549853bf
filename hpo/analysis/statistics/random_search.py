"""Random search as a curve over its trainings, with exact simultaneous bands, and the worth of a score in trainings.

Random draws are independent, so the distribution of one draw's score gives that of the best of n: its median is the
score v with F(v)^n = 1/2, where F(v) is the share of draws that v is at least as good as. The bands hold the whole
distribution at once with the confidence that they name, whatever it is, see `bands`. Pure.

    found = RandomSearch.of((0.41, 0.38, 0.52, 0.47), higher_is_better=False)
    found.curve(12)
    found.worth(0.39)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hpo.analysis.statistics import bands
from hpo.analysis.statistics.estimates import CONFIDENCE, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DRAWS = 400
"""Draws that count, the first ones: the time of the bands grows with the square, and for so many is 0.3 s."""
MIN_DRAWS = 10
ROUNDING = 1e-12
"""Difference of shares that are the same."""


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
        scores: (draws,), each times `sign`, the best first.
        sign: 1 where lower scores are better, else -1.
        distributions: (3, draws + 1), the share of all draws that are at least as good as each score, none before the
            first: lower end of the band, estimate, upper end. A row's k-th value holds from the k-th score to the next.
    """

    scores: Floats
    sign: float
    distributions: Floats

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
        ordered = np.sort(sign * np.asarray(scores[:MAX_DRAWS], dtype=np.float64))
        low, high = bands.shares(len(ordered), CONFIDENCE)
        estimate = np.arange(len(ordered) + 1) / len(ordered)
        return cls(ordered, sign, np.array([[0.0, *low], estimate, [*high, 1.0]]))

    @property
    def draws(self) -> int:
        """Number of trainings that the distribution is known from."""
        return len(self.scores)

    def curve(self, trainings: int) -> pd.DataFrame:
        """Return the median of the best of 1, 2, ... trainings.

        Returns:
            `trainings`, `value`, and `low` and `high`, the ends of the band; infinite where there is none.
        """
        number = np.arange(1, trainings + 1)
        due = 1 - 0.5 ** (1 / number)
        least = (np.searchsorted(row, due - ROUNDING) for row in self.distributions)  # the first that has the share
        one, middle, other = (self.sign * np.array([-np.inf, *self.scores, np.inf])[place] for place in least)
        ends = {"low": np.minimum(one, other), "high": np.maximum(one, other)}
        return pd.DataFrame({"trainings": number, "value": middle, **ends})

    def worth(self, score: float) -> Worth:
        """Return the number of random trainings that are as good as a score."""
        reached = int(np.searchsorted(self.scores, self.sign * score, side="right"))
        low, middle, high = map(_trainings, self.distributions[:, reached].tolist())
        return Worth(middle, min(low, high), max(low, high))


def _trainings(share: float) -> float:
    """Return n such that the best of n draws is in the best `share` of all in half of all cases."""
    if share <= 0.0:
        return math.inf
    return math.log(0.5) / math.log1p(-share) if share < 1.0 else 0.0
