"""PB2 in studies of Ray Tune: when its model is asked, what it is told, and that its answer is what is explored."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.tune.schedulers.pb2 as rays_pb2
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm

from benchmarks import spec
from benchmarks.space import Choice, Config, Integer, LogUniform, Space, Uniform
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.budget import Budget
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedSearch, budgeted
from hpo.engine.in_process import InProcess
from hpo.search import registry
from hpo.search.schedulers.bandit import Pb2Scheduler, from_unit_cube, to_unit_cube
from tests.hpo.engine.in_process import run

BUDGET, INTERVAL, MAX_UNITS, SEED = 4, 2, 9, 2
EXCHANGES = [2, 4, 6, 8]
RATE = LogUniform(type="loguniform", low=1e-5, high=1e-1)
SHARE = Uniform(type="uniform", low=0.0, high=0.5)
WHOLE = Integer(type="int", low=1, high=16)
FEW = Integer(type="int", low=1, high=3)
SIZE = Choice(type="choice", values=(8, 16))
MIXED: Space = {
    "learning_rate": RATE,
    "warmup_ratio": SHARE,
    "gradient_accumulation_steps": WHOLE,
    "batch_size_per_device": SIZE,
}


def ranges_of(space: Space) -> dict[str, Any]:
    return {name: domain for name, domain in space.items() if not isinstance(domain, Choice)}


def study_of(space: Space, budget: int = BUDGET, seed: int = SEED, **arguments: Any) -> Study:
    benchmark = spec.load("synthetic").model_copy(update={"space": space})
    settings = {"interval_units": INTERVAL, **arguments}
    return Study("pb2", benchmark, seed, budget, arguments=settings)


# ---- what needs no study


class TestUnitCube:
    @pytest.mark.parametrize("domain", [RATE, SHARE, Uniform(type="uniform", low=-3.0, high=7.5)])
    def test_places_of_reals_come_back(self, domain: Any) -> None:
        for place in (0.0, 1e-6, 0.123456, 0.5, 0.999999, 1.0):
            assert to_unit_cube({"x": domain}, from_unit_cube({"x": domain}, {"x": place})) == {"x": place}

    @pytest.mark.parametrize("domain", [WHOLE, FEW, Integer(type="int", low=0, high=5000)])
    def test_whole_numbers_come_back(self, domain: Integer) -> None:
        for value in range(domain.low, domain.high + 1):
            back = from_unit_cube({"x": domain}, to_unit_cube({"x": domain}, {"x": value}))["x"]
            assert (back, type(back)) == (value, int)

    @pytest.mark.parametrize("domain", [RATE, SHARE, WHOLE])
    def test_bounds_are_the_corners(self, domain: Any) -> None:
        assert [to_unit_cube({"x": domain}, {"x": bound})["x"] for bound in (domain.low, domain.high)] == [0.0, 1.0]
        assert [from_unit_cube({"x": domain}, {"x": corner})["x"] for corner in (0, 1)] == [domain.low, domain.high]

    @pytest.mark.parametrize("domain", [RATE, SHARE, WHOLE])
    def test_what_lies_beyond_a_corner_is_the_bound(self, domain: Any) -> None:
        """Single precision can put a proposal past 1."""
        assert [from_unit_cube({"x": domain}, {"x": p})["x"] for p in (-0.01, 1.01)] == [domain.low, domain.high]

    def test_a_logarithmic_range_is_flat_in_its_logarithm(self) -> None:
        assert to_unit_cube({"x": RATE}, {"x": 1e-3}) == {"x": 0.5}
        assert from_unit_cube({"x": RATE}, {"x": 0.25})["x"] == pytest.approx(1e-4)

    def test_choices_are_left_out(self) -> None:
        config = {"learning_rate": 1e-3, "warmup_ratio": 0.5, "gradient_accumulation_steps": 1}
        assert to_unit_cube(ranges_of(MIXED), {**config, "batch_size_per_device": 8}) == {
            "learning_rate": 0.5,
            "warmup_ratio": 1.0,
            "gradient_accumulation_steps": 0.0,
        }


class TestPlan:
    """Refusals of spaces and budgets that PB2 cannot run, before anything starts."""

    def test_a_space_of_choices_alone_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="synthetic has choices alone, but pb2 models numeric ranges; use pbt"):
            registry.get("pb2").make_plan(study_of({"batch_size_per_device": SIZE}))

    def test_a_budget_of_one_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="budget is 1, but pb2 needs a population of at least 2"):
            registry.get("pb2").make_plan(study_of(MIXED, budget=1))

    @pytest.mark.parametrize("interval", [MAX_UNITS, MAX_UNITS + 1])
    def test_an_interval_that_leaves_no_exchange_is_refused(self, interval: int) -> None:
        with pytest.raises(BenchmarkError, match=f"interval_units is {interval}, but must be < max_units, which is 9"):
            registry.get("pb2").make_plan(study_of(MIXED, interval_units=interval))


# ---- members made by hand


@dataclass(frozen=True)
class Exploit:
    """A member took over a donor, and goes on with `config`; `asked` is what the model had proposed, if it was."""

    member: int
    donor: int
    units: int
    config: Config
    asked: tuple[float, ...] | None


@dataclass
class Population:
    """Records of members made by hand."""

    space: Space
    scheduler: Pb2Scheduler
    exploits: list[Exploit] = field(default_factory=list)
    losses: dict[tuple[int, int], float] = field(default_factory=dict)
    configs: dict[tuple[int, int], Config] = field(default_factory=dict)


class Recorder(tune.Callback):
    def __init__(self, population: Population) -> None:
        self._population = population

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **info: Any) -> None:
        place = number_of(trial.trial_id), result["units"]
        self._population.losses[place], self._population.configs[place] = result["objective"], dict(trial.config)


def number_of(trial_id: str) -> int:
    return int(trial_id.rpartition("_")[2])


def distance(space: Space, a: Config, b: Config) -> float:
    """Squared, over the ranges that both have, each of length 1 on its own scale."""
    scales = {name: math.log if space[name].type == "loguniform" else float for name in b}
    ends = {name: (scales[name](space[name].low), scales[name](space[name].high)) for name in b}
    shares = [(scales[n](a[n]) - scales[n](b[n])) / (high - low) for n, (low, high) in ends.items()]
    return sum(share**2 for share in shares)


def make_member(space: Space, best: Config, faults: tuple[tuple[int, int], ...], folder: Path) -> Any:
    """Make a trainable that improves the faster, the nearer its values are to the best."""

    class Member(tune.Trainable):
        def setup(self, config: Config) -> None:
            self._settings, self._units, self._loss = config, 0, 1.0

        def reset_config(self, new_config: Config) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self._units += 1
            self._maybe_raise()
            self._loss -= 0.1 * math.exp(-10 * distance(space, self._settings, best))
            return {"units": self._units, "objective": self._loss, "diverged": False}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "member.json").write_text(json.dumps([self._units, self._loss]))

        def load_checkpoint(self, checkpoint: str) -> None:
            self._units, self._loss = json.loads((Path(checkpoint) / "member.json").read_text())

        def _maybe_raise(self) -> None:
            fault = int(self.trial_id.rpartition("_")[2]), self._units
            seen = folder / "{} {}".format(*fault)
            if fault in faults and not seen.exists():
                seen.touch()
                raise RuntimeError("once")

    return Member


def train(
    space: Space,
    best: Config,
    folder: Path,
    *faults: tuple[int, int],
    share: float = 0.25,
    seed: int = SEED,
) -> Population:
    """Run a study of members made by hand; `faults` are members and the units at which they fail once."""
    study = study_of(space, seed=seed, exploit_share=share)
    plan = registry.get("pb2").make_plan(study)
    assert isinstance(plan.scheduler, Pb2Scheduler)
    assert isinstance(plan.searcher, SearchAlgorithm)
    population, proposals = Population(space, plan.scheduler), []
    select = rays_pb2._select_config

    def note_proposal(*arguments: Any, **more: Any) -> Any:
        """Where Ray asks the model; there is no other trace of it."""
        answer = select(*arguments, **more)
        proposals.append(tuple(float(place) for place in answer))
        return answer

    def note_exploit(trial_id: str, donor_id: str, units: int, config: Config) -> None:
        asked = proposals.pop() if proposals else None
        population.exploits.append(Exploit(number_of(trial_id), number_of(donor_id), units, config, asked))

    plan.scheduler.on_exploit = note_exploit
    scheduler = budgeted(plan, Budget(study.budget_units + MAX_UNITS), MAX_UNITS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rays_pb2, "_select_config", note_proposal)
        InProcess(devices=2).fit(
            make_member(space, best, faults, folder),
            {},
            tune.PlacementGroupFactory([{"CPU": 1}]),
            config=plan.space,
            search_alg=BudgetedSearch(plan.searcher, scheduler),
            scheduler=scheduler,
            num_samples=plan.num_samples,
            storage_path=str(folder / "tune"),
            name="members",
            callbacks=[Recorder(population)],
            max_failures=1,
        )
    assert {units for _, units in population.losses} == set(range(1, MAX_UNITS + 1))
    return population


def improvements(population: Population) -> Counter[tuple[int, float]]:
    """Count the rows that the model is told, as Ray reads the scheduler's table: time, gain since the row before."""
    data, names = population.scheduler.data, list(ranges_of(population.space))
    data = data.sort_values("Time", kind="stable").reset_index(drop=True)
    change = data.groupby(["Trial", *names])[["Reward", "Time"]].diff()
    kept = change[change["Time"] > 0]
    gains = kept["Reward"] / kept["Time"]
    return Counter((int(data["Time"][i]), round(float(gain), 9)) for i, gain in gains.items())


