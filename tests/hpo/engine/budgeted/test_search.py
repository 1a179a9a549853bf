"""Ray Tune's search under a budget: the trials that it passes on, to the last unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from hpo.core.budget import Budget, PerTrial
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch
from tests.hpo.engine.budgeted.parts import Parts, make_study


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
    """Searcher that has no proposal."""

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


def test_trials_are_hashed_by_number_so_that_every_run_goes_through_tune_s_sets_alike(tmp_path: Path) -> None:
    trials = make_study(tmp_path, Budget(100), num_samples=8).create(4)
    assert [hash(trial) for trial in trials] == [0, 1, 2, 3]
