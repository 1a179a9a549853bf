"""Proposals of searchers: seeded, inside the search space, at random first and then from the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.search import Searcher

from benchmarks import spec
from benchmarks.space import Config
from hpo.core.study import Study
from hpo.search import registry
from hpo.search.plan import OBJECTIVE, TPEName
from hpo.search.searchers import make_searcher
from tests.hpo.search.searchers.feeding import (
    EVERY_DOMAIN,
    MAX_UNITS,
    MODEL_BASED,
    feed,
    make_study,
    make_tpe,
    past_around,
    result_at,
)


@pytest.mark.parametrize("name", MODEL_BASED)
class TestSeeds:
    def suggestions(self, name: TPEName, seed: int) -> list[Any]:
        """Make the first five suggestions, with a result after each."""
        searcher = make_tpe(name, make_study(seed))
        configs = []
        for number in range(5):
            configs.append(searcher.suggest(str(number)))
            searcher.on_trial_complete(str(number), result_at(MAX_UNITS, 1.0 / (number + 1)))
        return configs

    def test_one_seed_gives_the_same_suggestions(self, name: TPEName) -> None:
        assert self.suggestions(name, seed=3) == self.suggestions(name, seed=3)

    def test_another_seed_gives_others(self, name: TPEName) -> None:
        assert self.suggestions(name, seed=3) != self.suggestions(name, seed=4)

    def test_suggestions_lie_in_the_search_space(self, name: TPEName) -> None:
        space = make_study().benchmark.space
        for config in self.suggestions(name, seed=0):
            assert set(config) == set(space)
            assert all(domain.contains(config[key]) for key, domain in space.items())


def test_random_search_is_given_its_space_by_tune() -> None:
    _, space = make_searcher("random", make_study())
    assert list(space) == ["learning_rate", "batch_size_per_device", "weight_decay"]


@pytest.mark.parametrize("name", MODEL_BASED)
def test_model_based_searchers_hold_their_space_themselves(name: TPEName) -> None:
    assert make_searcher(name, make_study())[1] == {}


@pytest.mark.parametrize("name", MODEL_BASED)
def test_model_based_searchers_look_at_the_objective(name: TPEName) -> None:
    searcher, _ = make_searcher(name, make_study())
    assert (searcher.metric, searcher.mode) == (OBJECTIVE, "min")


@pytest.mark.parametrize("name", MODEL_BASED)
class TestProposals:
    """Over every kind of domain, from the random start far into the model, which is led to the bounds."""

    def proposals(self, name: TPEName, seed: int = 0) -> list[Config]:
        searcher = make_tpe(name, make_study(seed, space=EVERY_DOMAIN), initial_points=5)
        configs = []
        for number in range(40):
            config = searcher.suggest(str(number))
            assert isinstance(config, dict)
            objective = config["learning_rate"] - config["batch_size_per_device"] + config["warmup_ratio"]
            searcher.on_trial_complete(str(number), result_at(MAX_UNITS, objective))
            configs.append(config)
        return configs

    def test_are_what_json_can_say(self, name: TPEName) -> None:
        proposals = self.proposals(name)
        assert json.loads(json.dumps(proposals)) == proposals

    def test_lie_in_the_search_space(self, name: TPEName) -> None:
        for config in self.proposals(name):
            assert set(config) == set(EVERY_DOMAIN)
            assert all(domain.contains(config[key]) for key, domain in EVERY_DOMAIN.items())

    def test_have_python_s_types_and_the_choices_own_values(self, name: TPEName) -> None:
        proposals = self.proposals(name)
        kinds = {key: {type(config[key]) for config in proposals} for key in EVERY_DOMAIN}
        assert kinds == {
            "learning_rate": {float},
            "warmup_ratio": {float},
            "batch_size_per_device": {int},
            "lr_scheduler": {str},
            "weight_decay": {int, float},
            "gradient_accumulation_steps": {int},
        }

    def test_reach_both_ends_of_whole_numbers_and_every_choice(self, name: TPEName) -> None:
        proposals = self.proposals(name)
        assert {config["batch_size_per_device"] for config in proposals} == {3, 4, 5, 6}
        assert {config["weight_decay"] for config in proposals} == {0, 0.01}

    @pytest.mark.slow
    def test_come_again_with_the_seed(self, name: TPEName) -> None:
        assert self.proposals(name, seed=5) == self.proposals(name, seed=5)

    def test_a_searcher_that_was_pickled_goes_on_the_same(self, name: TPEName) -> None:
        """Tune pickles it during a study, with all it was given beforehand."""
        study = make_study()
        searcher = make_tpe(
            name, study, first=[study.benchmark.default_in_space() or {}], past=past_around(study.benchmark, -3)
        )
        feed(searcher, [(MAX_UNITS, 1.0)] * 3)
        copy = cloudpickle.loads(cloudpickle.dumps(searcher))
        assert copy.suggest("next") == searcher.suggest("next")


@pytest.mark.parametrize("name", MODEL_BASED)
class TestInitialPoints:
    """Random draws are those of a searcher that never gets to its model."""

    def next_after(self, name: TPEName, ended: int, running: int, initial_points: int) -> Any:
        """Ask for a proposal while so many trials have ended and so many run."""
        searcher = make_tpe(name, make_study(), initial_points=initial_points)
        numbers = [str(number) for number in range(ended + running)]
        for number in numbers:
            searcher.suggest(number)
        for number in numbers[:ended]:
            searcher.on_trial_complete(number, result_at(MAX_UNITS, float(number)))
        return searcher.suggest("next")

    @pytest.mark.parametrize(("ended", "is_random"), [(2, True), (3, False)])
    def test_the_model_proposes_once_they_have_ended(self, name: TPEName, ended: int, is_random: bool) -> None:
        draw = self.next_after(name, ended, running=0, initial_points=1000)
        assert (self.next_after(name, ended, running=0, initial_points=3) == draw) is is_random

    @pytest.mark.parametrize(("ended", "is_random"), [(2, True), (3, False)])
    def test_running_trials_do_not_count(self, name: TPEName, ended: int, is_random: bool) -> None:
        draw = self.next_after(name, ended, running=6, initial_points=1000)
        assert (self.next_after(name, ended, running=6, initial_points=3) == draw) is is_random

    @pytest.mark.parametrize(("known", "is_random"), [(2, True), (3, False)])
    def test_past_trials_count(self, name: TPEName, known: int, is_random: bool) -> None:
        study = make_study()
        past = past_around(study.benchmark, -3)[:known]
        draw = make_tpe(name, study, past=past, initial_points=1000).suggest("next")
        assert (make_tpe(name, study, past=past, initial_points=3).suggest("next") == draw) is is_random

    @pytest.mark.parametrize(("budget", "expected"), [(1, 2), (8, 2), (12, 4), (30, 10)])
    def test_are_a_third_of_the_budget_by_default(self, name: TPEName, budget: int, expected: int) -> None:
        def proposals(arguments: dict[str, int]) -> list[Any]:
            study = Study(name, spec.load("synthetic"), budget=budget, arguments=arguments)
            searcher = registry.get(name).make_plan(study).searcher
            assert isinstance(searcher, Searcher)
            configs = []
            for number in range(expected + 2):
                configs.append(searcher.suggest(str(number)))
                searcher.on_trial_complete(str(number), result_at(MAX_UNITS, float(number)))
            return configs

        by_default = proposals({})
        assert by_default == proposals({"initial_points": expected})
        assert by_default[: expected + 1] != proposals({"initial_points": expected + 1})[: expected + 1]
