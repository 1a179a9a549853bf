"""The searchers: seeded, not misled by trials that ended early, and given what is known beforehand.

Ray's own searchers, which are misled, go through the same check and must fail it: were they corrected upstream,
`hpo/search/tpe.py` could be shortened.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from ray import cloudpickle
from ray.tune.search import Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from benchmarks import spec
from benchmarks.space import Choice, Config, Integer, LogUniform, Uniform
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import Study
from hpo.search import registry
from hpo.search.plan import OBJECTIVE, TPEName
from hpo.search.searchers import default_config, make_searcher
from hpo.search.space import to_tune
from hpo.search.tpe import BudgetAwareHyperOpt, BudgetAwareOptuna
from hpo.store.past_trials import PastTrial

MAX_UNITS = 9
MODEL_BASED: list[TPEName] = ["hyperopt", "optuna"]
Outcome = tuple[int, float]
"""Units reached and the objective there."""


def make_study(seed: int = 0, **changes: Any) -> Study:
    """Make a study of the synthetic benchmark; `changes` replace fields of it."""
    return Study("hyperopt", spec.load("synthetic").model_copy(update=changes), seed=seed)


def make_tpe(name: TPEName, study: Study, **settings: Any) -> Searcher:
    searcher, _ = make_searcher(name, study, **settings)
    assert isinstance(searcher, Searcher)
    return searcher


def result_at(units: int, objective: float) -> dict[str, Any]:
    """Make a result with the keys that this suite and Ray look at."""
    return {"units": units, "training_iteration": units, OBJECTIVE: objective}


def feed(searcher: Searcher, outcomes: list[Outcome]) -> None:
    """Suggest, report at every unit and end one trial per outcome; their names are "0", "1", ..."""
    for number in range(len(outcomes)):
        assert isinstance(searcher.suggest(str(number)), dict)
    for number, (units, objective) in enumerate(outcomes):
        for unit in range(1, units):
            searcher.on_trial_result(str(number), result_at(unit, objective + 1.0))
        searcher.on_trial_complete(str(number), result_at(units, objective))


def rank_by_hyperopt(make: Callable[..., Searcher], mode: str, outcomes: list[Outcome]) -> list[int]:
    """Rank the trials' numbers, the best first, as HyperOpt's TPE does: by loss."""
    space = to_tune(make_study().benchmark.space)
    searcher = make(space=space, metric=OBJECTIVE, mode=mode, random_state_seed=0)
    feed(searcher, outcomes)
    losses = searcher.get_state()["hyperopt_trials"].losses()
    return sorted(range(len(outcomes)), key=lambda number: losses[number])


def rank_by_optuna(make: Callable[..., Searcher], mode: str, outcomes: list[Outcome]) -> list[int]:
    """Rank them as Optuna's TPE does: complete ones by value, then pruned ones by last unit and value there."""
    storage = InMemoryStorage()
    space = to_tune(make_study().benchmark.space)
    searcher = make(space=space, metric=OBJECTIVE, mode=mode, seed=0, storage=storage)
    feed(searcher, outcomes)
    sign = 1.0 if mode == "min" else -1.0

    def order(trial: optuna.trial.FrozenTrial) -> tuple[bool, int, float]:
        if trial.state == TrialState.COMPLETE:
            assert trial.value is not None
            return False, 0, sign * trial.value
        assert trial.state == TrialState.PRUNED
        assert trial.last_step is not None
        return True, -trial.last_step, sign * trial.intermediate_values[trial.last_step]

    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    return [trial.number for trial in sorted(trials, key=order)]


RANKINGS = {
    "hyperopt": (rank_by_hyperopt, BudgetAwareHyperOpt, HyperOptSearch),
    "optuna": (rank_by_optuna, BudgetAwareOptuna, OptunaSearch),
}


@pytest.mark.parametrize("name", MODEL_BASED)
class TestRanking:
    def rank(self, name: str, outcomes: list[Outcome], mode: str = "min", naive: bool = False) -> list[int]:
        ranking, aware, of_ray = RANKINGS[name]
        return ranking(of_ray if naive else lambda **settings: aware(MAX_UNITS, **settings), mode, outcomes)

    @pytest.mark.parametrize(
        ("naive", "expected"), [pytest.param(False, [0, 1], id="ours"), pytest.param(True, [1, 0], id="naive")]
    )
    def test_a_lucky_early_trial_ranks_behind_one_at_the_full_resource(
        self, name: str, naive: bool, expected: list[int]
    ) -> None:
        assert self.rank(name, [(MAX_UNITS, 2.0), (1, 0.1)], naive=naive) == expected

    @pytest.mark.parametrize(
        ("naive", "expected"), [pytest.param(False, [0, 1], id="ours"), pytest.param(True, [1, 0], id="naive")]
    )
    def test_so_it_does_where_the_metric_is_maximised(self, name: str, naive: bool, expected: list[int]) -> None:
        assert self.rank(name, [(MAX_UNITS, 0.2), (1, 0.9)], mode="max", naive=naive) == expected

    def test_of_those_that_ended_early_the_furthest_ranks_first(self, name: str) -> None:
        assert self.rank(name, [(1, 0.1), (3, 5.0), (8, 9.0), (MAX_UNITS, 20.0)]) == [3, 2, 1, 0]

    def test_at_one_resource_the_objective_decides(self, name: str) -> None:
        assert self.rank(name, [(3, 2.0), (3, 1.0), (MAX_UNITS, 4.0), (MAX_UNITS, 3.0)]) == [3, 2, 1, 0]

    def test_at_one_resource_the_objective_decides_where_it_is_maximised(self, name: str) -> None:
        assert self.rank(name, [(3, 0.2), (3, 0.3), (MAX_UNITS, 0.4), (MAX_UNITS, 0.5)], mode="max") == [3, 2, 1, 0]

    def test_a_diverged_trial_ranks_behind_every_sound_one_of_its_unit(self, name: str) -> None:
        assert self.rank(name, [(2, 25.0), (2, 24.9)]) == [1, 0]


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


