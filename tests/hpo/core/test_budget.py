"""The budget of a study: what it grants, and how Ray Tune is held to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Experiment, Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from hpo.core.budget import Admission, Budget, PerTrial
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch, Interruption

CONTINUE, PAUSE, STOP = TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP


class TestBudget:
    @pytest.mark.parametrize("units", [1, 2, 9])
    def test_an_account_without_a_reservation_is_granted_every_free_unit(self, units: int) -> None:
        budget = Budget(units)
        spent = 0
        while budget.grants_unit("a"):
            budget.spend("a")
            spent += 1
        assert (spent, budget.spent, budget.free) == (units, units, 0)

    def test_reserved_units_are_not_free(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        assert (budget.free, budget.spent) == (5, 0)

    def test_spending_uses_the_reservation_up(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.spend("a")
        assert (budget.free, budget.spent) == (5, 1)

    def test_a_reservation_adds_to_what_an_account_has(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.reserve("a", 2)
        assert budget.free == 3

    def test_an_account_is_granted_its_reservation_where_nothing_is_free(self) -> None:
        budget = Budget(2)
        budget.reserve("a", 2)
        for _ in range(2):
            assert budget.grants_unit("a")
            budget.spend("a")
        assert not budget.grants_unit("a")

    def test_an_account_is_refused_what_another_has_reserved(self) -> None:
        budget = Budget(2)
        budget.reserve("b", 1)
        assert budget.grants_unit("a")
        budget.spend("a")
        assert not budget.grants_unit("a")
        assert budget.grants_unit("b")

    def test_an_account_is_granted_what_another_has_released(self) -> None:
        budget = Budget(2)
        budget.reserve("b", 2)
        assert not budget.grants_unit("a")
        budget.release("b")
        assert budget.grants_unit("a")

    def test_a_granted_unit_is_not_granted_to_another_account_as_well(self) -> None:
        budget = Budget(1)
        assert budget.grants_unit("a")
        assert not budget.grants_unit("b")

    def test_asking_twice_for_the_same_unit_reserves_one(self) -> None:
        budget = Budget(3)
        budget.grants_unit("a")
        budget.grants_unit("a")
        assert budget.free == 2

    def test_what_one_trial_of_an_account_was_granted_is_not_another_s(self) -> None:
        budget = Budget(2)
        budget.reserve("a", 2)
        assert [budget.grants_unit("a", trial) for trial in ("1", "2", "3")] == [True, True, False]
        budget.spend("a", "1")
        assert not budget.grants_unit("a", "1")
        assert budget.grants_unit("a", "2")

    def test_what_an_ended_trial_was_granted_goes_back_to_its_account(self) -> None:
        budget = Budget(1)
        budget.reserve("a", 1)
        assert budget.grants_unit("a", "1")
        budget.withdraw("1")
        assert budget.grants_unit("a", "2")

    def test_releasing_frees_what_has_not_been_spent(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.spend("a")
        budget.release("a")
        assert (budget.free, budget.spent) == (8, 1)

    def test_releasing_twice_frees_once(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.reserve("b", 4)
        budget.release("a")
        budget.release("a")
        assert budget.free == 5

    def test_an_unknown_account_may_be_released(self) -> None:
        """That of a trial which ended before it began."""
        budget = Budget(9)
        budget.release("a")
        assert budget.free == 9

    def test_no_deadline_means_no_cap(self) -> None:
        budget = Budget(1, deadline_seconds=None)
        assert not budget.is_closed
        assert budget.grants_unit("a")

    def test_a_deadline_ahead_changes_nothing(self) -> None:
        budget = Budget(1, deadline_seconds=3600.0)
        assert not budget.is_closed
        assert budget.grants_unit("a")

    def test_after_the_deadline_nothing_is_granted_reserved_units_included(self) -> None:
        budget = Budget(9, deadline_seconds=0.01)
        budget.reserve("a", 4)
        time.sleep(0.02)
        assert budget.is_closed
        assert not budget.revoked
        assert not budget.grants_unit("a")
        assert not budget.grants_unit("b")

    def test_a_revoked_budget_is_closed(self) -> None:
        budget = Budget(9)
        budget.revoke()
        assert budget.is_closed
        assert budget.revoked
        assert budget.revoked_because == "interrupted"

    def test_the_first_reason_to_revoke_stands(self) -> None:
        budget = Budget(9)
        budget.revoke("the searcher raised")
        budget.revoke()
        assert budget.revoked_because == "the searcher raised"

    def test_a_budget_is_neither_closed_nor_revoked_by_being_spent(self) -> None:
        """What runs may still end well."""
        budget = Budget(1)
        budget.spend("a")
        assert not budget.is_closed
        assert not budget.revoked


class TestPerTrial:
    @pytest.mark.parametrize(("units", "free", "admitted"), [(1, 1, 1), (1, 0, None), (9, 9, 9), (9, 8, None)])
    def test_a_trial_begins_where_its_reservation_fits(self, units: int, free: int, admitted: int | None) -> None:
        assert PerTrial(units).admit(free) == admitted

    def test_accounts_are_not_shared(self, tmp_path: Path) -> None:
        one, other = make_study(tmp_path, Budget(9)).create(2)
        assert PerTrial(1).account_of(one) != PerTrial(1).account_of(other)

    def test_an_account_is_over_with_its_trial(self) -> None:
        assert PerTrial(1).is_over("a")


class TestInterruption:
    def test_a_spent_budget_ends_no_trial_within_its_unit(self) -> None:
        budget = Budget(1)
        budget.spend("a")
        assert not Interruption(budget).stop_all()

    def test_a_late_budget_ends_no_trial_within_its_unit(self) -> None:
        assert not Interruption(Budget(9, deadline_seconds=0.0)).stop_all()

    def test_a_revoked_budget_ends_all_at_once(self) -> None:
        budget = Budget(9)
        interruption = Interruption(budget)
        budget.revoke()
        assert interruption.stop_all()

    def test_single_trials_are_left_to_the_scheduler(self) -> None:
        budget = Budget(9)
        budget.revoke()
        assert not Interruption(budget)("a", {"units": 9})


# ---- scheduler and search, with trials that nobody trains


class Deciding(FIFOScheduler):
    """Decides as it is told; goes on by default."""

    def __init__(self) -> None:
        super().__init__()
        self.decision: str = CONTINUE

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return self.decision


@dataclass
class Shared:
    """One account for all trials, with one reservation, made by the first."""

    units: int
    is_complete: bool = True
    replaces_diverged: bool = False
    has_begun: bool = field(default=False, init=False)
    retried: list[Trial] = field(default_factory=list, init=False)

    def admit(self, free_units: int) -> int | None:
        if self.has_begun:
            return 0
        return self.units if self.units <= free_units else None

    def account_of(self, trial: Trial) -> str:
        self.has_begun = True
        return "shared"

    def is_over(self, account: str) -> bool:
        return self.is_complete

    def on_trial_retry(self, trial: Trial) -> None:
        self.retried.append(trial)


@dataclass
class Parts:
    """Scheduler and search of a study, and the part of Tune's controller that they speak with."""

    budget: Budget
    inner: Deciding
    scheduler: BudgetedScheduler
    search: BudgetedSearch
    trials: list[Trial] = field(default_factory=list)

    def create(self, number: int = 1) -> list[Trial]:
        """New trials, as many as are admitted and no more than `number`."""
        created: list[Trial] = []
        while len(created) < number and (trial := self.search.next_trial()):
            self.scheduler.on_trial_add(self, trial)
            created.append(trial)
        self.trials += created
        return created

    def report(self, trial: Trial, units: int, diverged: bool = False) -> str:
        """Report a trained unit; a trial that is to stop ends."""
        decision = self.scheduler.on_trial_result(self, trial, {"units": units, "diverged": diverged})
        if decision == STOP:
            self.stop_trial(trial)
        return decision

    # ---- as Tune's controller

    def get_trials(self) -> list[Trial]:
        return self.trials

    def get_live_trials(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.is_finished()]

    def stop_trial(self, trial: Trial) -> None:
        trial.set_status(Trial.TERMINATED)
        self.scheduler.on_trial_remove(self, trial)
        self.search.on_trial_complete(trial.trial_id)


