"""Median stopping and the default configuration: what they stop, train and spend.

Studies run on actors in this process, as in test_concurrency.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.core.results import TrialRow
from hpo.core.study import Study, training_seeds
from hpo.engine.checkpoints import Checkpoints
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Finished
from hpo.search import registry
from tests.hpo.engine.in_process import run, synthetic

MAX_UNITS, SEED = 9, 3
Curve = list[float]
"""A trial's objective at each unit."""


@pytest.fixture(scope="module")
def run_once() -> Callable[..., Finished]:
    """Run a study on so many devices, once."""

    @cache
    def run_study(method: str, devices: int = 1, budget: int = 12, **given: int) -> Finished:
        study = Study(method, synthetic(), seed=SEED, budget=budget, arguments=given)
        finished = run(study, InProcess(devices))
        assert finished.reached_end, finished.reason
        return finished

    return run_study


def decided(finished: Finished) -> list[TrialRow]:
    """List the trials that the budget did not end."""
    return [row for row in finished.books.rows if "budget was spent" not in row.reason]


def curve_of(benchmark: Benchmark, row: TrialRow) -> Curve:
    """Compute the whole curve of a trial, whenever it was stopped."""
    trial = SyntheticTrial(benchmark)
    trial.start(row.config, row.seed)
    return [trial.run_unit()["eval_loss"] for _ in range(MAX_UNITS)]


def units_by_the_rule(curve: Curve, before: list[Curve], grace_units: int, min_trials: int) -> int:
    """Compute the unit at which the rule stops a trial, given the trials before it, one after the other."""
    for unit in range(grace_units, MAX_UNITS):
        others = [other for other in before if len(other) >= unit]
        averages = [statistics.mean(other[grace_units - 1 : unit]) for other in others]
        if len(averages) >= min_trials and min(curve[:unit]) > statistics.median(averages):
            return unit
    return MAX_UNITS


@pytest.mark.slow
class TestMedian:
    @pytest.mark.parametrize(
        ("grace_units", "min_trials"),
        [(1, 3), (3, 3), (1, 1)],
        ids=["default", "longer grace", "no others to wait for"],
    )
    def test_stops_what_the_paper_s_rule_stops(
        self, run_once: Callable[..., Finished], grace_units: int, min_trials: int
    ) -> None:
        """A best so far that is worse than the median of the others' averages, up to the same unit."""
        rows = decided(run_once("median", grace_units=grace_units, min_trials=min_trials))
        expected: list[int] = []
        trained: list[Curve] = []
        for row in rows:
            curve = curve_of(synthetic(), row)
            expected.append(units_by_the_rule(curve, trained, grace_units, min_trials))
            trained.append(curve[: expected[-1]])
        assert [row.units for row in rows] == expected
        assert set(expected) - {MAX_UNITS}, "this seed should propose some that are stopped"

    def test_stopped_trials_are_worse_than_those_that_went_on(self, run_once: Callable[..., Finished]) -> None:
        rows = decided(run_once("median"))
        final = {row.number: curve_of(synthetic(), row)[-1] for row in rows}
        stopped = [final[row.number] for row in rows if row.outcome == "stopped"]
        completed = [final[row.number] for row in rows if row.outcome == "completed"]
        assert statistics.median(completed) < statistics.median(stopped)

    def test_the_first_trials_run_to_the_end(self, run_once: Callable[..., Finished]) -> None:
        """Nobody has got as far yet, or too few."""
        assert [row.units for row in run_once("median").books.rows[:3]] == [MAX_UNITS] * 3

    @pytest.mark.parametrize("grace_units", [1, 3])
    def test_no_trial_is_stopped_within_its_grace(self, run_once: Callable[..., Finished], grace_units: int) -> None:
        rows = decided(run_once("median", grace_units=grace_units, min_trials=3))
        assert min(row.units for row in rows) == grace_units

    @pytest.mark.parametrize("devices", [1, 2, 8])
    def test_no_trial_is_paused(self, monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
        """Ray's rule pauses a trial, with a checkpoint, while too few others have got as far and one waits."""
        written: list[Any] = []
        monkeypatch.setattr(Checkpoints, "add", lambda _, checkpoint: written.append(checkpoint))
        finished = run(Study("median", synthetic(), seed=SEED, budget=4), InProcess(devices))
        assert finished.reached_end, finished.reason
        assert written == []
        assert finished.shares.seconds["checkpoint"] == 0.0

    @pytest.mark.parametrize("grace_units", [9, 12])
    def test_a_grace_of_the_full_resource_is_refused(self, grace_units: int) -> None:
        study = Study("median", synthetic(), arguments={"grace_units": grace_units})
        with pytest.raises(BenchmarkError, match=f"grace_units is {grace_units}, but must be < max_units, which is 9"):
            registry.get("median").make_plan(study)


@pytest.mark.slow
class TestDefault:
    def test_trains_the_default_to_the_end_as_often_as_asked(self, run_once: Callable[..., Finished]) -> None:
        rows = run_once("default", repeats=4).books.rows
        assert [(row.outcome, row.units) for row in rows] == [("completed", MAX_UNITS)] * 4
        default = synthetic().default.model_dump(exclude_unset=True)
        assert [row.config for row in rows] == [default] * 4

    def test_four_times_if_not_asked(self, run_once: Callable[..., Finished]) -> None:
        assert len(run_once("default").books.rows) == 4

    def test_each_with_a_seed_of_its_own_the_first_the_study_s(self, run_once: Callable[..., Finished]) -> None:
        seeds = [row.seed for row in run_once("default", repeats=4).books.rows]
        assert seeds == training_seeds(SEED, 4)
        assert seeds[0] == SEED
        assert len(set(seeds)) == 4

    def test_the_seed_reaches_the_training(self, run_once: Callable[..., Finished]) -> None:
        rows = run_once("default", repeats=4).books.rows
        assert [row.objective for row in rows] == [curve_of(synthetic(), row)[-1] for row in rows]
        assert len({row.objective for row in rows}) == 4

    def test_a_repeat_has_the_same_seed_however_many_there_are(self, run_once: Callable[..., Finished]) -> None:
        few, many = (run_once("default", repeats=number).books.rows for number in (3, 4))
        assert [row.seed for row in few] == [row.seed for row in many[:3]]

    def test_the_budget_leaves_out_what_it_cannot_pay_for(self, run_once: Callable[..., Finished]) -> None:
        rows = run_once("default", budget=2).books.rows
        assert [(row.outcome, row.units) for row in rows] == [("completed", MAX_UNITS)] * 2

    @pytest.mark.parametrize("devices", [2, 8])
    def test_results_do_not_depend_on_the_devices(self, run_once: Callable[..., Finished], devices: int) -> None:
        serial, parallel = run_once("default").books.rows, run_once("default", devices=devices).books.rows
        assert [(row.seed, row.objective) for row in parallel] == [(row.seed, row.objective) for row in serial]