@pytest.mark.parametrize("name", MODEL_BASED)
class TestMissingResults:
    def test_a_trial_that_failed_does_not_stop_the_search(self, name: TPEName) -> None:
        searcher = make_tpe(name, make_study())
        searcher.suggest("a")
        searcher.on_trial_complete("a", None, error=True)
        assert isinstance(searcher.suggest("b"), dict)

    def test_a_trial_that_failed_after_a_result_does_not_stop_the_search(self, name: TPEName) -> None:
        searcher = make_tpe(name, make_study())
        searcher.suggest("a")
        searcher.on_trial_result("a", result_at(1, 1.0))
        searcher.on_trial_complete("a", result_at(1, 1.0), error=True)
        assert isinstance(searcher.suggest("b"), dict)

    def test_a_trial_that_ended_before_its_first_unit_does_not_stop_the_search(self, name: TPEName) -> None:
        searcher = make_tpe(name, make_study())
        searcher.suggest("a")
        searcher.on_trial_complete("a")
        assert isinstance(searcher.suggest("b"), dict)

    def test_many_diverged_trials_do_not_stop_the_search(self, name: TPEName) -> None:
        """More than TPE's random start, so that it models what it was told."""
        searcher = make_tpe(name, make_study())
        feed(searcher, [(2, 25.0)] * 12 + [(MAX_UNITS, 1.0)] * 12)
        assert isinstance(searcher.suggest("next"), dict)


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


EVERY_DOMAIN = {
    "learning_rate": LogUniform(type="loguniform", low=1e-6, high=1e-1),
    "warmup_ratio": Uniform(type="uniform", low=0.0, high=0.5),
    "batch_size_per_device": Integer(type="int", low=3, high=6),
    "lr_scheduler": Choice(type="choice", values=("linear", "cosine")),
    "weight_decay": Choice(type="choice", values=(0, 0.01)),
    "gradient_accumulation_steps": Choice(type="choice", values=(2,)),
}


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

    def test_come_again_with_the_seed(self, name: TPEName) -> None:
        assert self.proposals(name, seed=5) == self.proposals(name, seed=5)

    def test_a_searcher_that_was_pickled_goes_on_the_same(self, name: TPEName) -> None:
        """Tune pickles it during a study, with all it was given beforehand."""
        study = make_study()
        searcher = make_tpe(name, study, first=[default_config(study.benchmark)], past=past_around(study.benchmark, -3))
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

    def test_it_does_not_unless_it_is_asked_for(self, name: TPEName) -> None:
        assert self.proposals(name, self.study(name, start_with_default=False))[0]["learning_rate"] != 5e-5

    def test_it_has_what_the_search_space_has_and_no_more(self, name: TPEName) -> None:
        space = {"weight_decay": EVERY_DOMAIN["weight_decay"], "warmup_ratio": EVERY_DOMAIN["warmup_ratio"]}
        first = self.proposals(name, self.study(name, space=space))[0]
        assert first == {"weight_decay": 0, "warmup_ratio": 0.0}
        assert isinstance(first["weight_decay"], int), "the choice's own value, not the default's 0.0"

    def test_its_result_reaches_the_model(self, name: TPEName) -> None:
        """What is proposed next depends on whether the default was the best or the worst."""

        def proposal_after(objective: float) -> Any:
            study = make_study()
            searcher = make_tpe(name, study, initial_points=4, first=[default_config(study.benchmark)])
            feed(searcher, [(MAX_UNITS, objective), *[(MAX_UNITS, float(number)) for number in range(1, 7)]])
            return searcher.suggest("next")

        assert proposal_after(0.1) != proposal_after(9.0)

    def test_a_default_outside_the_search_space_is_refused(self, name: TPEName) -> None:
        space = {"learning_rate": LogUniform(type="loguniform", low=1e-4, high=1e-1)}
        message = (
            "learning_rate is 5e-05 in the default of benchmark synthetic, but must lie in the search space, "
            "loguniform 0.0001..0.1; widen the space, or leave start_with_default out"
        )
        with pytest.raises(BenchmarkError) as refused:
            registry.get(name).make_plan(self.study(name, space=space))
        assert str(refused.value) == message


def log_rate(config: Any) -> float:
    return math.log10(config["learning_rate"])


def past_around(benchmark: Benchmark, best_log_rate: float) -> list[PastTrial]:
    """Twenty past trials over the search space, the better the nearer their learning rate is to the best."""
    draw = random.Random(0)
    sign = 1.0 if benchmark.mode == "min" else -1.0
    trials = []
    for _ in range(20):
        rate = draw.uniform(-6, -1)
        config: Config = {"learning_rate": 10**rate, "batch_size_per_device": draw.choice([4, 8, 16])}
        trials.append(PastTrial({**config, "weight_decay": 0.01}, sign * abs(rate - best_log_rate)))
    return trials


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
        default = default_config(study.benchmark)
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
        MAX_UNITS, space=to_tune(benchmark.space), metric=OBJECTIVE, mode="min", storage=storage
    )
    past = past_around(benchmark, -3.0)
    for trial in past:
        searcher.add_evaluated_point(trial.config, trial.objective)
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [(trial.params, trial.value) for trial in trials] == [(trial.config, trial.objective) for trial in past]