def make_study(
    folder: Path, budget: Budget, admission: Admission | None = None, max_units: int = 9, num_samples: int = 100
) -> Parts:
    inner = Deciding()
    scheduler = BudgetedScheduler(inner, admission or PerTrial(1), budget, max_units)
    search = BudgetedSearch(BasicVariantGenerator(random_state=0), scheduler)
    space = {"learning_rate": tune.uniform(0.0, 1.0)}
    experiment = Experiment("study", tune.Trainable, config=space, num_samples=num_samples, storage_path=str(folder))
    search.add_configurations([experiment])
    return Parts(budget, inner, scheduler, search)


class TestDecisions:
    def test_a_trial_ends_at_the_full_resource(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(100), max_units=3)
        [trial] = study.create()
        assert [study.report(trial, units) for units in (1, 2, 3)] == [CONTINUE, CONTINUE, STOP]
        assert study.scheduler.ended_by_budget == set()

    @pytest.mark.parametrize("decision", [CONTINUE, PAUSE])
    def test_it_ends_there_whatever_the_scheduler_decides(self, tmp_path: Path, decision: str) -> None:
        study = make_study(tmp_path, Budget(100), max_units=3)
        [trial] = study.create()
        study.inner.decision = decision
        assert study.report(trial, units=3) == STOP

    @pytest.mark.parametrize("decision", [CONTINUE, PAUSE])
    def test_a_trial_ends_where_it_diverges(self, tmp_path: Path, decision: str) -> None:
        study = make_study(tmp_path, Budget(100))
        [trial] = study.create()
        study.inner.decision = decision
        assert study.report(trial, units=2, diverged=True) == STOP
        assert study.scheduler.ended_by_budget == set()

    def test_a_diverged_trial_waits_where_the_scheduler_will_replace_it(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(100), PerTrial(9, replaces_diverged=True))
        [trial] = study.create()
        study.inner.decision = PAUSE
        assert study.report(trial, units=2, diverged=True) == PAUSE

    @pytest.mark.parametrize("decision", [PAUSE, STOP])
    def test_the_scheduler_s_decision_stands(self, tmp_path: Path, decision: str) -> None:
        study = make_study(tmp_path, Budget(100))
        [trial] = study.create()
        study.inner.decision = decision
        assert study.report(trial, units=1) == decision
        assert study.scheduler.ended_by_budget == set()

    def test_a_trial_whose_next_unit_is_not_granted_is_ended_by_the_budget(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(2))
        [trial] = study.create()
        assert [study.report(trial, units) for units in (1, 2)] == [CONTINUE, STOP]
        assert study.scheduler.ended_by_budget == {trial.trial_id}

    def test_a_trial_that_is_to_pause_needs_no_unit(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(1))
        [trial] = study.create()
        study.inner.decision = PAUSE
        assert study.report(trial, units=1) == PAUSE

    def test_the_units_of_all_trials_count(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(100))
        one, other = study.create(2)
        for trial in (one, other, one):
            study.report(trial, units=1)
        assert study.budget.spent == 3

    def test_a_late_trial_is_ended_by_the_budget_after_its_unit(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(100, deadline_seconds=0.2), PerTrial(9))
        [trial] = study.create()
        time.sleep(0.2)
        assert study.report(trial, units=1) == STOP
        assert study.scheduler.ended_by_budget == {trial.trial_id}

    def test_the_last_unit_of_a_shared_reservation_goes_to_one_of_its_trials(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(3), Shared(units=3))
        one, other = study.create(2)
        assert [study.report(one, units=1), study.report(other, units=1)] == [CONTINUE, STOP]

    def test_a_scheduler_that_raises_ends_the_study_and_says_why(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(100))
        [trial] = study.create()
        del study.inner.decision
        assert study.report(trial, units=1) == STOP
        assert study.budget.spent == 1
        assert study.budget.revoked_because.startswith("AttributeError: ")


