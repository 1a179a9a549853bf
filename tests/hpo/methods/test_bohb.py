"""BOHB: what its model is told, when there is one, and what it proposes.

Ray's own wiring goes through the same round of brackets and must tell the model less: were it corrected upstream,
`hpo/methods/bohb.py` could be shortened. Studies run in this process, see `hpo.engine.in_process`.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from ray import tune
from ray.tune.schedulers.hb_bohb import HyperBandForBOHB
from ray.tune.search import SearchGenerator
from ray.tune.search.bohb import TuneBOHB

from benchmarks import spec
from benchmarks.space import Choice, Config, Integer, LogUniform, Space
from benchmarks.spec import Benchmark
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Finished
from hpo.search import registry
from hpo.search.bohb_search import BohbSearch, to_configspace
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE
from tests.hpo.engine.in_process import run, synthetic

ALL_DOMAINS: Space = TypeAdapter(Space).validate_python(
    {
        "learning_rate": {"type": "loguniform", "low": 1e-6, "high": 1e-1},
        "warmup_ratio": {"type": "uniform", "low": 0.0, "high": 0.5},
        "gradient_accumulation_steps": {"type": "int", "low": 1, "high": 8},
        "batch_size_per_device": {"type": "choice", "values": [4, 8, 16]},
        "lr_scheduler": {"type": "choice", "values": ["linear", "cosine", "constant"]},
        "weight_decay": {"type": "choice", "values": [0, 0.01]},
    }
)
ENOUGH = 2 * (len(ALL_DOMAINS) + 1)
"""Results of one rung for a model: one more than hyperparameters that are good, and as many that are not."""


def make_search(seed: int = 0, space: Space = ALL_DOMAINS, changes: dict[str, Any] | None = None, **given: Any) -> Any:
    """Make the searcher of a BOHB study; `changes` replace fields of its benchmark, `given` are its arguments."""
    benchmark = spec.load("synthetic").model_copy(update={"space": space, "grid": {}, **(changes or {})})
    return registry.get("bohb").make_plan(Study("bohb", benchmark, seed=seed, arguments=given)).searcher


DISTANCES: dict[str, Callable[[Config], float]] = {
    "learning_rate": lambda config: abs(math.log10(float(config["learning_rate"])) + 3) / 3,
    "warmup_ratio": lambda config: abs(float(config["warmup_ratio"]) - 0.1) / 0.4,
    "gradient_accumulation_steps": lambda config: abs(int(config["gradient_accumulation_steps"]) - 6) / 5,
    "batch_size_per_device": lambda config: float(config["batch_size_per_device"] != 8),
    "lr_scheduler": lambda config: float(config["lr_scheduler"] != "cosine"),
}
"""From the best value of each hyperparameter; at most 1."""


def distance(config: Config) -> float:
    """From the best configuration."""
    return sum(part(config) for part in DISTANCES.values())


def tell(search: Any, trial_id: str, objective: float, rung: int) -> None:
    search.on_trial_result(trial_id, {OBJECTIVE: objective, "hyperband_info": {"budget": rung}})


def suggest_and_tell(
    search: Any, number: int, rung: int = 9, objective: Callable[[Config], float] = distance
) -> list[Config]:
    """Ask for as many new trials, then report a result at a rung for each."""
    proposed = {}
    for _ in range(number):
        trial_id = f"trial {len(search.trial_to_params)}"
        proposed[trial_id] = search.suggest(trial_id)
    for trial_id, config in proposed.items():
        tell(search, trial_id, objective(config), rung)
    return list(proposed.values())


def suggest(search: Any, number: int) -> list[Config]:
    return [search.suggest(f"new {i}") for i in range(number)]


class TestModel:
    def test_there_is_none_before_a_rung_has_enough_results(self) -> None:
        search = make_search()
        suggest_and_tell(search, ENOUGH - 1)
        assert search.bohber.kde_models == {}
        suggest_and_tell(search, 1)
        assert set(search.bohber.kde_models) == {9}

    def test_results_of_different_rungs_do_not_add_up(self) -> None:
        search = make_search()
        for rung in (1, 3, 9):
            suggest_and_tell(search, ENOUGH - 1, rung)
        assert search.bohber.kde_models == {}

    @pytest.mark.slow
    def test_it_is_that_of_the_largest_rung_that_has_enough(self) -> None:
        search = make_search()
        suggest_and_tell(search, ENOUGH + 5, rung=1)
        suggest_and_tell(search, ENOUGH, rung=3)
        suggest_and_tell(search, ENOUGH - 1, rung=9)
        assert set(search.bohber.kde_models) == {1, 3}
        assert search.bohber.largest_budget_with_model() == 3

    def test_the_largest_rung_decides_what_is_proposed(self) -> None:
        """Short trainings favour large rates here, long ones small rates."""

        def rate(config: Config) -> float:
            return math.log10(float(config["learning_rate"]))

        search = make_search(space={"learning_rate": ALL_DOMAINS["learning_rate"]}, random_fraction=0)
        configs = {str(number): search.suggest(str(number)) for number in range(20)}
        proposed = []
        for rung, sign in ((1, -1), (3, 1)):
            for trial_id, config in configs.items():
                tell(search, trial_id, sign * rate(config), rung)
            proposed.append(statistics.mean(map(rate, suggest(search, 10))))
        after_short, after_long = proposed
        assert after_long < after_short - 2

    def test_a_result_counts_once(self) -> None:
        """Tune passes on results of trials that go on, and the scheduler has done so already."""
        search = make_search()
        search.suggest("a")
        for _ in range(3):
            tell(search, "a", 1.0, rung=1)
        tell(search, "a", 0.5, rung=3)
        assert {rung: len(losses) for rung, losses in search.bohber.losses.items()} == {1: 1, 3: 1}

    def test_results_between_rungs_do_not_count(self) -> None:
        search = make_search()
        search.suggest("a")
        search.on_trial_result("a", {OBJECTIVE: 1.0, "hyperband_info": {}})
        assert search.bohber.losses == {}

    def test_min_points_delays_it(self) -> None:
        search = make_search(min_points=12)
        suggest_and_tell(search, ENOUGH + 4)
        assert search.bohber.kde_models == {}
        suggest_and_tell(search, 12)
        assert set(search.bohber.kde_models) == {9}


@pytest.fixture(scope="module")
def proposals() -> list[Config]:
    """Some before there is a model, as many after, a third of those at random."""
    search = make_search(num_draws=8)
    return suggest_and_tell(search, 2 * ENOUGH) + suggest(search, 30)


class TestProposals:
    def test_lie_in_the_space(self, proposals: list[Config]) -> None:
        assert all(domain.contains(config[name]) for config in proposals for name, domain in ALL_DOMAINS.items())

    def test_have_each_hyperparameter(self, proposals: list[Config]) -> None:
        assert all(set(config) == set(ALL_DOMAINS) for config in proposals)

    def test_are_of_python_s_own_types(self, proposals: list[Config]) -> None:
        for config in proposals:
            for name, domain in ALL_DOMAINS.items():
                if isinstance(domain, Choice):
                    assert [type(value) for value in domain.values if value == config[name]] == [type(config[name])]
                else:
                    assert type(config[name]) is (int if isinstance(domain, Integer) else float)

    def test_are_json(self, proposals: list[Config]) -> None:
        assert json.loads(json.dumps(proposals)) == proposals

    def test_do_not_leave_bounds_by_rounding(self) -> None:
        """The best is the bound, which a logarithm and back may miss."""
        domain = LogUniform(type="loguniform", low=1e-4, high=3e-3)
        search = make_search(space={"weight_decay": domain}, random_fraction=0, num_draws=8)
        suggest_and_tell(search, 10, objective=lambda config: -float(config["weight_decay"]))
        assert all(domain.contains(config["weight_decay"]) for config in suggest(search, 30))

    def test_every_value_of_a_choice_is_proposed(self) -> None:
        configs = suggest(make_search(), 60)
        for name in ("batch_size_per_device", "lr_scheduler", "weight_decay"):
            domain = ALL_DOMAINS[name]
            assert isinstance(domain, Choice)
            assert {config[name] for config in configs} == set(domain.values)


@pytest.mark.slow
class TestLearning:
    """The density estimator falls back to random draws where anything in it raises, and says so in a log only."""

    @pytest.mark.parametrize("name", DISTANCES)
    def test_proposals_come_nearer_to_what_was_good(self, name: str) -> None:
        search = make_search(space={name: ALL_DOMAINS[name]}, random_fraction=0)
        at_random = suggest_and_tell(search, 20, objective=DISTANCES[name])
        modelled = suggest(search, 15)
        assert statistics.mean(map(DISTANCES[name], modelled)) < 0.6 * statistics.mean(map(DISTANCES[name], at_random))

    def test_so_they_do_where_the_metric_is_maximised(self) -> None:
        name = "learning_rate"
        maximised = {"metric": "f1", "mode": "max"}
        search = make_search(space={name: ALL_DOMAINS[name]}, changes=maximised, random_fraction=0)
        at_random = suggest_and_tell(search, 20, objective=lambda config: 1 / (1 + DISTANCES[name](config)))
        modelled = suggest(search, 15)
        assert statistics.mean(map(DISTANCES[name], modelled)) < 0.6 * statistics.mean(map(DISTANCES[name], at_random))

    @pytest.mark.slow
    def test_so_they_do_in_all_at_once(self) -> None:
        search = make_search(random_fraction=0)
        at_random = suggest_and_tell(search, 40)
        modelled = suggest(search, 15)
        assert statistics.mean(map(distance, modelled)) < 0.75 * statistics.mean(map(distance, at_random))

    def test_once_there_is_a_model_no_proposal_is_the_fallback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        search = make_search(random_fraction=0, num_draws=8)
        suggest_and_tell(search, ENOUGH)
        model, picks = search.bohber.get_config, []
        monkeypatch.setattr(search.bohber, "get_config", lambda budget: picks.append(model(budget)) or picks[-1])
        suggest(search, 10)
        assert [info["model_based_pick"] for _, info in picks] == [True] * 10

    def test_with_a_random_fraction_of_one_results_change_nothing(self) -> None:
        taught, untaught = make_search(random_fraction=1), make_search(random_fraction=1)
        suggest_and_tell(taught, 30)
        suggest(untaught, 30)
        assert suggest(taught, 10) == [untaught.suggest(f"further {i}") for i in range(10)]


class TestSeed:
    def propose(self, seed: int) -> list[Config]:
        search = make_search(seed, num_draws=4)
        return suggest_and_tell(search, ENOUGH) + suggest(search, 5)

    def test_one_seed_gives_one_sequence_whatever_else_draws(self) -> None:
        np.random.seed(1)
        random.seed(1)
        first = self.propose(seed=7)
        np.random.seed(2)
        random.seed(2)
        assert self.propose(seed=7) == first

    def test_another_seed_gives_another(self) -> None:
        assert self.propose(seed=7)[1] != self.propose(seed=8)[1], "the first one is the default"

    def test_the_draws_of_others_are_left_alone(self) -> None:
        np.random.seed(1)
        expected = np.random.random(3).tolist()
        np.random.seed(1)
        self.propose(seed=7)
        assert np.random.random(3).tolist() == expected

    def test_two_searches_side_by_side_do_not_disturb_each_other(self) -> None:
        alone = self.propose(seed=7)
        one, other, found = make_search(7, num_draws=4), make_search(8, num_draws=4), []
        for _ in range(ENOUGH):
            found += suggest_and_tell(one, 1)
            suggest_and_tell(other, 1)
        assert found == alone[:ENOUGH]


# ---- studies


@dataclass
class Told:
    """Results that a model was told, in order: trial, rung and loss of each."""

    results: list[tuple[str, int, float]] = field(default_factory=list)

    @property
    def by_rung(self) -> dict[int, int]:
        return dict(Counter(rung for _, rung, _ in self.results))

    def record(self, searcher: type[TuneBOHB]) -> type[TuneBOHB]:
        """Make a searcher that notes the results it passes on to the density estimator."""

        class Recording(searcher):  # type: ignore[misc, valid-type]
            def to_wrapper(recording, trial_id: str, result: dict[str, Any]) -> Any:
                job = super().to_wrapper(trial_id, result)
                self.results.append((trial_id, job.kwargs["budget"], job.result["loss"]))
                return job

        return Recording


def run_bohb(told: Told, benchmark: Benchmark, devices: int = 2, budget: int = 9, order: int = 0) -> Finished:
    """Run a study that draws less from its model than it should, to be faster; 9 full trainings are a round."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("hpo.search.bohb_search.BohbSearch", told.record(BohbSearch))
        study = Study("bohb", benchmark, seed=1, budget=budget, arguments={"num_draws": 8})
        finished = run(study, InProcess(devices, order))
    assert finished.reached_end, finished.reason
    return finished


