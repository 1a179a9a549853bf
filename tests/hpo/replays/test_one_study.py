"""One replayed study: that of the same code on the same clock, with the scores that its curves have."""

from __future__ import annotations

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import curves
from hpo.core.study import Study, fresh_seeds
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.replays.one_study import replay, train
from hpo.search import registry
from tests.hpo.replays import recorded

pytestmark = pytest.mark.slow
SEED = 3


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return spec.load(str(recorded.write(tmp_path_factory.mktemp("bank"))))


def study_of(benchmark: Benchmark, method: str, budget: int = 4) -> Study:
    return registry.get(method).study(benchmark, SEED, budget, None, {})


def test_it_is_the_study_of_the_same_executor(benchmark: Benchmark) -> None:
    found = replay(study_of(benchmark, "asha"), devices=2, repeats=0)
    books = simulated(study_of(benchmark, "asha"), InProcess(2)).books
    assert (found.wall_seconds, found.device_seconds) == (books.seconds, books.shares().reserved_seconds)
    assert found.num_trials == len(books.rows) > 4
    assert found.units == sum(row.units for row in books.rows) == 36
    incumbent = books.incumbent()
    assert incumbent is not None
    assert found.config == incumbent.config
    assert found.best["eval_loss"] == incumbent.metrics["eval_loss"] == found.improvements[-1].value


def test_it_takes_the_recorded_seconds_on_so_many_devices(benchmark: Benchmark) -> None:
    one, four = (replay(study_of(benchmark, "random"), devices, repeats=0) for devices in (1, 4))
    trials = simulated(study_of(benchmark, "random"), InProcess(1)).books.rows
    seconds = [train(benchmark, row.config, SEED).device_seconds for row in trials]
    assert min(seconds) > 4 * recorded.SECONDS_PER_UNIT
    assert one.wall_seconds == one.device_seconds == pytest.approx(sum(seconds))
    assert four.wall_seconds == pytest.approx(max(seconds))
    assert four.device_seconds == pytest.approx(4 * max(seconds))
    assert sum(four.parts.values()) == pytest.approx(four.device_seconds)


def test_its_scores_on_test_are_those_of_the_curves(benchmark: Benchmark) -> None:
    found = replay(study_of(benchmark, "random"), devices=2, repeats=3)
    config = benchmark.hyperparameters(found.config).model_dump()
    assert found.test == curves(benchmark).curve(config, SEED).test
    assert [one.seed for one in found.fresh] == fresh_seeds(SEED, 3)
    for one in found.fresh:
        curve = curves(benchmark).curve(config, one.seed)
        assert one.metrics["test_eval_loss"] == curve.test["eval_loss"]
        assert one.metrics["eval_loss"] == curve.units[-1].metrics["eval_loss"]
        assert one.device_seconds >= 9 * recorded.SECONDS_PER_UNIT * 0.9


def test_incumbents_improve_as_costs_grow(benchmark: Benchmark) -> None:
    found = replay(study_of(benchmark, "random", budget=12), devices=2, repeats=0).improvements
    assert len(found) > 1
    values = [one.value for one in found]
    assert values == sorted(values, reverse=True)
    costs = [(one.units, one.wall_seconds, one.device_seconds) for one in found]
    assert costs == sorted(costs)


def test_a_training_that_diverges_has_no_scores(benchmark: Benchmark) -> None:
    steep = benchmark.complete({"learning_rate": 0.09})
    outcomes = {seed: curves(benchmark).curve(steep, seed).outcome for seed in range(20)}
    assert set(outcomes.values()) == {"completed", "diverged"}
    assert all((train(benchmark, steep, seed).metrics == {}) == (outcomes[seed] == "diverged") for seed in outcomes)


def test_the_share_of_proposals_by_a_model_is_told(benchmark: Benchmark) -> None:
    assert replay(study_of(benchmark, "random"), devices=1, repeats=0).model_share is None
    share = replay(study_of(benchmark, "hyperopt", budget=6), devices=1, repeats=0).model_share
    assert share is not None
    assert 0.1 < share < 1.0