class TestChoosing:
    def test_the_scheduler_s_choice_runs(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(9))
        [trial] = study.create()
        assert study.scheduler.choose_trial_to_run(study) is trial

    def test_a_choice_that_no_unit_is_left_for_is_ended_by_the_budget(self, tmp_path: Path) -> None:
        """A paused trial, for example, whose units others have used up."""
        study = make_study(tmp_path, Budget(1), Shared(units=1))
        one, other = study.create(2)
        other.set_status(Trial.PAUSED)
        study.report(one, units=1)
        assert study.scheduler.choose_trial_to_run(study) is None
        assert other.status == Trial.TERMINATED
        assert study.scheduler.ended_by_budget == {one.trial_id, other.trial_id}

    def test_after_the_deadline_trials_that_nobody_chooses_are_ended_too(self, tmp_path: Path) -> None:
        """A paused trial that waits for others would wait for ever."""
        study = make_study(tmp_path, Budget(100, deadline_seconds=0.2), PerTrial(9))
        paused, new = study.create(2)
        paused.set_status(Trial.PAUSED)
        time.sleep(0.2)
        assert study.scheduler.choose_trial_to_run(study) is None
        assert {paused.status, new.status} == {Trial.TERMINATED}
        assert study.scheduler.ended_by_budget == {paused.trial_id, new.trial_id}
        assert study.search.is_finished()


