"""HyperBand's brackets: their arithmetic, what they cost in real studies, and what they repair in Ray's.

Ray's own scheduler goes through the same studies and must go wrong in them: were it corrected upstream,
`hpo/search/schedulers/brackets.py` could be shortened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from benchmarks.spec import BenchmarkError
from hpo.core.budget import Budget
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Interruption
from hpo.search import registry
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE
from hpo.search.schedulers.brackets import Brackets, BracketScheduler, make_brackets
from tests.hpo.engine.in_process import run, synthetic

EXACT = [(9, 3), (27, 3), (81, 3), (8, 2), (16, 4), (12, 2), (10, 5), (6, 6)]
"""Pairs of resource and reduction factor whose rungs are whole numbers of units."""


class TestArithmetic:
    def test_the_brackets_of_the_paper_s_example(self) -> None:
        """Table 1: R = 81, eta = 3; the third and fourth bracket begin with 6 and 5 trials there, rounded down."""
        brackets = Brackets(81, 3)
        assert brackets.halvings == 4
        assert [brackets.num_trials(s) for s in (4, 3, 2, 1, 0)] == [81, 34, 15, 8, 5]
        assert brackets.rungs(4) == [1, 3, 9, 27, 81]
        assert brackets.survivors(4, 81) == [81, 27, 9, 3, 1]

    def test_the_brackets_of_the_benchmarks_shipped(self) -> None:
        brackets = Brackets(9, 3)
        assert [brackets.num_trials(s) for s in (2, 1, 0)] == [9, 5, 3]
        assert [brackets.rungs(s) for s in (2, 1, 0)] == [[1, 3, 9], [3, 9], [9]]
        assert [brackets.survivors(s, brackets.num_trials(s)) for s in (2, 1, 0)] == [[9, 3, 1], [5, 2], [3]]
        assert [brackets.units(s, brackets.num_trials(s)) for s in (2, 1, 0)] == [21, 27, 27]

    @pytest.mark.parametrize(
        ("max_units", "reduction_factor", "rungs"),
        [
            (27, 3, [1, 3, 9, 27]),
            (8, 2, [1, 2, 4, 8]),
            (12, 2, [3, 6, 12]),
            (10, 5, [2, 10]),
            (6, 6, [1, 6]),
        ],
    )
    def test_rungs_are_exact(self, max_units: int, reduction_factor: int, rungs: list[int]) -> None:
        brackets = Brackets(max_units, reduction_factor)
        assert brackets.rungs(brackets.halvings) == rungs

    @pytest.mark.parametrize(("max_units", "reduction_factor"), EXACT)
    def test_each_rung_is_the_reduction_factor_times_the_one_before(
        self, max_units: int, reduction_factor: int
    ) -> None:
        brackets = Brackets(max_units, reduction_factor)
        for s in range(brackets.halvings + 1):
            rungs = brackets.rungs(s)
            assert len(rungs) == s + 1
            assert rungs[-1] == max_units
            assert [low * reduction_factor for low in rungs[:-1]] == rungs[1:]

    @pytest.mark.parametrize(("max_units", "reduction_factor"), EXACT)
    def test_a_bracket_costs_what_its_trials_train(self, max_units: int, reduction_factor: int) -> None:
        """Each trial the rung at which it is dropped, no unit twice."""
        brackets = Brackets(max_units, reduction_factor)
        for s in range(brackets.halvings + 1):
            for trials in range(1, brackets.num_trials(s) + 1):
                alive = [*brackets.survivors(s, trials), 0]
                dropped = [before - after for before, after in pairwise(alive)]
                expected = sum(map(lambda rung, n: rung * n, brackets.rungs(s), dropped))
                assert brackets.units(s, trials) == expected

    @pytest.mark.parametrize(("max_units", "reduction_factor"), EXACT)
    def test_the_largest_bracket_that_fits_is_the_largest(self, max_units: int, reduction_factor: int) -> None:
        brackets = Brackets(max_units, reduction_factor)
        for s in range(brackets.halvings + 1):
            full = brackets.num_trials(s)
            for free in range(brackets.units(s, full) + 2):
                trials = brackets.largest(s, free)
                assert trials == 0 or brackets.units(s, trials) <= free
                assert trials == full or brackets.units(s, trials + 1) > free

    def test_no_bracket_fits_into_less_than_a_full_training(self) -> None:
        """Its last survivor trains to the full resource."""
        brackets = Brackets(9, 3)
        assert [brackets.largest(s, 8) for s in (2, 1, 0)] == [0, 0, 0]
        assert [brackets.largest(s, 9) for s in (2, 1, 0)] == [1, 1, 1]


class TestRefusedPairs:
    @pytest.mark.parametrize(
        ("max_units", "reduction_factor", "fitting"), [(9, 2, "3, 9"), (10, 3, "2, 5, 10"), (7, 3, "7"), (4, 8, "2, 4")]
    )
    def test_the_error_names_what_fits(self, max_units: int, reduction_factor: int, fitting: str) -> None:
        with pytest.raises(BenchmarkError) as refused:
            make_brackets(Study("hyperband", synthetic(max_units)), reduction_factor)
        assert str(refused.value) == (
            f"reduction_factor is {reduction_factor}, but must divide max_units, which is {max_units} in benchmark "
            f"synthetic, so that every rung is a whole number of units; reduction factors that fit: {fitting}"
        )

    def test_a_resource_of_one_unit_has_no_brackets(self) -> None:
        with pytest.raises(BenchmarkError, match="max_units must be at least 2 to stop anything early"):
            make_brackets(Study("hyperband", synthetic(max_units=1)), 3)

    @pytest.mark.parametrize("method", ["hyperband", "bohb"])
    def test_methods_refuse_them_before_anything_starts(self, method: str) -> None:
        study = Study(method, synthetic(max_units=10), arguments={"reduction_factor": 3})
        with pytest.raises(BenchmarkError, match="reduction factors that fit: 2, 5, 10"):
            registry.get(method).make_plan(study)

    @pytest.mark.parametrize(("max_units", "reduction_factor"), EXACT)
    def test_exact_pairs_are_accepted(self, max_units: int, reduction_factor: int) -> None:
        study = Study("hyperband", synthetic(max_units))
        assert make_brackets(study, reduction_factor) == Brackets(max_units, reduction_factor)


# ---- real studies


@pytest.fixture(scope="module", params=[1, 2, 8])
def rows(request: pytest.FixtureRequest) -> list[TrialRow]:
    """Run a study with 81 units on so many devices; returns its trials."""
    finished = run(Study("hyperband", synthetic(), seed=1, budget=9), InProcess(request.param))
    assert finished.reached_end, finished.reason
    return finished.books.rows


@pytest.mark.slow
class TestStudy:
    """One round of brackets is 75 units; then none fits any more."""

    def test_a_round_of_brackets_is_17_trials_and_75_units(self, rows: list[TrialRow]) -> None:
        assert (len(rows), sum(row.trained_units for row in rows)) == (17, 75)

    def test_each_bracket_keeps_a_third_at_each_rung(self, rows: list[TrialRow]) -> None:
        units = [row.units for row in rows]
        assert Counter(units[:9]) == {1: 6, 3: 2, 9: 1}
        assert Counter(units[9:14]) == {3: 3, 9: 2}
        assert Counter(units[14:]) == {9: 3}

    def test_no_unit_is_trained_twice(self, rows: list[TrialRow]) -> None:
        """Paused trials go on from their checkpoints."""
        assert [row.trained_units for row in rows] == [row.units for row in rows]

    def test_the_best_of_a_rung_go_on(self, rows: list[TrialRow]) -> None:
        """Losses fall with the units, so what was dropped later had the better loss in all its rungs."""
        for bracket in (rows[:9], rows[9:14]):
            dropped_first, *_, kept = sorted(bracket, key=lambda row: row.units)
            assert dropped_first.objective is not None
            assert kept.objective is not None
            assert kept.objective < dropped_first.objective

    def test_trials_are_completed_or_stopped_by_the_method(self, rows: list[TrialRow]) -> None:
        assert {(row.units == 9, row.outcome) for row in rows} == {(True, "completed"), (False, "stopped")}
        assert all(row.reason == f"hyperband stopped it at unit {row.units}" for row in rows if row.units < 9)


# ---- scheduler alone, ours and Ray's, with trials whose loss is their number


class Member(tune.Trainable):
    """The trial with the smallest number is the best; `fails` has the units in which trials fail, by number."""

    def setup(self, config: dict[str, Any], fails: dict[int, int] | None = None, folder: Path | None = None) -> None:
        self._fails, self._folder = fails or {}, folder
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number, self._diverges_at, self._units = new_config["number"], new_config.get("diverges_at"), 0
        return True

    def step(self) -> dict[str, Any]:
        if self._fails.get(self._number) == self._units + 1:
            self._fail()
        self._units += 1
        diverged = self._units == self._diverges_at
        return {OBJECTIVE: float(self._number), TIME_ATTRIBUTE: self._units, "diverged": diverged}

    def _fail(self) -> None:
        """Fail: trials with an odd number once, the others each time."""
        assert self._folder is not None
        failed_before = self._folder / str(self._number)
        if self._number % 2 == 0 or not failed_before.exists():
            failed_before.touch()
            raise RuntimeError("broken")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "units").write_text(str(self._units))

    def load_checkpoint(self, checkpoint: str) -> None:
        self._units = int((Path(checkpoint) / "units").read_text())


@dataclass
class Recording(tune.Callback):
    """Counts the units that are trained, and notes the trials."""

    units: int = 0
    trials: list[Trial] = field(default_factory=list)

    def on_trial_result(self, **_: Any) -> None:
        self.units += 1

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        self.trials = list(trials)


@dataclass(frozen=True)
class Trained:
    """Trials as a scheduler has left them."""

    scheduler: TrialScheduler
    trials: list[Trial]
    trained_units: int

    @property
    def units(self) -> list[int]:
        """List the units that each trial reached, by number."""
        by_number = sorted(self.trials, key=lambda trial: trial.config["number"])
        return [trial.last_result.get(TIME_ATTRIBUTE, 0) for trial in by_number]


def train(
    folder: Path,
    scheduler: TrialScheduler,
    search: Any,
    trials: int,
    devices: int,
    stopper: Any = None,
    fails: dict[int, int] | None = None,
    **config: Any,
) -> Trained:
    recording = Recording()
    InProcess(devices).fit(
        Member,
        {"fails": fails, "folder": folder},
        tune.PlacementGroupFactory([{"CPU": 1}]),
        config={"number": tune.grid_search(list(range(trials))), **config},
        search_alg=search,
        scheduler=scheduler,
        stop=stopper,
        max_failures=1,
        storage_path=str(folder),
        name="brackets",
        callbacks=[recording],
    )
    return Trained(scheduler, recording.trials, recording.units)


def train_ours(folder: Path, brackets: Brackets, trials: int, units: int, devices: int, **more: Any) -> Trained:
    inner, budget = BracketScheduler(brackets, "min"), Budget(units)
    scheduler = BudgetedScheduler(inner, inner, budget, brackets.max_units)
    search = BudgetedSearch(BasicVariantGenerator(), scheduler)
    trained = train(folder, scheduler, search, trials, devices, Interruption(budget), **more)
    assert trained.trained_units == budget.spent
    return Trained(inner, trained.trials, trained.trained_units)


def train_rays(
    folder: Path, brackets: Brackets, trials: int, devices: int, max_concurrent: int = 0, **config: Any
) -> Trained:
    scheduler = HyperBandScheduler(
        time_attr=TIME_ATTRIBUTE,
        metric=OBJECTIVE,
        mode="min",
        max_t=brackets.max_units,
        reduction_factor=brackets.reduction_factor,
    )
    search, stop_diverged = BasicVariantGenerator(max_concurrent=max_concurrent), {"diverged": True}
    return train(folder, scheduler, search, trials, devices, stop_diverged, **config)


@pytest.mark.slow
class TestAgainstRays:
    """Actors in this process."""

    def test_two_at_once_are_enough_for_a_bracket(self, tmp_path: Path) -> None:
        ours = train_ours(tmp_path, Brackets(9, 3), trials=17, units=75, devices=2)
        assert (len(ours.trials), ours.trained_units) == (17, 75)

    def test_ray_s_trains_all_to_the_end_where_two_are_let_in_at_once(self, tmp_path: Path) -> None:
        """Its limit on trials at once counts the paused ones, so a bracket never has more than two."""
        rays = train_rays(tmp_path, Brackets(9, 3), trials=17, devices=2, max_concurrent=2)
        assert rays.trained_units == 153

    def test_trials_that_end_early_fill_their_bracket(self, tmp_path: Path) -> None:
        ours = train_ours(tmp_path, Brackets(9, 3), trials=17, units=75, devices=1, diverges_at=1)
        assert isinstance(ours.scheduler, BracketScheduler)
        assert ours.scheduler.state()["num_brackets"] == 3

    def test_in_ray_s_a_bracket_whose_trials_end_early_takes_in_all_that_come(self, tmp_path: Path) -> None:
        rays = train_rays(tmp_path, Brackets(9, 3), trials=17, devices=1, diverges_at=1)
        assert isinstance(rays.scheduler, HyperBandScheduler)
        assert rays.scheduler.state()["num_brackets"] == 1

    def test_ray_s_misses_the_full_resource_where_the_pair_is_odd(self, tmp_path: Path) -> None:
        """Ours refuses such a pair: of 10 units and factor 3 the last rung is the ninth unit."""
        rays = train_rays(tmp_path, Brackets(10, 3), trials=17, devices=2)
        assert 9 in rays.units

    def test_the_most_aggressive_bracket_comes_first(self, tmp_path: Path) -> None:
        """With too little for a whole round, ours has compared nine trials, and Ray's has trained three to the end."""
        ours = train_ours(tmp_path / "ours", Brackets(9, 3), trials=100, units=27, devices=1)
        rays = train_rays(tmp_path / "rays", Brackets(9, 3), trials=3, devices=1)
        assert Counter(ours.units) == {1: 6, 3: 2, 9: 1}
        assert (rays.units, rays.trained_units) == ([9, 9, 9], 27)