class Distance(tune.Trainable):
    """A trial whose loss is what it will be from the first unit on."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config, self._units = new_config, 0
        return True

    def step(self) -> dict[str, Any]:
        self._units += 1
        return {OBJECTIVE: distance(self._config), TIME_ATTRIBUTE: self._units}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "units").write_text(str(self._units))

    def load_checkpoint(self, checkpoint: str) -> None:
        self._units = int((Path(checkpoint) / "units").read_text())


@pytest.mark.slow
class TestStudy:
    @pytest.mark.parametrize("devices", [1, 2, 8])
    def test_every_result_of_a_round_of_brackets_reaches_the_model_once(self, devices: int) -> None:
        """The round has 9 + 5 + 3 trials: 9 are compared after one unit, 3 + 5 after three, 1 + 2 + 3 at the end."""
        told = Told()
        run_bohb(told, synthetic(), devices)
        assert told.by_rung == {1: 9, 3: 8, 9: 6}
        assert len({(trial, rung) for trial, rung, _ in told.results}) == 9 + 8 + 6

    def test_through_ray_s_wiring_fewer_do(self, tmp_path: Path) -> None:
        """Tune keeps the results of trials that it stops from searchers, those at the full resource among them."""
        told = Told()
        space = to_configspace(ALL_DOMAINS)
        settings = {"metric": OBJECTIVE, "mode": "min"}
        InProcess(devices=2).fit(
            Distance,
            {},
            tune.PlacementGroupFactory([{"CPU": 1}]),
            config={},
            search_alg=SearchGenerator(told.record(TuneBOHB)(space, seed=1, **settings)),
            scheduler=HyperBandForBOHB(time_attr=TIME_ATTRIBUTE, max_t=9, reduction_factor=3, **settings),
            callbacks=[],
            num_samples=17,
            storage_path=str(tmp_path),
            name="bohb",
        )
        assert told.by_rung[3] < 8
        assert told.by_rung[9] < 6

    def test_a_diverged_trial_is_the_worst_of_the_rung_it_would_have_reached(self) -> None:
        told = Told()
        benchmark = synthetic(diverge_above=1e-3)
        rows = run_bohb(told, benchmark).books.rows
        diverged = [row for row in rows if row.outcome == "diverged"]
        assert {row.units for row in diverged} == {2}
        worst = [rung for _, rung, loss in told.results if loss == benchmark.diverged_above]
        assert len(worst) == len(diverged) > 0
        assert set(worst) <= {3, 9}

    def test_one_seed_and_one_device_give_one_sequence(self) -> None:
        """Whatever else has drawn from the process's generators; two rounds, so that a model proposes."""
        np.random.seed(1)
        first = run_bohb(Told(), synthetic(), devices=1, budget=17)
        np.random.seed(2)
        again = run_bohb(Told(), synthetic(), devices=1, budget=17, order=1)
        assert len(first.books.rows) == 34
        assert [row.config for row in again.books.rows] == [row.config for row in first.books.rows]
        assert [row.units for row in again.books.rows] == [row.units for row in first.books.rows]

    def test_a_study_leaves_the_draws_of_others_alone(self) -> None:
        np.random.seed(1)
        expected = np.random.random(3).tolist()
        np.random.seed(1)
        run_bohb(Told(), synthetic())
        assert np.random.random(3).tolist() == expected

    def test_later_rounds_propose_better_than_the_first(self) -> None:
        rows = run_bohb(Told(), synthetic(), devices=1, budget=26).books.rows
        first, third = rows[:17], rows[34:51]
        assert statistics.mean(map(_off, third)) < statistics.mean(map(_off, first))


def _off(row: TrialRow) -> float:
    """Measure the distance of its learning rate from the best one, in decades."""
    best = -3.0 + 0.3 * math.log2(float(row.config["batch_size_per_device"]) / 8)
    return abs(math.log10(float(row.config["learning_rate"])) - best)