def gains_of_the_intervals(population: Population) -> Counter[tuple[int, float]]:
    """Count each member's own gain in each interval after the first exchange."""
    at_start = {(m, units): population.losses[m, units] for m in range(BUDGET) for units in EXCHANGES}
    at_start |= {(e.member, e.units): population.losses[e.donor, e.units] for e in population.exploits}
    gains: Counter[tuple[int, float]] = Counter()
    for (member, begin), loss in at_start.items():
        if (end := begin + INTERVAL) in EXCHANGES:
            gains[end, round((loss - population.losses[member, end]) / INTERVAL, 9)] += 1
    return gains


BEST: Config = {"learning_rate": 1e-4, "warmup_ratio": 0.3, "gradient_accumulation_steps": 8}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Population:
    """Three ranges, one of whole numbers, and a choice."""
    return train(MIXED, BEST, tmp_path_factory.mktemp("mixed"))


@pytest.mark.slow
class TestMembers:
    def test_members_are_exchanged_at_every_interval_before_the_end(self, mixed: Population) -> None:
        assert Counter(exploit.units for exploit in mixed.exploits) == dict.fromkeys(EXCHANGES, 1)

    def test_the_model_is_asked_at_every_exploit_after_the_first_exchange(self, mixed: Population) -> None:
        assert [e.asked is not None for e in mixed.exploits] == [e.units > INTERVAL for e in mixed.exploits]

    def test_what_the_model_proposes_is_explored(self, mixed: Population) -> None:
        assert_explored_as_proposed(mixed)

    def test_a_proposal_that_equals_the_donor_is_explored(self, tmp_path: Path) -> None:
        """The best lies at the bound, which the donor has reached already."""
        population = train({"learning_rate": RATE}, {"learning_rate": RATE.high}, tmp_path, share=0.5, seed=4)
        donors = [population.configs[exploit.donor, exploit.units]["learning_rate"] for exploit in population.exploits]
        asked = [exploit.asked for exploit in population.exploits]
        assert ((1.0,), RATE.high) in list(zip(asked, donors, strict=True)), "this seed should propose it"
        assert_explored_as_proposed(population)

    def test_the_first_exchange_draws_at_random(self, mixed: Population) -> None:
        [drawn] = [exploit for exploit in mixed.exploits if exploit.units == INTERVAL]
        donor = mixed.configs[drawn.donor, drawn.units]
        assert drawn.config["learning_rate"] != donor["learning_rate"]
        assert drawn.config["warmup_ratio"] != donor["warmup_ratio"]

    def test_every_explored_value_lies_within_its_bounds(self, mixed: Population) -> None:
        ranges = ranges_of(MIXED)
        assert [e for e in mixed.exploits if not all(d.contains(e.config[name]) for name, d in ranges.items())] == []

    def test_whole_numbers_stay_whole(self, mixed: Population) -> None:
        assert {type(exploit.config["gradient_accumulation_steps"]) for exploit in mixed.exploits} == {int}

    def test_choices_are_the_donors(self, mixed: Population) -> None:
        donors = [mixed.configs[exploit.donor, exploit.units] for exploit in mixed.exploits]
        choices = [donor["batch_size_per_device"] for donor in donors]
        assert [exploit.config["batch_size_per_device"] for exploit in mixed.exploits] == choices

    def test_what_was_explored_is_trained(self, mixed: Population) -> None:
        assert [mixed.configs[e.member, e.units + 1] for e in mixed.exploits] == [e.config for e in mixed.exploits]

    def test_the_model_is_told_every_members_own_gains(self, mixed: Population) -> None:
        """A replaced member's first gain is counted from where it took over."""
        assert improvements(mixed) == gains_of_the_intervals(mixed)

    @pytest.mark.thorough  # the one above has values that do not repeat
    def test_the_model_is_told_no_other_gains_where_values_repeat(self, tmp_path: Path) -> None:
        """A member soon returns to one of only three whole numbers."""
        space: Space = {"gradient_accumulation_steps": FEW, "batch_size_per_device": SIZE}
        population = train(space, {"gradient_accumulation_steps": 2}, tmp_path, share=0.5)
        assert improvements(population) == gains_of_the_intervals(population)

    @pytest.mark.thorough  # test_concurrency draws the order by lot
    def test_the_order_in_which_members_arrive_does_not_matter(self, mixed: Population, tmp_path: Path) -> None:
        """Members that fail once arrive last; on several devices, any order can come about."""
        population = train(MIXED, BEST, tmp_path, (0, 3), (1, 5))
        assert len(list(tmp_path.glob("[0-9] *"))) == 2
        assert population.exploits == mixed.exploits


