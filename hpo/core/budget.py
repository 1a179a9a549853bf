"""The budget of a study, and the two places where Ray Tune is held to it.

Units are reserved before they are spent. A method that may stop a trial at any unit reserves one at a time, so its
study ends at the budget exactly; one that trains to the end reserves full trainings, and one that promotes in
brackets reserves whole brackets, so neither begins what it could not finish. `BudgetedSearch` creates a trial only
where its reservation fits; `BudgetedScheduler` ends a trial at the full resource, at divergence, or where no
further unit is left. No trial is cut off within a unit. Failed units count: they were spent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm, SearchGenerator

from benchmarks.spec import first_line

INTERRUPTED = "interrupted"
"""What the reason for a study's end begins with where it can go on another time."""


class Budget:
    """Units spent and reserved, by account: a trial, or the group of trials that share a reservation.

    Args:
        units: units that may be spent.
        deadline_seconds: wall-clock seconds after which no unit is granted any more; None for no cap.
    """

    def __init__(self, units: int, deadline_seconds: float | None = None) -> None:
        self.units, self.spent, self.revoked_because = units, 0, ""
        self._reserved: dict[str, int] = {}
        self._granted: dict[str, str] = {}
        self._began, self._deadline_seconds = time.monotonic(), deadline_seconds

    @property
    def free(self) -> int:
        """Units neither spent nor reserved."""
        return self.units - self.spent - sum(self._reserved.values())

    @property
    def revoked(self) -> bool:
        """Whether the study is to end at once."""
        return bool(self.revoked_because)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is granted any more, whatever is left."""
        return self.revoked or self._is_late()

    def reserve(self, account: str, units: int) -> None:
        """Set units aside for an account, on top of what it has."""
        self._reserved[account] = self._reserved.get(account, 0) + units

    def spend(self, account: str, trial_id: str = "") -> None:
        """A unit was trained by a trial of this account."""
        self.spent += 1
        self._granted.pop(trial_id, None)
        if self._reserved.get(account, 0):
            self._reserved[account] -= 1

    def grants_unit(self, account: str, trial_id: str = "") -> bool:
        """Whether a trial may train another unit: from its account's reservation, else from what is free.

        What other trials of the account have been granted and not trained yet is theirs.
        """
        if self._is_late():
            return False
        others = sum(of == account and holder != trial_id for holder, of in self._granted.items())
        if self._reserved.get(account, 0) <= others and self.free >= 1:
            self.reserve(account, 1)
        if self._reserved.get(account, 0) <= others:
            return False
        self._granted[trial_id] = account
        return True

    def withdraw(self, trial_id: str) -> None:
        """A trial ended; what it was granted and has not trained goes back to its account."""
        self._granted.pop(trial_id, None)

    def release(self, account: str) -> None:
        """What an account has not spent is free again."""
        self._reserved.pop(account, None)

    def revoke(self, reason: str = INTERRUPTED) -> None:
        """The study is to end: every trial now, within its unit. The first reason stands."""
        self.revoked_because = self.revoked_because or reason

    def go_on(self, seconds: float, deadline_seconds: float | None) -> None:
        """The study is taken up in a new process, so many seconds after its beginning."""
        self._began, self._deadline_seconds = time.monotonic() - seconds, deadline_seconds

    def _is_late(self) -> bool:
        return self._deadline_seconds is not None and time.monotonic() - self._began >= self._deadline_seconds


def is_interruption(reason: str) -> bool:
    """Whether a study that ended for this reason can go on."""
    return reason.startswith(INTERRUPTED)


class Admission(Protocol):
    """What a new trial reserves."""

    @property
    def replaces_diverged(self) -> bool:
        """Whether the scheduler gives a diverged trial other weights to go on with, instead of ending it."""

    def admit(self, free_units: int) -> int | None:
        """Units that the next trial has to reserve, or None if it cannot begin with what is free."""

    def account_of(self, trial: Trial) -> str:
        """The account of a trial."""

    def is_over(self, account: str) -> bool:
        """Whether an account that has no live trial left will never have another."""

    def on_trial_retry(self, trial: Trial) -> None:
        """A trial has failed and is tried again, from its checkpoint or from the beginning."""


@dataclass(frozen=True)
class PerTrial:
    """Each trial reserves for itself alone.

    Attributes:
        units: 1 where the scheduler may stop trials anywhere, a full training where each is to finish.
        replaces_diverged: see `Admission`.
    """

    units: int
    replaces_diverged: bool = False

    def admit(self, free_units: int) -> int | None:
        """As `Admission`."""
        return self.units if self.units <= free_units else None

    def account_of(self, trial: Trial) -> str:
        """As `Admission`."""
        return str(trial.trial_id)

    def is_over(self, account: str) -> bool:
        """As `Admission`."""
        return True

    def on_trial_retry(self, trial: Trial) -> None:
        """As `Admission`."""


class BudgetedScheduler(TrialScheduler):
    """A scheduler, held to the budget.

    Args:
        inner: decides which trials stop, pause and go on.
        admission: what a new trial reserves; brackets are their own admission.
        budget: what may be spent.
        max_units: the full resource.
    """

    _supports_buffered_results = False  # every unit is decided on

    def __init__(self, inner: TrialScheduler, admission: Admission, budget: Budget, max_units: int) -> None:
        self._inner, self._admission, self._budget, self._max_units = inner, admission, budget, max_units
        self._accounts: dict[str, str] = {}
        self._cost: int | None = None
        self._returning: list[Trial] = []
        self._returned: set[str] = set()
        self.ended_by_budget: set[str] = set()

    @property
    def metric(self) -> Any:
        """What the inner scheduler ranks by."""
        return self._inner.metric

    def admits_trial(self) -> bool:
        """Whether one more trial may be created now."""
        self._cost = None if self._budget.is_closed else self._admission.admit(self._budget.free)
        return self._cost is not None

    def go_on(self, trials: Sequence[Trial]) -> None:
        """The study is taken up in a new process, with these trials, which are known here already."""
        self._returning, self._returned = list(trials), {trial.trial_id for trial in trials}

    def next_returning(self) -> Trial | None:
        """A trial of a study that is taken up; Tune gets the others with it, see `on_trial_add`."""
        return self._returning.pop(0) if self._returning else None

    def fail(self, error: Exception) -> None:
        """A searcher or scheduler raised: end the study with all it has found."""
        self._budget.revoke(f"{type(error).__name__}: {first_line(error)}")

    def end_trial(self, trial_id: str) -> None:
        """A trial ended, in whatever way."""
        self._budget.withdraw(trial_id)
        account = self._accounts.pop(trial_id, None)
        if account is not None and account not in self._accounts.values() and self._admission.is_over(account):
            self._budget.release(account)

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        """As `TrialScheduler`."""
        return bool(self._inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A new trial; or one that is tried again, which stays where it is in the inner scheduler.

        What the failed attempt spent is reserved anew, as far as there is any. Trials of a study that is taken up
        enter all at once: the inner scheduler may choose any of them next.
        """
        if trial.trial_id in self._returned:
            self._returned.discard(trial.trial_id)
            while other := self.next_returning():
                tune_controller.add_trial(other)
            return
        if trial.trial_id in self._accounts:
            lost_again = min(_units_lost(trial), self._budget.free)
            self._budget.reserve(self._accounts[trial.trial_id], max(0, lost_again))
            self._admission.on_trial_retry(trial)
            return
        self._inner.on_trial_add(tune_controller, trial)
        account = self._accounts[trial.trial_id] = self._admission.account_of(trial)
        self._budget.reserve(account, self._cost or 0)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Called once for every unit."""
        account = self._accounts[trial.trial_id]
        self._budget.spend(account, trial.trial_id)
        try:
            decision = str(self._inner.on_trial_result(tune_controller, trial, result))
        except Exception as error:  # Tune would drop this result on the way out
            self.fail(error)
            return str(TrialScheduler.STOP)
        if result["units"] >= self._max_units or (result["diverged"] and not self._admission.replaces_diverged):
            return str(TrialScheduler.STOP)
        if decision == TrialScheduler.CONTINUE and not self._budget.grants_unit(account, trial.trial_id):
            self.ended_by_budget.add(trial.trial_id)
            return str(TrialScheduler.STOP)
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The inner scheduler's choice, if it is granted a unit."""
        while trial := self._choose(tune_controller):
            if self._budget.grants_unit(self._accounts[trial.trial_id], trial.trial_id):
                return trial
            self._end_by_budget(tune_controller, trial)
        if self._budget.is_closed:  # nobody will ever be chosen again
            for trial in [t for t in tune_controller.get_live_trials() if t.status == Trial.PAUSED]:
                self._end_by_budget(tune_controller, trial)
        return None

    def _choose(self, tune_controller: Any) -> Trial | None:
        try:
            return self._inner.choose_trial_to_run(tune_controller)
        except Exception as error:
            self.fail(error)
            return None

    def _end_by_budget(self, tune_controller: Any, trial: Trial) -> None:
        self.ended_by_budget.add(trial.trial_id)
        tune_controller.stop_trial(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial failed for good; Ray's schedulers would forget one that is to be tried again."""
        is_tried_again = trial.status == Trial.ERROR  # Tune marks those first, the others afterwards
        if not is_tried_again:
            self._inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """As `TrialScheduler`."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """As `TrialScheduler`."""
        self._inner.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """As `TrialScheduler`."""
        return str(self._inner.debug_string())


def _units_lost(trial: Trial) -> int:
    """Units that a failed attempt had trained since its checkpoint, or since the beginning."""
    checkpoint = trial.latest_checkpoint_result
    kept = checkpoint.metrics.get("units", 0) if checkpoint else 0
    return int(trial.last_result.get("units", 0)) - int(kept)


class Interruption(Stopper):
    """Ends a study within its units when it is interrupted."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """The scheduler ends trials."""
        return False

    def stop_all(self) -> bool:
        """Whether the study was interrupted."""
        return self._budget.revoked


class BudgetedSearch(SearchAlgorithm):
    """Passes a search algorithm's trials on while the budget has room for them.

    Args:
        inner: proposes configurations.
        scheduler: knows what a trial reserves.
    """

    def __init__(self, inner: SearchAlgorithm, scheduler: BudgetedScheduler) -> None:
        self._inner, self._scheduler = inner, scheduler
        self._live: set[str] = set()
        self.created = 0
        self._is_behind = False

    def __getstate__(self) -> dict[str, Any]:
        """Of the inner algorithm what learns from results, and so cannot be made again: its searcher."""
        return {**self.__dict__, "_inner": self.searcher, "_had_finished": bool(self._inner.is_finished())}

    def go_on(self, fresh: SearchAlgorithm) -> None:
        """The study is taken up in a new process.

        Args:
            fresh: the inner algorithm as the plan makes it. Its searcher is replaced by the one that was kept; one
                that has none does not look at results, and proposes again what it has proposed.
        """
        self._inner = fresh if self._inner is None else SearchGenerator(self._inner)
        self._is_behind = True

    @property
    def searcher(self) -> Any:
        """The searcher, which BOHB's scheduler speaks with; None for algorithms that have none."""
        return getattr(self._inner, "searcher", None)

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
        if self._is_behind and isinstance(self._inner, SearchGenerator):
            counted = {"counter": self.created, "finished": self._had_finished}
            self._inner.set_state({**self._inner.get_state(), **counted})
        elif self._is_behind:
            for _ in range(self.created):
                self._inner.next_trial()

    def next_trial(self) -> Trial | None:
        """The next trial, or None while there is no room for one."""
        if returning := self._scheduler.next_returning():
            return returning
        if not self._scheduler.admits_trial():
            return None
        try:
            trial = self._inner.next_trial()
        except Exception as error:
            self._scheduler.fail(error)
            return None
        if trial is not None:
            self._live.add(trial.trial_id)
            self.created += 1
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """As `SearchAlgorithm`."""
        try:
            self._inner.on_trial_result(trial_id, result)
        except Exception as error:
            self._scheduler.fail(error)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """As `SearchAlgorithm`; Tune calls it for every trial that ends, in whatever way."""
        self._live.discard(trial_id)
        self._scheduler.end_trial(trial_id)
        try:
            self._inner.on_trial_complete(trial_id, result=result, error=error)
        except Exception as fault:
            self._scheduler.fail(fault)

    def is_finished(self) -> bool:
        """Whether no further trial will come; not while one lives, since its end may leave room for another.

        Tune also ends warm actors as soon as this is true, and paused trials would need new ones.
        """
        if self._finished:  # set by Tune when the study is to end at once
            return True
        return not self._live and (bool(self._inner.is_finished()) or not self._scheduler.admits_trial())