@pytest.fixture(scope="module")
def train_within(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Trained]:
    """Train brackets within a budget, once."""

    @cache
    def train_once(units: int) -> Trained:
        return train_ours(tmp_path_factory.mktemp("small"), Brackets(9, 3), trials=100, units=units, devices=8)

    return train_once


@pytest.mark.slow
class TestSmallBudgets:
    """The last bracket is made smaller to fit; none is begun that could not be finished."""

    @pytest.mark.parametrize(
        ("units", "brackets"),
        [
            (9, [{9: 1}]),
            (18, [{1: 4, 3: 1, 9: 1}]),  # six trials cost 16 units, seven would cost 19
            (27, [{1: 6, 3: 2, 9: 1}]),
            (36, [{1: 6, 3: 2, 9: 1}, {3: 2, 9: 1}]),
            (84, [{1: 6, 3: 2, 9: 1}, {3: 3, 9: 2}, {9: 3}, {9: 1}]),
        ],
    )
    def test_brackets(self, train_within: Callable[[int], Trained], units: int, brackets: list[dict[int, int]]) -> None:
        reached, found = train_within(units).units, []
        for expected in brackets:
            size = sum(expected.values())
            found.append(dict(Counter(reached[:size])))
            reached = reached[size:]
        assert (found, reached) == (brackets, [])

    @pytest.mark.parametrize("units", [9, 18, 27, 36, 84])
    def test_less_than_a_full_training_is_left(self, train_within: Callable[[int], Trained], units: int) -> None:
        assert 0 <= units - train_within(units).trained_units < 9


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train a bracket of nine: 0, 1 and 2 are promoted; 1 fails once in its third unit, 2 always in its second."""
    folder = tmp_path_factory.mktemp("failures")
    return train_ours(folder, Brackets(9, 3), trials=100, units=27, devices=2, fails={1: 3, 2: 2})


@pytest.mark.slow
class TestFailures:
    def test_one_that_fails_for_good_does_not_stall_the_others(self, trained: Trained) -> None:
        statuses = {trial.config["number"]: trial.status for trial in trained.trials}
        assert statuses == {number: Trial.ERROR if number == 2 else Trial.TERMINATED for number in range(9)}

    def test_one_that_is_tried_again_keeps_its_place(self, trained: Trained) -> None:
        """It reaches the rung it was promoted to, and nobody takes the place of the one that failed."""
        assert trained.units == [9, 3, 1, 1, 1, 1, 1, 1, 1]

    def test_the_units_of_failed_attempts_count(self, trained: Trained) -> None:
        """One was lost with the attempt in the third unit, whose checkpoint was of the first."""
        assert trained.trained_units == 9 * 1 + 2 * 2 + 1 + 1 * 6
