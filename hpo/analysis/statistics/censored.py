"""Costs until a target, of studies of which some never reached it. Pure.

The median of those that did flatters a method that seldom does. Two figures count the others too:

- the median of Kaplan and Meier (1958, https://doi.org/10.1080/01621459.1958.10501452): the cost at which half of all
  studies have reached the target; there is none if fewer do. `statsmodels` has the same curve, at half a second for its
  import;
- the expected running time (Hansen et al. 2009, https://hal.inria.fr/inria-00362633): the cost of all studies, divided
  by the number of those that reached it, as if a study that did not were followed by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpo.analysis.statistics.estimates import Floats

HALF = 0.5 + 1e-12
"""Share that is left where half have arrived, whatever products of shares round to."""


@dataclass(frozen=True)
class Spell:
    """A study on its way to a target.

    Attributes:
        cost: until it reached the target, or until it ended.
        has_reached: whether it reached the target.
    """

    cost: float
    has_reached: bool


@dataclass(frozen=True)
class Reaching:
    """Studies of one method on their way to a target, the number of which is at least 1.

    Attributes:
        spells: one per study.
    """

    spells: tuple[Spell, ...]

    @classmethod
    def of(cls, spells: Sequence[Spell]) -> Reaching | None:
        """Collect the studies of a method; None without any."""
        return cls(tuple(spells)) if spells else None

    @property
    def reached(self) -> int:
        """Number of studies that reached the target."""
        return sum(spell.has_reached for spell in self.spells)

    @property
    def median(self) -> float | None:
        """Cost at which half of all studies have reached the target; None if fewer ever do."""
        costs, left = self._curve()
        is_half = left <= HALF
        return float(costs[is_half][0]) if is_half.any() else None

    @property
    def expected_running_time(self) -> float | None:
        """Cost of all studies, divided by the number of those that reached the target; None if none did."""
        return sum(spell.cost for spell in self.spells) / self.reached if self.reached else None

    def shares(self) -> pd.DataFrame:
        """Return the share of studies that have reached the target, by Kaplan and Meier.

        Returns:
            `cost` and `share`, one row per step, from 0 at no cost to the last cost of a study.
        """
        costs, left = self._curve()
        share, last = [0.0, *(1.0 - left)], max(spell.cost for spell in self.spells)
        return pd.DataFrame({"cost": [0.0, *costs, last], "share": [*share, share[-1]]})

    def _curve(self) -> tuple[Floats, Floats]:
        """Return the costs at which studies reached the target, rising, and the share that is left after each."""
        costs = np.array([spell.cost for spell in self.spells])
        arrived, arrivals = np.unique([spell.cost for spell in self.spells if spell.has_reached], return_counts=True)
        under_way = (costs[:, np.newaxis] >= arrived).sum(axis=0)
        return arrived, np.cumprod(1.0 - arrivals / under_way)
