"""The budget of a study: what it grants, and how Ray Tune is held to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search import BasicVariantGenerator

from hpo.budget import Budget, BudgetedSearch, BudgetStopper


def searching(budget: Budget, folder: Path, num_samples: int) -> BudgetedSearch:
    """A random search with `num_samples` proposals, held to `budget`."""
    search = BudgetedSearch(BasicVariantGenerator(random_state=0), budget)
    space = {"learning_rate": tune.uniform(0.0, 1.0)}
    experiment = Experiment("study", tune.Trainable, config=space, num_samples=num_samples, storage_path=str(folder))
    search.add_configurations([experiment])
    return search


class TestBudget:
    @pytest.mark.parametrize("units", [1, 2, 9])
    def test_grants_as_many_trials_as_there_are_units(self, units: int) -> None:
        budget = Budget(units)
        granted = 0
        while budget.grants_trial():
            budget.add_trial(str(granted))
            granted += 1
        assert granted == units

    def test_one_trial_may_spend_every_unit(self) -> None:
        budget = Budget(4)
        budget.add_trial("a")
        spent = 1
        budget.add_unit("a")
        while budget.grants_unit("a"):
            budget.add_unit("a")
            spent += 1
        assert spent == 4
        assert budget.is_spent()

    def test_a_running_trial_is_refused_the_unit_that_another_is_owed(self) -> None:
        budget = Budget(2)
        budget.add_trial("a")
        budget.add_trial("b")
        budget.add_unit("a")
        assert not budget.grants_unit("a")

    def test_the_last_trial_is_granted_what_the_others_left(self) -> None:
        budget = Budget(3)
        budget.add_trial("a")
        budget.add_trial("b")
        budget.add_unit("a")
        budget.end_trial("a")
        budget.add_unit("b")
        assert budget.grants_unit("b")

    def test_a_trial_that_fails_before_its_unit_frees_it(self) -> None:
        budget = Budget(1)
        budget.add_trial("a")
        assert not budget.grants_trial()
        budget.end_trial("a")
        assert budget.grants_trial()

    def test_ending_a_trial_twice_frees_one_unit_only(self) -> None:
        budget = Budget(2)
        budget.add_trial("a")
        budget.add_trial("b")
        budget.end_trial("a")
        budget.end_trial("a")
        budget.add_trial("c")
        assert not budget.grants_trial()

    def test_units_spent_by_a_trial_that_ended_stay_spent(self) -> None:
        budget = Budget(1)
        budget.add_trial("a")
        budget.add_unit("a")
        budget.end_trial("a")
        assert not budget.grants_trial()

    def test_a_trial_owed_a_full_training_leaves_no_room_for_one_that_could_not_be_finished(self) -> None:
        budget = Budget(18, units_per_trial=9)
        budget.add_trial("a")
        budget.add_unit("a")
        assert budget.grants_trial()
        budget.add_trial("b")
        assert not budget.grants_trial()
        budget.end_trial("a")  # diverged after one unit: eight are left beyond what b is owed
        assert not budget.grants_trial()
        for _ in range(8):
            budget.add_unit("b")
            assert budget.grants_unit("b")

    def test_revoking_stops_new_trials(self) -> None:
        budget = Budget(10)
        budget.revoke()
        assert not budget.grants_trial()
        assert budget.is_spent()

    def test_no_deadline_means_no_cap(self) -> None:
        assert Budget(1, deadline_seconds=None).grants_trial()

    def test_a_deadline_ahead_grants(self) -> None:
        assert Budget(1, deadline_seconds=3600.0).grants_trial()

    def test_a_deadline_that_has_passed_stops_trials_units_and_the_study(self) -> None:
        budget = Budget(10, deadline_seconds=0.01)
        budget.add_trial("a")
        time.sleep(0.02)
        assert not budget.grants_trial()
        assert not budget.grants_unit("a")
        assert budget.is_spent()


class TestBudgetStopper:
    def test_ends_a_trial_at_the_full_resource(self) -> None:
        stopper = BudgetStopper(Budget(100), max_units=3)
        assert [stopper("a", {"units": units}) for units in (1, 2, 3)] == [False, False, True]

    def test_ends_a_trial_whose_next_unit_is_not_granted(self) -> None:
        stopper = BudgetStopper(Budget(2), max_units=9)
        assert [stopper("a", {"units": units}) for units in (1, 2)] == [False, True]

    def test_counts_the_units_of_all_trials(self) -> None:
        budget = Budget(100)
        stopper = BudgetStopper(budget, max_units=9)
        for trial in ("a", "b", "a"):
            stopper(trial, {"units": 1})
        assert budget.spent == 3

    def test_a_spent_budget_ends_no_trial_within_its_unit(self) -> None:
        budget = Budget(1)
        budget.add_unit("a")
        assert not BudgetStopper(budget, max_units=9).stop_all()

    def test_a_revoked_budget_ends_all_trials_at_once(self) -> None:
        budget = Budget(100)
        budget.revoke()
        assert BudgetStopper(budget, max_units=9).stop_all()


class TestBudgetedSearch:
    def test_passes_on_as_many_trials_as_are_granted(self, tmp_path: Path) -> None:
        search = searching(Budget(3), tmp_path, num_samples=8)
        trials = [search.next_trial() for _ in range(8)]
        assert [trial is not None for trial in trials] == [True] * 3 + [False] * 5

    def test_passes_on_no_more_than_the_searcher_has(self, tmp_path: Path) -> None:
        search = searching(Budget(100), tmp_path, num_samples=2)
        trials = [search.next_trial() for _ in range(4)]
        assert [trial is not None for trial in trials] == [True, True, False, False]

    def test_a_trial_that_failed_before_its_unit_is_replaced(self, tmp_path: Path) -> None:
        search = searching(Budget(1), tmp_path, num_samples=8)
        first = search.next_trial()
        assert first is not None
        assert search.next_trial() is None
        search.on_trial_complete(first.trial_id, error=True)
        assert search.next_trial() is not None

    def test_a_trial_that_spent_its_unit_is_not_replaced(self, tmp_path: Path) -> None:
        budget = Budget(1)
        search = searching(budget, tmp_path, num_samples=8)
        first = search.next_trial()
        assert first is not None
        budget.add_unit("a")
        search.on_trial_complete(first.trial_id, result={"units": 1})
        assert search.next_trial() is None

    def test_a_refused_trial_is_not_lost(self, tmp_path: Path) -> None:
        """The searcher is not asked while nothing is granted, so its proposals come in the same order later."""
        budget = Budget(1)
        search = searching(budget, tmp_path / "held", num_samples=3)
        configs = []
        for _ in range(3):
            trial = search.next_trial()
            assert trial is not None
            assert search.next_trial() is None
            configs.append(trial.config)
            search.on_trial_complete(trial.trial_id, error=True)
        free = searching(Budget(100), tmp_path / "free", num_samples=3)
        trials = [free.next_trial() for _ in range(3)]
        assert configs == [trial.config for trial in trials if trial is not None]

    def test_is_not_finished_while_units_are_left(self, tmp_path: Path) -> None:
        search = searching(Budget(2), tmp_path, num_samples=8)
        search.next_trial()
        search.next_trial()
        assert not search.is_finished()

    def test_is_finished_once_the_budget_is_spent(self, tmp_path: Path) -> None:
        budget = Budget(1)
        search = searching(budget, tmp_path, num_samples=8)
        search.next_trial()
        budget.add_unit("a")
        assert search.is_finished()

    def test_is_finished_once_the_searcher_is(self, tmp_path: Path) -> None:
        search = searching(Budget(100), tmp_path, num_samples=1)
        search.next_trial()
        search.next_trial()
        assert search.is_finished()

    def test_knows_how_many_trials_the_searcher_may_propose(self, tmp_path: Path) -> None:
        assert searching(Budget(1), tmp_path, num_samples=8).total_samples == 8

    @pytest.mark.parametrize(("units", "trials", "units_per_trial"), [(9, 3, 3), (10, 4, 3), (7, 7, 1), (5, 1, 9)])
    def test_a_serial_study_spends_its_budget_exactly(
        self, tmp_path: Path, units: int, trials: int, units_per_trial: int
    ) -> None:
        budget = Budget(units)
        search, stopper = searching(budget, tmp_path, num_samples=100), BudgetStopper(budget, units_per_trial)
        ran = 0
        while not search.is_finished():
            trial = search.next_trial()
            assert trial is not None
            ran += 1
            reached = 1
            while not stopper(trial.trial_id, {"units": reached}):
                reached += 1
            search.on_trial_complete(trial.trial_id, result={"units": reached})
        assert (budget.spent, ran) == (units, trials)

    @pytest.mark.parametrize("units", [4, 5, 9, 10])
    def test_four_trials_side_by_side_spend_the_budget_exactly(self, tmp_path: Path, units: int) -> None:
        budget = Budget(units)
        search, stopper = searching(budget, tmp_path, num_samples=100), BudgetStopper(budget, max_units=3)
        running: dict[str, int] = {}
        while not search.is_finished():
            while len(running) < 4 and (trial := search.next_trial()):
                running[trial.trial_id] = 0
            for trial_id in list(running):
                running[trial_id] += 1
                if stopper(trial_id, {"units": running[trial_id]}):
                    del running[trial_id]
                    search.on_trial_complete(trial_id, result={"units": 3})
        assert not running
        assert budget.spent == units
