"""Ray Tune's scheduler under a budget: decisions, reservations, retries, and the end of a study."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from hpo.core.budget import Budget, PerTrial
from hpo.engine.runner import Interruption
from tests.hpo.engine.budgeted.parts import CONTINUE, PAUSE, STOP, Parts, Shared, make_study


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
