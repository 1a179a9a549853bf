"""Replays on recorded configurations alone: methods that draw at random draw from the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import configurations_of
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.replays.one_study import replay
from hpo.replays.table_only import TrainingTable, asha, random_search
from hpo.replays.table_plan import plan_of
from hpo.search import registry
from tests.benchmarks.banks import synthetic_bank
from tests.hpo.replays import recorded

pytestmark = pytest.mark.slow
CONFIGURATIONS = 40


def make(folder: Path, configurations: int, has_default: bool) -> Benchmark:
    source, path = recorded.source(), folder / "own.parquet"
    bank = synthetic_bank.bank(source, configurations - has_default, 2)
    default = source.default_in_space()
    assert default is not None
    own = [synthetic_bank.train(source, default, seed) for seed in range(2)] if has_default else []
    banks.write(banks.Bank(bank.header, (*bank.trainings, *own)), path)
    return synthetic_bank.recorded(path, recorded={"between": "table", "digest": bank.header.digest})


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make(tmp_path_factory.mktemp("bank"), CONFIGURATIONS, has_default=True)


def study_of(benchmark: Benchmark, method: str, budget: int = 6, **arguments: object) -> Study:
    return registry.get(method).study(benchmark, 1, budget, None, arguments)


@pytest.mark.parametrize("method", ["random", "asha", "hyperband", "median"])
def test_every_trial_is_recorded_and_none_comes_twice(benchmark: Benchmark, method: str) -> None:
    study = study_of(benchmark, method)
    rows = simulated(study, InProcess(2), plan_of(study)).books.rows
    known = [of_one[0].config for of_one in configurations_of(benchmark)]
    assert len(rows) >= 6
    assert rows[0].config == study.full_config(benchmark.default_in_space() or {})
    assert all(benchmark.complete(row.config) in known for row in rows)
    assert len({str(row.config) for row in rows}) == len(rows)
    assert {row.outcome for row in rows} <= {"completed", "stopped", "diverged"}


def test_a_default_that_was_not_recorded_is_no_beginning(tmp_path: Path) -> None:
    study = study_of(make(tmp_path, 12, has_default=False), "random")
    rows = simulated(study, InProcess(2), plan_of(study)).books.rows
    assert study.full_config(study.benchmark.default_in_space() or {}) not in [row.config for row in rows]
    assert {row.outcome for row in rows} <= {"completed", "diverged"}


@pytest.mark.parametrize("method", ["random", "asha"])
@pytest.mark.parametrize("devices", [1, 2])
def test_the_replay_is_that_of_the_path_without_ray(benchmark: Benchmark, method: str, devices: int) -> None:
    table = TrainingTable.of_benchmark(benchmark)
    found = replay(study_of(benchmark, method, start_with_default="false"), devices, repeats=0)
    own = (random_search if method == "random" else asha)(table, 1, 6, devices)
    assert (found.units, found.num_trials) == (sum(own.units), sum(units > 0 for units in own.units))
    assert found.wall_seconds == pytest.approx(own.wall_seconds)


def test_methods_that_ask_for_other_configurations_are_left_out(benchmark: Benchmark) -> None:
    words = "random,asha,asha:searcher=hyperopt,optuna,bohb,manual,pbt,default"
    found = recorded.asked(benchmark, methods=words)
    assert {(study.method, study.variant) for study in found.studies} == {("random", ""), ("asha", ""), ("default", "")}
    proposes, varies = found.header.left_out
    assert proposes.startswith(
        "asha and bohb and manual and optuna cannot be replayed on recorded configurations alone"
    )
    assert varies.startswith("pbt cannot be replayed: hyperparameters change")


def test_nothing_is_left_without_a_method_that_draws(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"default and optuna cannot be replayed on recorded configurations alone"):
        recorded.asked(make(tmp_path, 12, has_default=False), methods="optuna,default")


def test_a_budget_that_the_table_cannot_pay_is_refused(benchmark: Benchmark) -> None:
    with pytest.raises(BenchmarkError, match=r"budget is 41, but the table has 40 configurations"):
        recorded.asked(benchmark, budgets="41")


def test_a_study_that_finds_no_further_configuration_says_so(tmp_path: Path) -> None:
    found = replay(study_of(make(tmp_path, 8, has_default=True), "asha", budget=8), devices=2, repeats=0)
    assert "all 8 recorded configurations are drawn, and units are left" in found.reason
    assert found.num_trials == 8