def assert_explored_as_proposed(population: Population) -> None:
    ranges = ranges_of(population.space)
    asked = [exploit for exploit in population.exploits if exploit.asked is not None]
    proposed = [from_unit_cube(ranges, dict(zip(ranges, exploit.asked, strict=True))) for exploit in asked]
    assert [{name: exploit.config[name] for name in ranges} for exploit in asked] == proposed


# ---- a study


def synthetic() -> Benchmark:
    benchmark = spec.load("synthetic")
    return benchmark.model_copy(update={"synthetic": spec.Synthetic(seconds_per_unit=0.01), "space": MIXED})


def rows_of_a_study() -> list[TrialRow]:
    study = Study("pb2", synthetic(), SEED, BUDGET, arguments={"interval_units": 3, "exploit_share": 0.5})
    finished = run(study, InProcess(devices=2))
    assert finished.reason == ""
    return finished.books.rows


@pytest.mark.slow
class TestStudy:
    @pytest.fixture(scope="class")
    @staticmethod
    def rows() -> list[TrialRow]:
        return rows_of_a_study()

    def test_every_member_trains_every_unit_once(self, rows: list[TrialRow]) -> None:
        assert [(row.outcome, row.units, row.trained_units) for row in rows] == [("completed", 9, 9)] * BUDGET

    def test_exploits_are_counted(self, rows: list[TrialRow]) -> None:
        assert sum(row.exploits for row in rows) == 2 * 2

    def test_schedules_lie_in_the_space(self, rows: list[TrialRow]) -> None:
        configs = [config for row in rows for _, config in row.schedule]
        assert [c for c in configs if not all(domain.contains(c[name]) for name, domain in MIXED.items())] == []

    def test_one_seed_gives_the_same_schedules_whatever_was_drawn_before(self, rows: list[TrialRow]) -> None:
        np.random.seed(8)
        again = rows_of_a_study()
        assert [row.schedule for row in again] == [row.schedule for row in rows]
        assert [row.metrics["eval_loss"] for row in again] == [row.metrics["eval_loss"] for row in rows]
