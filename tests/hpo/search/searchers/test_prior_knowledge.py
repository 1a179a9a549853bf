"""Searchers that are given knowledge beforehand: the default configuration, and past trials."""

from __future__ import annotations

import math
import statistics
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher

from benchmarks.space import Config, LogUniform
from hpo.core.study import Study
from hpo.search import registry
from hpo.search.plan import OBJECTIVE, TPEName
from hpo.search.randomness import Draws
from hpo.search.space import to_tune
from hpo.search.tpe import BudgetAwareOptuna
from hpo.store.stored_trials import PastTrial
from tests.hpo.search.searchers.feeding import (
    EVERY_DOMAIN,
    MAX_UNITS,
    MODEL_BASED,
    feed,
    make_study,
    make_tpe,
    past_around,
)


@pytest.mark.parametrize("name", MODEL_BASED)
class TestStartWithDefault:
    def proposals(self, name: TPEName, study: Study) -> list[Any]:
        searcher = registry.get(name).make_plan(study).searcher
        assert isinstance(searcher, Searcher)
        return [searcher.suggest("first"), searcher.suggest("second")]

    def study(self, name: TPEName, start_with_default: bool = True, **changes: Any) -> Study:
        benchmark = make_study(**changes).benchmark
        return Study(name, benchmark, arguments={"start_with_default": start_with_default})

    def test_the_default_comes_first_and_once(self, name: TPEName) -> None:
        default = {"learning_rate": 5e-5, "batch_size_per_device": 8, "weight_decay": 0.0}
        first, second = self.proposals(name, self.study(name))
        assert first == default
        assert second != default

    def test_it_does_not_if_it_is_not_wanted(self, name: TPEName) -> None:
        assert self.proposals(name, self.study(name, start_with_default=False))[0]["learning_rate"] != 5e-5

    def test_it_has_what_the_search_space_has_and_no_more(self, name: TPEName) -> None:
        space = {"weight_decay": EVERY_DOMAIN["weight_decay"], "warmup_ratio": EVERY_DOMAIN["warmup_ratio"]}
        first = self.proposals(name, self.study(name, space=space))[0]
        assert first == {"weight_decay": 0, "warmup_ratio": 0.0}
        assert isinstance(first["weight_decay"], int), "the choice's own value, not the default's 0.0"

    def test_its_result_reaches_the_model(self, name: TPEName) -> None:
        """The next proposal depends on whether the default was the best or the worst."""

        def proposal_after(objective: float) -> Any:
            study = make_study()
            searcher = make_tpe(name, study, initial_points=4, first=[default_of(study)])
            feed(searcher, [(MAX_UNITS, objective), *[(MAX_UNITS, float(number)) for number in range(1, 7)]])
            return searcher.suggest("next")

        assert proposal_after(0.1) != proposal_after(9.0)

    def test_a_default_outside_the_search_space_is_left_out(self, name: TPEName) -> None:
        space = {"learning_rate": LogUniform(type="loguniform", low=1e-4, high=1e-1)}
        first, second = self.proposals(name, self.study(name, space=space))
        assert space["learning_rate"].contains(first["learning_rate"])
        assert first != second


def default_of(study: Study) -> Config:
    default = study.benchmark.default_in_space()
    assert default is not None
    return default


def log_rate(config: Any) -> float:
    return math.log10(config["learning_rate"])


@pytest.mark.parametrize("name", MODEL_BASED)
class TestWarmStart:
    def first_log_rates(self, name: TPEName, best_log_rate: float | None, **changes: Any) -> list[float]:
        """List the first proposed learning rate of each of 15 seeds, after a warm start if there is a best one."""
        rates = []
        for seed in range(15):
            study = make_study(seed, **changes)
            past = [] if best_log_rate is None else past_around(study.benchmark, best_log_rate)
            rates.append(log_rate(make_tpe(name, study, past=past, initial_points=4).suggest("first")))
        return rates

    @pytest.mark.slow
    @pytest.mark.parametrize("best", [-5.0, -2.0])
    @pytest.mark.parametrize("changes", [{}, {"metric": "f1", "mode": "max"}], ids=["min", "max"])
    def test_proposals_gather_where_past_trials_were_good(
        self, name: TPEName, best: float, changes: dict[str, str]
    ) -> None:
        warm = statistics.median(abs(rate - best) for rate in self.first_log_rates(name, best, **changes))
        cold = statistics.median(abs(rate - best) for rate in self.first_log_rates(name, None, **changes))
        assert warm < 0.5 < cold

    def test_seeds_still_differ(self, name: TPEName) -> None:
        assert len(set(self.first_log_rates(name, -3.0))) == 15

    def test_the_default_still_comes_first(self, name: TPEName) -> None:
        study = make_study()
        default = default_of(study)
        searcher = make_tpe(name, study, first=[default], past=past_around(study.benchmark, -3.0))
        assert searcher.suggest("first") == default
        assert searcher.suggest("second") != default

    def test_past_trials_are_not_proposed_again(self, name: TPEName) -> None:
        study = make_study()
        past = past_around(study.benchmark, -3.0)
        searcher = make_tpe(name, study, past=past, initial_points=4)
        proposals = [searcher.suggest(str(number)) for number in range(10)]
        assert not [trial for trial in past if trial.config in proposals]

    def test_every_kind_of_domain_is_taken_over(self, name: TPEName) -> None:
        config: Config = {
            "learning_rate": 1e-6,
            "warmup_ratio": 0.5,
            "batch_size_per_device": 6,
            "lr_scheduler": "cosine",
            "weight_decay": 0,
            "gradient_accumulation_steps": 2,
        }
        past = [PastTrial(config, 1.0), PastTrial(config, 2.0)]
        searcher = make_tpe(name, make_study(space=EVERY_DOMAIN), initial_points=1, past=past)
        assert isinstance(searcher.suggest("next"), dict)


def test_hyperopt_has_the_past_trials_as_done_with_their_losses() -> None:
    study = make_study(metric="f1", mode="max")
    past = past_around(study.benchmark, -3.0)
    trials = make_tpe("hyperopt", study, past=past).get_state()["hyperopt_trials"]
    assert trials.losses() == [-trial.objective for trial in past]
    assert trials.statuses() == ["ok"] * len(past)
    assert trials.vals["learning_rate"] == [trial.config["learning_rate"] for trial in past]


def test_optuna_has_the_past_trials_as_complete_with_their_values() -> None:
    storage = InMemoryStorage()
    benchmark = make_study().benchmark
    searcher = BudgetAwareOptuna(
        MAX_UNITS, Draws(make_study()), space=to_tune(benchmark.space), metric=OBJECTIVE, mode="min", storage=storage
    )
    past = past_around(benchmark, -3.0)
    for trial in past:
        searcher.add_evaluated_point(trial.config, trial.objective)
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [(trial.params, trial.value) for trial in trials] == [(trial.config, trial.objective) for trial in past]
