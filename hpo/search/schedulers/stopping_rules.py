"""Stopping rules of Ray Tune, corrected: median stopping that never pauses, and rules that let the default end.

A rule that stops single trials at any unit would leave the default, with which every method begins, unfinished where
the budget is small or other trials arrive first, so that the study could end worse than the default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from hpo.core.budget import PerTrial
from hpo.search.quantile import quantile


class UnpausedMedianRule(MedianStoppingRule):
    """Median stopping rule without pauses; Ray's pauses a trial at every unit, and each pause costs a checkpoint."""

    def _on_insufficient_samples(self, tune_controller: Any, trial: Trial, time: float) -> str:
        return str(TrialScheduler.CONTINUE)


class FirstInFull:
    """Admission that reserves a full training for the first trial, and a unit for each other; see `Admission`.

    Args:
        max_units: the full resource.
    """

    replaces_diverged = False

    def __init__(self, max_units: int) -> None:
        self._first, self._others = PerTrial(max_units), PerTrial(1)
        self._has_first = False

    def cost(self, free_units: int) -> int | None:
        """See `Admission`."""
        return (self._others if self._has_first else self._first).cost(free_units)

    def admit(self, free_units: int) -> None:
        """See `Admission`."""

    def account_of(self, trial: Trial) -> str:
        """See `Admission`."""
        self._has_first = True
        return self._others.account_of(trial)

    def is_over(self, account: str) -> bool:
        """See `Admission`."""
        return True

    def on_trial_retry(self, trial: Trial) -> None:
        """See `Admission`."""

    def on_trial_drop(self, trial: Trial) -> None:
        """See `Admission`."""


class KeepsFirst(TrialScheduler):
    """Part of a stopping rule: its first trial goes on, and is no longer told to the rule once that has stopped it."""

    _first: str | None = None
    _is_overruled = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """See `TrialScheduler`."""
        self._first = self._first or trial.trial_id
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide on a trial; see `TrialScheduler`."""
        if trial.trial_id != self._first:
            return str(super().on_trial_result(tune_controller, trial, result))
        if not self._is_overruled:
            self._is_overruled = super().on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP
        return str(TrialScheduler.CONTINUE)


class QuickBracket(_Bracket):
    """Ray's bracket of ASHA, whose percentile takes no tenth of a simulated study."""

    def cutoff(self, recorded: dict[str, float]) -> float | None:
        """Return the result at which a trial has to arrive; see `_Bracket`."""
        return percentile(recorded.values(), (1 - 1 / self.rf) * 100) if recorded else None


def percentile(values: Iterable[float], percent: float) -> float:
    """Compute a percentile as `numpy.nanpercentile` does, to the bit, without its way through arrays of any shape.

    Args:
        values: numbers, of which NaN are left out.
        percent: between 0 and 100, the latter excluded.

    Returns:
        NaN if all values are.
    """
    ordered = sorted([value for value in values if not math.isnan(value)])
    return quantile(ordered, percent / 100) if ordered else math.nan


class AshaKeepingFirst(KeepsFirst, AsyncHyperBandScheduler):
    """Ray's ASHA, which lets its first trial train to the end."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        [bracket] = self._brackets  # the method has one
        bracket.__class__ = QuickBracket
        self._bracket = bracket

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a new trial; see `TrialScheduler`. Ray's draws its bracket, of which there is one here."""
        self._first = self._first or trial.trial_id
        self._trial_info[trial.trial_id] = self._bracket


class MedianRuleKeepingFirst(KeepsFirst, UnpausedMedianRule):
    """Median stopping, which lets its first trial train to the end."""