class TestReservations:
    def test_a_trial_reserves_what_its_admission_asks(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), PerTrial(9))
        study.create()
        assert study.budget.free == 11

    def test_a_trial_that_ends_early_releases_the_rest(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), PerTrial(9))
        [trial] = study.create()
        study.report(trial, units=1, diverged=True)
        assert (study.budget.spent, study.budget.free) == (1, 19)

    def test_a_shared_reservation_is_made_once(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), Shared(units=12))
        study.create(3)
        assert study.budget.free == 8

    def test_a_shared_reservation_is_released_with_its_last_trial(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), Shared(units=12))
        one, other = study.create(2)
        study.stop_trial(one)
        assert study.budget.free == 8
        study.stop_trial(other)
        assert study.budget.free == 20

    def test_a_shared_reservation_is_kept_for_trials_to_come(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), Shared(units=12, is_complete=False))
        [only] = study.create()
        study.stop_trial(only)
        assert study.budget.free == 8


class TestRetries:
    """A trial that fails and is tried again; Tune adds it once more."""

    def test_the_units_of_the_failed_attempt_are_reserved_anew(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), PerTrial(9))
        [trial] = study.create()
        self.train(study, trial, range(1, 4))
        study.scheduler.on_trial_add(study, trial)
        assert (study.budget.spent, study.budget.free) == (3, 8)

    def test_units_that_its_checkpoint_holds_are_not(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), PerTrial(9))
        [trial] = study.create()
        self.train(study, trial, range(1, 4))
        trial.on_checkpoint(_TrainingResult(Checkpoint(tmp_path), dict(trial.last_result)))
        self.train(study, trial, range(4, 6))
        study.scheduler.on_trial_add(study, trial)
        assert (study.budget.spent, study.budget.free) == (5, 20 - 9 - 2)

    def test_no_more_is_reserved_than_is_free(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(10), PerTrial(9))
        [trial] = study.create()
        self.train(study, trial, range(1, 4))
        study.scheduler.on_trial_add(study, trial)
        assert (study.budget.spent, study.budget.free) == (3, 0)

    def test_the_budget_ends_what_the_rest_does_not_suffice_for(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(10), PerTrial(9))
        [trial] = study.create()
        self.train(study, trial, range(1, 4))
        study.scheduler.on_trial_add(study, trial)
        assert self.train(study, trial, range(1, 8)) == [CONTINUE] * 6 + [STOP]
        assert study.budget.spent == 10
        assert study.scheduler.ended_by_budget == {trial.trial_id}

    def test_those_who_wait_for_it_are_told(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), admission := Shared(units=9))
        [trial] = study.create()
        study.scheduler.on_trial_add(study, trial)
        assert admission.retried == [trial]

    def test_a_trial_that_failed_before_its_first_unit_has_lost_none(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(20), PerTrial(9))
        [trial] = study.create()
        study.scheduler.on_trial_add(study, trial)
        assert study.budget.free == 11

    def train(self, study: Parts, trial: Trial, units: range) -> list[str]:
        decisions = []
        for unit in units:
            trial.update_last_result({"units": unit})
            decisions.append(study.report(trial, unit))
        return decisions


