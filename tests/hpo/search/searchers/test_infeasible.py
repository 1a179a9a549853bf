"""Proposals that do not fit into memory, as searchers hear of them."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hyperopt.base import STATUS_FAIL
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher

from hpo.core.study import Study
from hpo.search import registry
from hpo.search.plan import OBJECTIVE, TPEName
from hpo.search.randomness import Draws
from hpo.search.space import to_tune
from hpo.search.tpe import BudgetAwareOptuna
from tests.hpo.search.searchers.feeding import MAX_UNITS, MODEL_BASED, make_study, make_tpe, result_at

TOO_LARGE = 16
"""The largest of the batch sizes 4, 8 and 16."""


def losses(searcher: Searcher) -> list[float | None]:
    """List the losses that HyperOpt's model knows, None for those that failed."""
    trials = searcher.get_state()["hyperopt_trials"].trials
    return [None if t["result"]["status"] == STATUS_FAIL else t["result"]["loss"] for t in trials if t["state"] == 2]


def states(storage: InMemoryStorage) -> list[TrialState]:
    """List the states of the trials that Optuna knows."""
    (summary,) = optuna.get_all_study_summaries(storage)
    return [trial.state for trial in optuna.load_study(study_name=summary.study_name, storage=storage).trials]


def search(searcher: Any, proposals: int, is_told: bool) -> int:
    """Run a search in which every batch of the largest size runs out; return how often it was proposed at last."""
    found = 0
    for number in range(proposals):
        config = searcher.suggest(str(number))
        if config["batch_size_per_device"] < TOO_LARGE:
            loss = 1 + 0.1 * abs(math.log10(config["learning_rate"]) + 3)
            searcher.on_trial_complete(str(number), result_at(MAX_UNITS, loss))
        elif is_told:
            searcher.tell_infeasible(str(number), was_trained=number < 3)
        else:  # as if there were nothing wrong with it
            searcher.on_trial_complete(str(number), result_at(MAX_UNITS, 0.5))
        found += number >= proposals // 2 and config["batch_size_per_device"] == TOO_LARGE
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL_BASED)
def test_tpe_avoids_what_does_not_fit(name: TPEName) -> None:
    told, untold = (search(make_tpe(name, make_study(1), initial_points=5), 50, is_told) for is_told in (True, False))
    assert 2 * told < untold


class TestHyperOpt:
    def test_takes_it_as_worse_than_every_result(self) -> None:
        searcher: Any = make_tpe("hyperopt", make_study())
        for trial in "abc":
            searcher.suggest(trial)
        searcher.on_trial_complete("a", result_at(MAX_UNITS, 0.5))
        searcher.tell_infeasible("b", was_trained=True)
        searcher.on_trial_complete("c", error=True)
        assert losses(searcher) == [0.5, None]

    def test_models_no_more_of_them_than_results(self) -> None:
        searcher: Any = make_tpe("hyperopt", make_study(), initial_points=2)
        for trial in range(9):
            searcher.suggest(str(trial))
        for trial in (0, 1):
            searcher.tell_infeasible(str(trial), was_trained=False)
        assert losses(searcher) == []  # its draws are random still
        for trial in (2, 3):
            searcher.on_trial_complete(str(trial), result_at(MAX_UNITS, 0.5))
        for trial in range(4, 9):
            searcher.tell_infeasible(str(trial), was_trained=False)
        assert losses(searcher) == [0.5, 0.5, None, None]


class TestOptuna:
    def test_takes_it_as_pruned_before_any_unit(self) -> None:
        storage, space = InMemoryStorage(), to_tune(make_study().benchmark.space)
        searcher = BudgetAwareOptuna(
            MAX_UNITS, Draws(make_study()), space=space, metric=OBJECTIVE, mode="min", storage=storage
        )
        for trial in "abc":
            searcher.suggest(trial)
        searcher.on_trial_complete("a", result_at(MAX_UNITS, 0.5))
        searcher.tell_infeasible("b", was_trained=True)
        searcher.on_trial_complete("c", error=True)
        assert states(storage) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]

    def test_counts_no_infeasible_trial_as_an_initial_point(self) -> None:
        """Two random draws and then the model, which proposes near the good one."""
        searcher: Any = make_tpe("optuna", make_study(), initial_points=2)
        other: Any = make_tpe("optuna", make_study(), initial_points=2)
        for trial in range(8):
            assert searcher.suggest(str(trial)) == other.suggest(str(trial))
            searcher.tell_infeasible(str(trial), was_trained=True)
            other.on_trial_complete(str(trial), error=True)  # is not counted by Optuna itself


class TestBohb:
    def make(self) -> Any:
        study = Study("bohb", make_study().benchmark)
        return registry.get("bohb").make_plan(study).searcher

    def tell(self, searcher: Any, trial: str, rung: int) -> None:
        result = {OBJECTIVE: 0.5, "hyperband_info": {"budget": rung}, "diverged": False}
        searcher.on_trial_result(trial, result)

    def test_takes_it_as_a_crash(self) -> None:
        searcher = self.make()
        for trial in "abc":
            searcher.suggest(trial)
        searcher.tell_infeasible("a", was_trained=True)
        assert searcher.bohber.losses == {}  # nothing it could be worse than yet
        self.tell(searcher, "b", rung=1)
        assert searcher.bohber.losses == {1: [0.5, math.inf]}

    def test_models_no_more_of_them_than_results(self) -> None:
        searcher = self.make()
        for trial in range(8):
            searcher.suggest(str(trial))
        for trial in range(3):
            searcher.tell_infeasible(str(trial), was_trained=True)
        self.tell(searcher, "7", rung=1)
        self.tell(searcher, "6", rung=1)
        assert sorted(searcher.bohber.losses[1]) == [0.5, 0.5, math.inf, math.inf]
