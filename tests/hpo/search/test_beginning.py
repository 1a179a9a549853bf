"""The beginning that all methods of a block share, and what it is worth."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search import Searcher

from benchmarks.space import Config, LogUniform
from benchmarks.trials.synthetic import CurveState
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.search import registry
from hpo.search.searchers import proposals
from tests.hpo.engine.in_process import run, synthetic

SEARCHES = [name for name in registry.names() if name not in ("default", "manual")]
DEFAULT = {"learning_rate": 5e-5, "batch_size_per_device": 8, "weight_decay": 0.0}


def first_proposals(method: str, number: int, seed: int = 3, **given: Any) -> list[Config]:
    """Propose without running anything."""
    made = registry.get(method).study(synthetic(), seed, 6, None, given)
    plan = registry.get(method).make_plan(made)
    if isinstance(plan.searcher, Searcher):
        return [dict(plan.searcher.suggest(str(trial)) or {}) for trial in range(number)]
    with tempfile.TemporaryDirectory() as unused:
        space = {"config": plan.space, "num_samples": plan.num_samples, "storage_path": unused}
        plan.searcher.add_configurations([Experiment("draw", tune.Trainable, **space)])
        trials = list(itertools.islice(iter(plan.searcher.next_trial, None), number))
    return [dict(trial.config) for trial in trials]


def test_a_search_begins_with_the_default_and_goes_on_at_random() -> None:
    configs = first_proposals("random", 6)
    assert configs[0] == DEFAULT
    assert len({config["learning_rate"] for config in configs}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("method", SEARCHES)
def test_every_method_begins_alike(method: str) -> None:
    """Rates agree but for the last digit, since some libraries keep their logarithms."""
    expected = first_proposals("random", 5)
    for config, other in zip(expected, first_proposals(method, 5), strict=True):
        assert other == {**config, "learning_rate": pytest.approx(config["learning_rate"], rel=1e-12)}


@pytest.mark.slow
@pytest.mark.parametrize("method", SEARCHES)
def test_without_the_default_the_random_sequence_is_the_same(method: str) -> None:
    rates = [config["learning_rate"] for config in first_proposals(method, 4, start_with_default=False)]
    assert rates == pytest.approx([config["learning_rate"] for config in first_proposals("random", 5)[1:]], rel=1e-12)


def test_another_seed_draws_others() -> None:
    assert first_proposals("random", 3, seed=4)[1:] != first_proposals("random", 3)[1:]


def test_a_default_outside_the_search_space_is_left_out() -> None:
    narrow = {"learning_rate": LogUniform(type="loguniform", low=1e-4, high=1e-1)}
    benchmark = synthetic().model_copy(update={"space": narrow})
    assert benchmark.default_in_space() is None
    assert benchmark.default_outside_space() == (
        "learning_rate is 5e-05 in the default of benchmark synthetic, which lies outside the search space, "
        "loguniform 0.0001..0.1"
    )


def test_the_grid_follows_the_default_which_it_holds_once() -> None:
    grid = {"learning_rate": (5e-5, 1e-3), "batch_size_per_device": (8,), "weight_decay": (0.0,)}
    benchmark = synthetic().model_copy(update={"grid": grid})
    study = registry.get("manual").study(benchmark, 0, 6, None, {"shift": False})
    plan = registry.get("manual").make_plan(study)
    assert plan.num_samples == 2


def test_a_grid_without_an_axis_takes_its_default() -> None:
    benchmark = synthetic().model_copy(update={"grid": {"learning_rate": (1e-3,)}})
    study = registry.get("manual").study(benchmark, 0, 6, None, {"shift": False})
    assert proposals(study) == [DEFAULT, {**DEFAULT, "learning_rate": 1e-3}]


def final_loss(row: TrialRow) -> float:
    """Compute the loss of a trial's schedule at the full resource, without noise."""
    benchmark, state = synthetic(), CurveState()
    for unit in range(9):
        config = [config for begin, config in row.schedule if begin <= unit][-1]
        state = state.trained(benchmark.hyperparameters(config), 1 / 9)
    return state.loss


@pytest.mark.slow
@pytest.mark.parametrize("method", [*SEARCHES, "manual"])
@pytest.mark.parametrize("budget", [1, 2])
def test_no_method_is_worse_than_the_default(method: str, budget: int) -> None:
    """A method that tries the default is no worse than it, on average over blocks, from the first training on."""
    if method in ("pb2", "pbt") and budget == 1:
        pytest.skip("a population takes two members")
    found = []
    for seed in range(6):
        finished = run(Study(method, synthetic(diverge_above=0.03), seed, budget), InProcess(devices=2))
        best = finished.books.incumbent()
        found.append(final_loss(best) if best else 9.0)
    default = CurveState().trained(synthetic().default, 1.0).loss
    assert statistics.fmean(found) <= default + 0.01
