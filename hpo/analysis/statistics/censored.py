"""Costs until a target, of studies of which some never reached it. Pure.

The median of those that did flatters a method that seldom does. Two figures count the others too:

- the median of Kaplan and Meier (1958, https://doi.org/10.1080/01621459.1958.10501452): the cost at which half of all
  studies have reached the target, taken from `statsmodels`; there is none if fewer do;
- the expected running time (Hansen et al. 2009, https://hal.inria.fr/inria-00362633): the cost of all studies, divided
  by the number of those that reached it, as if a study that did not were followed by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

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
        curve = self._curve()
        is_half = np.asarray(curve.surv_prob) <= HALF
        return float(np.asarray(curve.surv_times)[is_half][0]) if is_half.any() else None

    @property
    def expected_running_time(self) -> float | None:
        """Cost of all studies, divided by the number of those that reached the target; None if none did."""
        return sum(spell.cost for spell in self.spells) / self.reached if self.reached else None

    def shares(self) -> pd.DataFrame:
        """Return the share of studies that have reached the target, by Kaplan and Meier.

        Returns:
            `cost` and `share`, one row per step, from 0 at no cost to the last cost of a study.
        """
        curve, last = self._curve(), max(spell.cost for spell in self.spells)
        share = 1.0 - np.asarray(curve.surv_prob)
        final = float(share[-1]) if len(share) else 0.0
        return pd.DataFrame({"cost": [0.0, *curve.surv_times, last], "share": [0.0, *share, final]})

    def _curve(self) -> Any:
        from statsmodels.duration.survfunc import SurvfuncRight  # half a second, which only units that were kept need

        costs = np.array([spell.cost for spell in self.spells])
        return SurvfuncRight(costs, np.array([spell.has_reached for spell in self.spells], dtype=int))
