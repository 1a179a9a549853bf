"""Random search and ASHA without Ray: trials, units and times of the replay on Ray's own code."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import AsyncHyperBandScheduler
from ray.tune.search import BasicVariantGenerator
from rich.console import Console

from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import configurations_of
from hpo.engine.in_process import InProcess, Unkept, Unstored
from hpo.engine.runner import Finished, execute
from hpo.replays.table_only import AshaRungs, TableStudy, TrainingTable, asha, random_search
from hpo.search import registry
from tests.benchmarks.banks import synthetic_bank
from tests.hpo.replays import recorded


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A bank of 80 configurations whose units take times of their own, so that no two events coincide."""
    lot, path = random.Random(0), tmp_path_factory.mktemp("bank") / "own.parquet"
    bank = synthetic_bank.bank(recorded.source(), 80, 2)
    trainings = []
    for training in bank.trainings:
        units = [
            unit.model_copy(update={"train_seconds": lot.uniform(1, 3), "evaluate_seconds": lot.random()})
            for unit in training.units
        ]
        trainings.append(training.model_copy(update={"units": tuple(units), "startup_seconds": lot.random()}))
    banks.write(banks.Bank(bank.header, tuple(trainings)), path)
    return synthetic_bank.recorded(path, recorded={"between": "table", "digest": bank.header.digest})


@pytest.fixture(scope="module")
def table(benchmark: Benchmark) -> TrainingTable:
    return TrainingTable.of_benchmark(benchmark)


def on_ray(
    benchmark: Benchmark, table: TrainingTable, method: str, seed: int, budget: int, devices: int, keeps_first: bool
) -> Finished:
    """Run the study on Ray's code, with a searcher that proposes the table's configurations in the same order."""
    study = registry.get(method).study(benchmark, seed, budget, None, {"start_with_default": keeps_first})
    configurations = configurations_of(benchmark)
    points = [{name: configurations[place][0].config[name] for name in benchmark.space} for place in table.order(seed)]
    searcher = BasicVariantGenerator(points_to_evaluate=points, random_state=0)
    plan = replace(registry.get(method).make_plan(study), searcher=searcher, num_samples=len(points))
    console = Console(file=io.StringIO())
    return execute(study, "", console, InProcess(devices), plan=plan, open_tracker=Unstored, open_folder=Unkept)


def without_ray(
    table: TrainingTable, method: str, seed: int, budget: int, devices: int, keeps_first: bool
) -> TableStudy:
    if method == "random":
        return random_search(table, seed, budget, devices)
    return asha(table, seed, budget, devices, keeps_first=keeps_first)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "keeps_first"), [("random", False), ("asha", False), ("asha", True)])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_decisions_scores_and_times_are_those_of_ray_s_code(
    benchmark: Benchmark, table: TrainingTable, method: str, keeps_first: bool, devices: int
) -> None:
    configurations = configurations_of(benchmark)
    for seed, budget in ((0, 3), (1, 12), (2, 12)):
        books = on_ray(benchmark, table, method, seed, budget, devices, keeps_first).books
        found = without_ray(table, method, seed, budget, devices, keeps_first)
        began = [(place, units) for place, units in zip(found.trials, found.units, strict=True) if units]
        names = benchmark.space
        assert [({name: row.config[name] for name in names}, row.units) for row in books.rows] == [
            ({name: configurations[place][0].config[name] for name in names}, units) for place, units in began
        ]
        assert [(unit.trial, unit.units) for unit in books.units] == [end[1:] for end in found.ends]
        assert [unit.ended_seconds for unit in books.units] == pytest.approx([end[0] for end in found.ends])
        assert books.seconds == pytest.approx(found.wall_seconds)
        incumbent, own = books.incumbent(), found.incumbent(table, table.curves(seed))
        assert incumbent is not None
        assert own is not None
        assert (incumbent.config["learning_rate"], incumbent.objective) == (
            configurations[own[0]][0].config["learning_rate"],
            own[1],
        )


gains = st.lists(st.tuples(st.integers(0, 9), st.floats(-10, 10)), min_size=1, max_size=60)


@given(gains, st.sampled_from([2.0, 3.0, 4.0, 2.5]))
def test_rungs_decide_as_ray_s(units: list[tuple[int, float]], reduction_factor: float) -> None:
    ray = AsyncHyperBandScheduler(
        time_attr="units", metric="gain", mode="max", max_t=9, grace_period=1, reduction_factor=reduction_factor
    )
    own = AshaRungs(9, reduction_factor, 1, keeps_first=False)
    reached: dict[int, int] = {}
    stopped: set[int] = set()
    for number, gain in units:
        if number in stopped or reached.get(number, 0) == 8:
            continue
        trial = SimpleNamespace(trial_id=str(number))
        if number not in reached:
            ray.on_trial_add(None, trial)
        reached[number] = reached.get(number, 0) + 1
        decision = ray.on_trial_result(None, trial, {"units": reached[number], "gain": gain})
        assert own.take(number, reached[number], gain) == (decision == "STOP")
        stopped |= {number} if decision == "STOP" else set()


def test_a_budget_beyond_the_table_is_refused(table: TrainingTable) -> None:
    with pytest.raises(BenchmarkError, match=r"budget is 81, but the table has 80 configurations, .* none twice"):
        random_search(table, 0, 81, 1)


def test_a_training_without_a_whole_curve_is_refused(tmp_path: Path, benchmark: Benchmark) -> None:
    assert benchmark.recorded is not None
    bank = banks.read(benchmark.recorded.bank)
    first, *others = bank.trainings
    lost = first.model_copy(update={"outcome": "out_of_memory"})
    with pytest.raises(BenchmarkError, match="outcome out_of_memory has no whole curve"):
        TrainingTable.of_bank(banks.Bank(bank.header, (lost, *others)))


def test_a_study_takes_milliseconds(table: TrainingTable) -> None:
    from benchmarks.clock import computed_seconds

    began = computed_seconds()
    for seed in range(20):
        asha(table, seed, 12, 2)
    assert computed_seconds() - began < 20 * 0.01  # 0.0006 s each, where this was written


@pytest.mark.parametrize("seconds", [{"slower": 3.0}, {"accelerator": "cpu"}])
def test_other_seconds_than_those_of_the_table_are_refused(tmp_path: Path, seconds: dict[str, object]) -> None:
    benchmark = synthetic_bank.recorded(tmp_path / "own.parquet", recorded={"between": "table", **seconds})
    with pytest.raises(BenchmarkError, match=r"own_recorded has other seconds than recorded .* or replay"):
        TrainingTable.of_benchmark(benchmark)