class TestSearch:
    def test_passes_on_as_many_trials_as_are_admitted(self, tmp_path: Path) -> None:
        assert len(make_study(tmp_path, Budget(20), PerTrial(9)).create(8)) == 2

    def test_passes_on_no_more_than_the_searcher_has(self, tmp_path: Path) -> None:
        assert len(make_study(tmp_path, Budget(100), num_samples=2).create(4)) == 2

    def test_a_trial_that_ended_before_its_unit_is_replaced(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(1))
        [first] = study.create(8)
        study.search.on_trial_complete(first.trial_id, error=True)
        assert len(study.create(8)) == 1

    def test_a_trial_that_spent_its_unit_is_not_replaced(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(1))
        [first] = study.create(8)
        study.report(first, units=1)
        assert study.create(8) == []

    def test_a_refused_trial_is_not_lost(self, tmp_path: Path) -> None:
        """The searcher is not asked while nothing is granted, so its proposals come in the same order later."""
        held, free = make_study(tmp_path / "held", Budget(1)), make_study(tmp_path / "free", Budget(100))
        configs = []
        for _ in range(3):
            [trial] = held.create(8)
            configs.append(trial.config)
            held.search.on_trial_complete(trial.trial_id, error=True)
        assert configs == [trial.config for trial in free.create(3)]

    @pytest.mark.parametrize("why", ["late", "revoked"])
    def test_nothing_is_passed_on_once_the_budget_is_closed(self, tmp_path: Path, why: str) -> None:
        budget = Budget(100, deadline_seconds=0.0 if why == "late" else None)
        if why == "revoked":
            budget.revoke()
        study = make_study(tmp_path, budget)
        assert study.create() == []
        assert study.search.is_finished()

    def test_is_not_finished_while_a_trial_lives(self, tmp_path: Path) -> None:
        """Neither with the budget reserved nor with the searcher at its end: the trial's units may become free."""
        study = make_study(tmp_path, Budget(9), PerTrial(9), num_samples=1)
        study.create(8)
        assert not study.search.is_finished()

    def test_is_finished_once_the_searcher_is(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(9), num_samples=1)
        [trial] = study.create(8)
        study.stop_trial(trial)
        assert study.search.is_finished()

    def test_is_not_finished_while_units_are_left(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(2))
        [trial] = study.create()
        study.stop_trial(trial)
        assert not study.search.is_finished()

    def test_is_finished_once_the_budget_is_spent(self, tmp_path: Path) -> None:
        study = make_study(tmp_path, Budget(1))
        [trial] = study.create()
        study.report(trial, units=1)
        assert study.search.is_finished()

    def test_is_finished_where_tune_ends_the_study_even_if_trials_live(self, tmp_path: Path) -> None:
        """Tune reports none of them as completed then."""
        study = make_study(tmp_path, Budget(9))
        study.create(3)
        study.search.set_finished()
        assert study.search.is_finished()

    def test_knows_how_many_trials_the_searcher_may_propose(self, tmp_path: Path) -> None:
        assert make_study(tmp_path, Budget(1), num_samples=8).search.total_samples == 8

    def test_a_searcher_that_raises_ends_the_study_and_says_why(self) -> None:
        scheduler = BudgetedScheduler(FIFOScheduler(), PerTrial(1), budget := Budget(9), max_units=9)
        search = BudgetedSearch(Raising(), scheduler)
        assert search.next_trial() is None
        assert budget.revoked_because == "RuntimeError: no idea"
        assert search.is_finished()


class Raising(BasicVariantGenerator):
    """Has no proposal."""

    def next_trial(self) -> Trial | None:
        raise RuntimeError("no idea")


class TestSpendingItAll:
    """Whole studies of trials that train nothing, to the last unit."""

    @pytest.mark.parametrize(("units", "trials", "max_units"), [(9, 3, 3), (10, 4, 3), (7, 7, 1), (5, 1, 9)])
    def test_trials_that_may_be_stopped_spend_the_budget_exactly(
        self, tmp_path: Path, units: int, trials: int, max_units: int
    ) -> None:
        study = make_study(tmp_path, Budget(units), max_units=max_units)
        self.train(study, side_by_side=1)
        assert (study.budget.spent, study.budget.free, len(study.trials)) == (units, 0, trials)

    @pytest.mark.parametrize("units", [4, 5, 9, 10])
    def test_four_side_by_side_spend_it_exactly(self, tmp_path: Path, units: int) -> None:
        study = make_study(tmp_path, Budget(units), max_units=3)
        self.train(study, side_by_side=4)
        assert (study.budget.spent, study.budget.free) == (units, 0)

    @pytest.mark.parametrize("side_by_side", [1, 4])
    def test_trials_that_run_to_the_end_leave_what_would_not_suffice(self, tmp_path: Path, side_by_side: int) -> None:
        study = make_study(tmp_path, Budget(11), PerTrial(3), max_units=3)
        self.train(study, side_by_side)
        assert (study.budget.spent, study.budget.free, len(study.trials)) == (9, 2, 3)
        assert study.scheduler.ended_by_budget == set()

    def train(self, study: Parts, side_by_side: int) -> None:
        units: dict[Trial, int] = {}
        while not study.search.is_finished():
            live = study.get_live_trials()
            for trial in live + study.create(side_by_side - len(live)):
                units[trial] = units.get(trial, 0) + 1
                study.report(trial, units[trial])
