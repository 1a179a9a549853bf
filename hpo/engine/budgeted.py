"""The two places where Ray Tune is held to a study's budget: its scheduler and its search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import SearchAlgorithm, SearchGenerator

from benchmarks.spec import first_line
from hpo.core.budget import Admission, Budget, PerTrial
from hpo.search.plan import Plan


class BudgetedScheduler(TrialScheduler):
    """A scheduler, held to the budget.

    Args:
        inner: decides which trials stop, pause and go on.
        admission: the reservation of a new trial; brackets are their own admission.
        budget: the units that may be spent.
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
        """The metric by which the inner scheduler ranks."""
        return self._inner.metric

    def admits_trial(self) -> bool:
        """Tell whether one more trial may be created now."""
        self._cost = None if self._budget.is_closed else self._admission.admit(self._budget.free)
        return self._cost is not None

    def go_on(self, trials: Sequence[Trial]) -> None:
        """Continue the study in a new process, with these trials, which are known here already."""
        self._returning, self._returned = list(trials), {trial.trial_id for trial in trials}

    def next_returning(self) -> Trial | None:
        """Return a trial of a resumed study; Tune gets the others with it, see `on_trial_add`."""
        return self._returning.pop(0) if self._returning else None

    def fail(self, error: Exception) -> None:
        """End the study with its results so far, since a searcher or scheduler raised an error."""
        self._budget.revoke(f"{type(error).__name__}: {first_line(error)}")

    def end_trial(self, trial_id: str) -> None:
        """Release the units of a trial that ended, in any way."""
        self._budget.withdraw(trial_id)
        account = self._accounts.pop(trial_id, None)
        if account is not None and account not in self._accounts.values() and self._admission.is_over(account):
            self._budget.release(account)

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        """See `TrialScheduler`."""
        return bool(self._inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a new trial; a retried one stays in its place in the inner scheduler.

        The units of the failed attempt are reserved anew, as far as there are any. Trials of a resumed study enter all
        at once: the inner scheduler may choose any of them next.
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
        """Decide on a trial; called once for every unit."""
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
        """Return the inner scheduler's choice, if it is granted a unit."""
        while trial := self._choose(tune_controller):
            if self._budget.grants_unit(self._accounts[trial.trial_id], trial.trial_id):
                return trial
            self._end_by_budget(tune_controller, trial)
        if self._budget.is_closed:  # no trial will ever be chosen again
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
        """End a trial that failed for good; Ray's schedulers would forget one that is to be tried again."""
        is_tried_again = trial.status == Trial.ERROR  # Tune marks those first, the others afterwards
        if not is_tried_again:
            self._inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """See `TrialScheduler`."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """See `TrialScheduler`."""
        self._inner.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """See `TrialScheduler`."""
        return str(self._inner.debug_string())


def _units_lost(trial: Trial) -> int:
    """Count the units that a failed attempt had trained since its checkpoint, or since the beginning."""
    checkpoint = trial.latest_checkpoint_result
    kept = checkpoint.metrics.get("units", 0) if checkpoint else 0
    return int(trial.last_result.get("units", 0)) - int(kept)


def budgeted(plan: Plan, budget: Budget, max_units: int) -> BudgetedScheduler:
    """Hold a plan's scheduler to a budget, or one that lets every trial run on where the plan has none."""
    admission = plan.admission or PerTrial(1 if plan.scheduler else max_units)
    return BudgetedScheduler(plan.scheduler or FIFOScheduler(), admission, budget, max_units)


class Interruption(Stopper):
    """Stopper that ends a study within its units when it is interrupted."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Leave it to the scheduler to end trials."""
        return False

    def stop_all(self) -> bool:
        """Tell whether the study was interrupted."""
        return self._budget.revoked


class BudgetedSearch(SearchAlgorithm):
    """Search algorithm that passes another's trials on while the budget has room for them.

    Args:
        inner: proposes configurations.
        scheduler: knows the reservation of a trial.
    """

    def __init__(self, inner: SearchAlgorithm, scheduler: BudgetedScheduler) -> None:
        self._inner, self._scheduler = inner, scheduler
        self._live: set[str] = set()
        self.created = 0
        self._is_behind = False

    def __getstate__(self) -> dict[str, Any]:
        """Keep of the inner algorithm only its searcher, which learns from results and cannot be made again."""
        return {**self.__dict__, "_inner": self.searcher, "_had_finished": bool(self._inner.is_finished())}

    def go_on(self, fresh: SearchAlgorithm) -> None:
        """Continue the study in a new process.

        Args:
            fresh: the inner algorithm as the plan makes it. Its searcher is replaced by the stored one. An
                algorithm without a searcher ignores results, and proposes the same again.
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
        """See `SearchAlgorithm`."""
        return bool(self._inner.set_search_properties(metric, mode, config, **spec))

    @property
    def total_samples(self) -> int:
        """See `SearchAlgorithm`."""
        return int(self._inner.total_samples)

    def add_configurations(self, experiments: Any) -> None:
        """See `SearchAlgorithm`."""
        self._inner.add_configurations(experiments)
        if self._is_behind and isinstance(self._inner, SearchGenerator):
            counted = {"counter": self.created, "finished": self._had_finished}
            self._inner.set_state({**self._inner.get_state(), **counted})
        elif self._is_behind:
            for _ in range(self.created):
                self._inner.next_trial()

    def next_trial(self) -> Trial | None:
        """Return the next trial, or None while there is no room for one."""
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
        """See `SearchAlgorithm`."""
        try:
            self._inner.on_trial_result(trial_id, result)
        except Exception as error:
            self._scheduler.fail(error)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `SearchAlgorithm`; Tune calls it for every trial that ends, in any way."""
        self._live.discard(trial_id)
        self._scheduler.end_trial(trial_id)
        try:
            self._inner.on_trial_complete(trial_id, result=result, error=error)
        except Exception as fault:
            self._scheduler.fail(fault)

    def is_finished(self) -> bool:
        """Tell whether no further trial will come; not while one lives, since its end may leave room for another.

        Tune also ends warm actors as soon as this is true, and paused trials would need new ones.
        """
        if self._finished:  # set by Tune when the study is to end at once
            return True
        return not self._live and (bool(self._inner.is_finished()) or not self._scheduler.admits_trial())
