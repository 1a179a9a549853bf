"""The budget of a study, and the two places where Ray Tune is held to it.

Every trial that exists is owed units: one, where the method may stop trials, so that a study ends at its budget
exactly; what is left of a full training, where it does not, so that no training begins that cannot be finished.
A new trial, or a further unit of a running one, is granted only while `spent + owed` stays within the budget, so
no trial is cut off within a unit. Failed units count: they were spent.
"""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm


class Budget:
    """Units spent and owed. Plain data: Tune pickles it with the searcher.

    Args:
        units: units that may be spent.
        units_per_trial: units a new trial is owed.
        deadline_seconds: wall-clock seconds after which no unit is granted any more; None for no cap.
    """

    def __init__(self, units: int, units_per_trial: int = 1, deadline_seconds: float | None = None) -> None:
        self.units, self.spent, self.revoked = units, 0, False
        self._units_per_trial = units_per_trial
        self._owed: dict[str, int] = {}
        self._began, self._deadline_seconds = time.monotonic(), deadline_seconds

    def grants_trial(self) -> bool:
        """Whether one more trial may exist."""
        return not self.revoked and not self._is_late() and self._committed() + self._units_per_trial <= self.units

    def grants_unit(self, trial_id: str) -> bool:
        """Whether this trial may go on for another unit."""
        return not self._is_late() and self._committed() - self._owed.get(trial_id, 0) < self.units

    def is_spent(self) -> bool:
        """Whether no trial will ever be granted again."""
        return self.revoked or self._is_late() or self.spent + self._units_per_trial > self.units

    def add_trial(self, trial_id: str) -> None:
        """A trial came to be."""
        self._owed[trial_id] = self._units_per_trial

    def add_unit(self, trial_id: str) -> None:
        """A trial spent a unit; while it lives it is owed at least one more."""
        self.spent += 1
        if trial_id in self._owed:
            self._owed[trial_id] = max(1, self._owed[trial_id] - 1)

    def end_trial(self, trial_id: str) -> None:
        """A trial ended."""
        self._owed.pop(trial_id, None)

    def revoke(self) -> None:
        """The study is interrupted: every trial is to end now, within its unit."""
        self.revoked = True

    def _committed(self) -> int:
        return self.spent + sum(self._owed.values())

    def _is_late(self) -> bool:
        return self._deadline_seconds is not None and time.monotonic() - self._began >= self._deadline_seconds


class BudgetStopper(Stopper):
    """Ends a trial at the full resource, or where the budget grants it no further unit.

    Args:
        budget: what may be spent.
        max_units: the full resource.
    """

    def __init__(self, budget: Budget, max_units: int) -> None:
        self._budget, self._max_units = budget, max_units

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Called by Tune once for every result, before the scheduler sees it."""
        self._budget.add_unit(trial_id)
        return bool(result["units"] >= self._max_units) or not self._budget.grants_unit(trial_id)

    def stop_all(self) -> bool:
        """Only an interruption ends trials within a unit."""
        return self._budget.revoked


class BudgetedSearch(SearchAlgorithm):
    """Passes a search algorithm's trials on while the budget grants them."""

    def __init__(self, inner: SearchAlgorithm, budget: Budget) -> None:
        self._inner, self._budget = inner, budget

    @property
    def metric(self) -> Any:
        """The searcher's metric; None for those that look at no metric."""
        return self._inner.metric

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        """As `SearchAlgorithm`."""
        return bool(self._inner.set_search_properties(metric, mode, config, **spec))

    @property
    def total_samples(self) -> int:
        """As `SearchAlgorithm`."""
        return int(self._inner.total_samples)

    def add_configurations(self, experiments: Any) -> None:
        """As `SearchAlgorithm`."""
        self._inner.add_configurations(experiments)

    def next_trial(self) -> Trial | None:
        """The next trial, or None while none is granted."""
        if not self._budget.grants_trial():
            return None
        trial = self._inner.next_trial()
        if trial is not None:
            self._budget.add_trial(trial.trial_id)
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """As `SearchAlgorithm`."""
        self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """As `SearchAlgorithm`; Tune calls it for every trial that ends, in whatever way."""
        self._budget.end_trial(trial_id)
        self._inner.on_trial_complete(trial_id, result=result, error=error)

    def is_finished(self) -> bool:
        """Whether no further trial will come."""
        return self._budget.is_spent() or bool(self._inner.is_finished())
