"""The two places where Ray Tune is held to a study's budget and to its memory: its scheduler and its search."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import SearchAlgorithm, SearchGenerator

from benchmarks.out_of_memory import sign_of
from benchmarks.spec import first_line
from hpo.core.budget import Admission, Budget, PerTrial
from hpo.core.memory.feasibility import Feasibility
from hpo.engine.checkpoints import units_lost
from hpo.search.plan import Plan

MAX_SKIPPED = 300
"""Proposals in a row that are not trained, after which a study takes no more."""
BOLD_AFTER = 100
"""Proposals in a row that are not trained, after which those are that may not fit into memory."""
SPARE_SAMPLES = 100_000
"""Proposals beyond the number of trials, in place of those that are not trained."""


class BudgetedScheduler(TrialScheduler):
    """A scheduler, held to the budget.

    Args:
        inner: decides which trials stop, pause and go on.
        admission: the reservation of a new trial; brackets are their own admission.
        budget: the units that may be spent.
        max_units: the full resource.
        feasibility: is told which trials fit into memory; None for a study without such limits.
    """

    _supports_buffered_results = False  # every unit is decided on

    def __init__(
        self,
        inner: TrialScheduler,
        admission: Admission,
        budget: Budget,
        max_units: int,
        feasibility: Feasibility | None = None,
    ) -> None:
        self._inner, self._admission, self._budget, self._max_units = inner, admission, budget, max_units
        self._feasibility = feasibility
        self._accounts: dict[str, str] = {}
        self._admitted: dict[str, int] = {}
        self._returning: list[Trial] = []
        self._returned: set[str] = set()
        self.ended_by_budget: set[str] = set()

    @property
    def metric(self) -> Any:
        """The metric by which the inner scheduler ranks."""
        return self._inner.metric

    def can_admit(self) -> bool:
        """Tell whether one more trial may be created now."""
        return not self._budget.is_closed and self._admission.cost(self._budget.free) is not None

    def admit(self, trial_id: str) -> None:
        """Take note of a trial that is created; its units are reserved as Tune adds it."""
        self._admitted[trial_id] = self._admission.cost(self._budget.free) or 0
        self._admission.admit(self._budget.free)

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
        if self._feasibility:
            self._feasibility.end(trial_id)
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
            lost_again = min(units_lost(trial), self._budget.free)
            self._budget.reserve(self._accounts[trial.trial_id], max(0, lost_again))
            self._admission.on_trial_retry(trial)
            return
        if self._feasibility:
            self._feasibility.begin(trial.trial_id, trial.config)
        self._inner.on_trial_add(tune_controller, trial)
        account = self._accounts[trial.trial_id] = self._admission.account_of(trial)
        self._budget.reserve(account, self._admitted.pop(trial.trial_id))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide on a trial; called once for every unit."""
        account = self._accounts[trial.trial_id]
        self._budget.spend(account, trial.trial_id)
        if self._feasibility:
            self._feasibility.prove(trial.trial_id, trial.config)
        try:
            decision = str(self._inner.on_trial_result(tune_controller, trial, result))
        except Exception as error:  # Tune would drop this result on the way out
            self.fail(error)
            return str(TrialScheduler.STOP)
        if result["units"] >= self._max_units or (result["diverged"] and not self._admission.replaces_diverged):
            return str(TrialScheduler.STOP)
        if decision == TrialScheduler.CONTINUE and not self._budget.can_grant(account, trial.trial_id):
            self.ended_by_budget.add(trial.trial_id)
            return str(TrialScheduler.STOP)
        if decision == TrialScheduler.CONTINUE:
            self._budget.grant(account, trial.trial_id)
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the inner scheduler's choice, if it is granted a unit."""
        while trial := self._choose(tune_controller):
            account = self._accounts[trial.trial_id]
            if self._budget.can_grant(account, trial.trial_id):
                self._budget.grant(account, trial.trial_id)
                return trial
            self._end_by_budget(tune_controller, trial)
        if not self.can_admit():
            live = [trial for trial in tune_controller.get_live_trials() if not trial.is_finished()]
            live.sort(key=lambda trial: str(trial.trial_id))
            paused = [trial for trial in live if trial.status == Trial.PAUSED]
            if self._budget.is_closed or len(paused) == len(live):  # no trial will ever be chosen again
                for trial in paused:
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
        if is_tried_again:
            return
        if self._feasibility and sign_of(raised(trial)):
            self._feasibility.lose(trial.trial_id, trial.config)
            self._drop_those_like(self._feasibility, tune_controller)
        self._inner.on_trial_error(tune_controller, trial)

    def _drop_those_like(self, feasibility: Feasibility, tune_controller: Any) -> None:
        """End trials that wait for their first actor, if they would be lost too: Tune takes one more than can run."""
        for trial in sorted(tune_controller.get_live_trials(), key=lambda trial: str(trial.trial_id)):
            is_new = trial.status == Trial.PENDING and not trial.num_failures and "units" not in trial.last_result
            if is_new and not feasibility.reconsider(trial.trial_id, trial.config):
                self._admission.on_trial_drop(trial)
                tune_controller.stop_trial(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """See `TrialScheduler`."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """See `TrialScheduler`."""
        self._inner.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """See `TrialScheduler`."""
        return str(self._inner.debug_string())


def budgeted(plan: Plan, budget: Budget, max_units: int, feasibility: Feasibility | None = None) -> BudgetedScheduler:
    """Hold a plan's scheduler to a budget, or one that lets every trial run on where the plan has none."""
    admission = plan.admission or PerTrial(1 if plan.scheduler else max_units)
    return BudgetedScheduler(plan.scheduler or FIFOScheduler(), admission, budget, max_units, feasibility)


def samples(plan: Plan) -> int:
    """Return the proposals that Tune may ask for: a plan's trials, and more in place of those that are not trained."""
    return plan.num_samples if plan.is_list else plan.num_samples + SPARE_SAMPLES


def raised(trial: Trial) -> Any:
    """Read a trial's error from the driver's own folder: Tune's getters read the storage, where it arrives later."""
    if trial.pickled_error_file and Path(trial.pickled_error_file).is_file():
        return ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return trial.get_error()


class CautiousTrial(Trial):
    """A trial that is not tried again if it ran out of memory, and has one place in Tune's sets in every run."""

    def __hash__(self) -> int:
        """Return its number; Tune's trials are hashed by their places in memory, which give each run another order."""
        return self._number

    _number = cached_property(lambda trial: int(str(trial.trial_id).rpartition("_")[2], 36))

    def should_recover(self) -> bool:
        """Tell whether to try a failed trial again; see `Trial`."""
        return bool(super().should_recover()) and not sign_of(raised(self))


class BudgetedSearch(SearchAlgorithm):
    """Search algorithm that passes another's trials on while the budget has room for them, and the memory.

    Args:
        inner: proposes configurations.
        scheduler: knows the reservation of a trial.
        feasibility: knows which proposals are worth training; None for all of them.
        max_trials: trials at most; None for as many as are proposed, of which each stands for itself.

    Attributes:
        created: trials that were passed on.
        drawn: proposals, those that were not trained included.
    """

    def __init__(
        self,
        inner: SearchAlgorithm,
        scheduler: BudgetedScheduler,
        feasibility: Feasibility | None = None,
        max_trials: int | None = None,
    ) -> None:
        self._inner, self._scheduler = inner, scheduler
        self._feasibility, self._max_trials = feasibility, max_trials
        self._live: set[str] = set()
        self.created, self.drawn = 0, 0
        self._waiting: Trial | None = None
        self._is_behind, self._is_exhausted = False, False

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

    def proposed_by_model(self, trial_id: str) -> bool | None:
        """Tell whether a model proposed a trial; None for searchers without one, which keep no such ids."""
        by_model = getattr(self.searcher, "by_model", None)
        return None if by_model is None else trial_id in by_model

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
            counted = {"counter": self.drawn, "finished": self._had_finished}
            self._inner.set_state({**self._inner.get_state(), **counted})
        elif self._is_behind:
            for _ in range(self.drawn):
                self._inner.next_trial()

    def next_trial(self) -> Trial | None:
        """Return the next trial, or None while there is no room for one."""
        if returning := self._scheduler.next_returning():
            return returning
        if self._is_full or not self._scheduler.can_admit():
            return None
        try:
            trial = self._next_feasible()
        except Exception as error:
            self._scheduler.fail(error)
            return None
        if trial is not None:
            trial.__class__ = CautiousTrial  # Tune asks the trial itself, and makes it by itself
            self._scheduler.admit(trial.trial_id)
            self._live.add(trial.trial_id)
            self.created += 1
        return trial

    @property
    def _is_full(self) -> bool:
        """Tell whether there are as many trials as the plan has, without those that are lost for want of memory."""
        lost = len(self._feasibility.lost | self._feasibility.dropped) if self._feasibility else 0
        return self._is_exhausted or (self._max_trials is not None and self.created - lost >= self._max_trials)

    def _next_feasible(self) -> Trial | None:
        """Return the next proposal that is worth training; the others are told to the searcher."""
        for skipped in range(MAX_SKIPPED):
            trial = self._propose()
            if trial is None or self._feasibility is None:
                return trial
            has_room = self._max_trials is None and not self._feasibility.is_risking
            if self._feasibility.admits(trial.config, is_bold=has_room or skipped >= BOLD_AFTER):
                return trial
            is_infeasible = self._feasibility.is_infeasible(trial.config)
            if not is_infeasible and self._feasibility.is_about_to_know:
                self._waiting = trial
                return None
            self._feasibility.skipped += 1
            self._reject(trial.trial_id, is_infeasible)
        self._is_exhausted = True
        return None

    def _propose(self) -> Trial | None:
        """Return the proposal that waits, or the inner algorithm's next."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            return waiting
        trial = self._inner.next_trial()
        self.drawn += trial is not None
        return trial

    def _reject(self, trial_id: str, is_infeasible: bool, was_trained: bool = False) -> None:
        """Tell the searcher that a proposal is not trained.

        Args:
            trial_id: Tune's id of it.
            is_infeasible: whether it does not fit into memory; otherwise it may.
            was_trained: whether it was found out by training it.
        """
        if is_infeasible and hasattr(self.searcher, "tell_infeasible"):
            self.searcher.tell_infeasible(trial_id, was_trained)
        else:
            self._inner.on_trial_complete(trial_id, error=True)

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
            if self._feasibility and trial_id in self._feasibility.lost:
                self._reject(trial_id, is_infeasible=True, was_trained=True)
            elif self._feasibility and trial_id in self._feasibility.dropped:
                self._reject(trial_id, is_infeasible=False)
            else:
                self._inner.on_trial_complete(trial_id, result=result, error=error)
        except Exception as fault:
            self._scheduler.fail(fault)

    def is_finished(self) -> bool:
        """Tell whether no further trial will come; not while one lives, since its end may leave room for another.

        Tune also ends warm actors as soon as this is true, and paused trials would need new ones.
        """
        if self._finished:  # set by Tune when the study is to end at once
            return True
        has_more = not self._is_full and not self._inner.is_finished()
        return not self._live and not (has_more and self._scheduler.can_admit())
