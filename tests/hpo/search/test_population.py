"""Population based training in studies of Ray Tune: who takes over whom, what they explore, what it costs.

Studies run in this process, on closed-form learning curves, whose loss depends on the current configuration and the
unit alone. Members made by hand carry a state that their hyperparameters shape unit by unit, as weights do. One study
trains nano on Ray's actors, and its schedules are then replayed from scratch.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm
from rich.console import Console

from benchmarks import spec
from benchmarks.space import Choice, Config, Integer, LogUniform, Space, Uniform
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.ranks import Ranks, find_places
from benchmarks.training.synthetic import SyntheticTrial
from hpo.core.budget import Budget
from hpo.core.results import Results, TrialRow
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedSearch, budgeted
from hpo.engine.checkpoints import Checkpoints
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Executor, Finished, OnRay, execute
from hpo.search import registry
from hpo.search.population import PopulationScheduler, clip, interval_units, into_space, move_integers
from hpo.search.space import to_tune
from tests.hpo.engine.in_process import run as run_in_process
from tests.rays import ray_of
from tests.stores import working_in

BUDGET, INTERVAL, SEED = 5, 3, 3
MAX_UNITS = 9
EXCHANGES = [3, 6]
SECONDS_PER_UNIT = 0.05


# ---- studies on closed-form curves


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with working_in(tmp_path_factory.mktemp("population")):
        yield


@dataclass(frozen=True)
class Exploit:
    """A member took over a donor, and goes on with `config`."""

    member: int
    donor: int
    units: int
    config: Config


@dataclass(frozen=True)
class Ran:
    """A study that has run, its exploits, and what MLflow has of it."""

    study: Study
    finished: Finished
    exploits: list[Exploit]

    @property
    def rows(self) -> list[TrialRow]:
        return self.finished.results.rows

    @property
    def schedules(self) -> list[list[tuple[int, Config]]]:
        return [row.schedule for row in self.rows]

    @cached_property
    def children(self) -> list[Run]:
        """Read the trials' runs, by number of the trial."""
        parent = MlflowClient().get_run(self.finished.run_id)
        wanted = f"tags.mlflow.parentRunId = '{self.finished.run_id}'"
        found = MlflowClient().search_runs([parent.info.experiment_id], filter_string=wanted)
        return sorted(found, key=lambda child: int(child.data.tags["hpo.trial"]))

    def history(self, member: int, metric: str) -> dict[int, float]:
        """Read a member's metric, by unit."""
        points = MlflowClient().get_metric_history(self.children[member].info.run_id, metric)
        return {point.step: point.value for point in points}

    def artifact(self, run_id: str, name: str) -> Any:
        return json.loads(Path(MlflowClient().download_artifacts(run_id, name)).read_text())

    def trained_with(self, member: int) -> dict[int, Config]:
        """Compute the configuration of each of a member's units from the exploits."""
        config, by_unit = self.rows[member].config, {}
        own = {exploit.units: exploit.config for exploit in self.exploits if exploit.member == member}
        for unit in range(1, MAX_UNITS + 1):
            config = own.get(unit - 1, config)
            by_unit[unit] = self.study.full_config(config)
        return by_unit


def synthetic(diverge_above: float | None = None, seconds_per_unit: float = SECONDS_PER_UNIT) -> Benchmark:
    benchmark = spec.load("synthetic")
    settings = spec.Synthetic(seconds_per_unit=seconds_per_unit, diverge_above=diverge_above)
    return benchmark.model_copy(update={"synthetic": settings})


def run_study(
    benchmark: Benchmark, executor: Executor, budget: int = BUDGET, seed: int = SEED, **arguments: Any
) -> Ran:
    study = Study("pbt", benchmark, seed, budget, arguments={"interval_units": INTERVAL, **arguments})
    exploits: list[Exploit] = []
    exploit = Results.exploit

    def note(results: Results, trial_id: str, donor_id: str, units: int, config: Config) -> None:
        exploits.append(Exploit(results[trial_id].number, results[donor_id].number, units, config))
        exploit(results, trial_id, donor_id, units, config)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Results, "exploit", note)
        finished = execute(study, "python -m hpo run pbt", Console(file=io.StringIO(), width=160), executor)
    assert finished.reason == ""
    return Ran(study, finished, exploits)


@pytest.fixture(scope="module")
def on_one_device(store: None) -> Ran:
    random.seed(6)
    np.random.seed(6)
    return run_study(synthetic(), InProcess(1))


@pytest.fixture(scope="module")
def ran(store: None) -> Ran:
    """Run the study that most tests look at; the process's generators, which Ray draws from, stand elsewhere."""
    random.seed(7)
    np.random.seed(7)
    return run_study(synthetic(), InProcess(2))


@pytest.mark.slow
class TestStudy:
    """A population on curves of which none diverges."""

    def test_the_population_is_the_budget(self, ran: Ran) -> None:
        assert [row.outcome for row in ran.rows] == ["completed"] * BUDGET

    def test_every_member_trains_every_unit_once(self, ran: Ran) -> None:
        assert [(row.units, row.trained_units) for row in ran.rows] == [(MAX_UNITS, MAX_UNITS)] * BUDGET

    def test_the_budget_is_spent_to_the_last_unit(self, ran: Ran) -> None:
        metrics = MlflowClient().get_run(ran.finished.run_id).data.metrics
        assert metrics["units"] == BUDGET * MAX_UNITS

    def test_members_are_exchanged_at_every_interval_before_the_end(self, ran: Ran) -> None:
        assert sorted({exploit.units for exploit in ran.exploits}) == EXCHANGES

    def test_the_worst_take_over_the_best(self, ran: Ran) -> None:
        share = math.ceil(0.25 * BUDGET)
        curves = [ran.history(member, "eval_loss") for member in range(BUDGET)]
        for units in EXCHANGES:
            ranked = sorted(range(BUDGET), key=lambda member: curves[member][units])
            exploits = [exploit for exploit in ran.exploits if exploit.units == units]
            assert {exploit.member for exploit in exploits} == set(ranked[-share:])
            assert {exploit.donor for exploit in exploits} <= set(ranked[:share])

    def test_every_explored_value_lies_in_the_space(self, ran: Ran) -> None:
        space, configs = ran.study.benchmark.space, [config for schedule in ran.schedules for _, config in schedule]
        assert [config for config in configs if not all(d.contains(config[name]) for name, d in space.items())] == []

    def test_something_is_explored_at_every_exploit(self, ran: Ran) -> None:
        donors = [ran.trained_with(exploit.donor)[exploit.units] for exploit in ran.exploits]
        assert all(donor != exploit.config for donor, exploit in zip(donors, ran.exploits, strict=True))

    def test_what_is_explored_reaches_the_next_unit(self, ran: Ran) -> None:
        """Each loss is that of the configuration in force, by the curves' formula."""
        for member in range(BUDGET):
            trial, curve = SyntheticTrial(synthetic(seconds_per_unit=0.0)), ran.history(member, "eval_loss")
            for unit, config in ran.trained_with(member).items():
                trial.start(config, SEED)  # a curve has no memory of other configurations
                losses = [trial.run_unit()["eval_loss"] for _ in range(unit)]
                assert losses[-1] == curve[unit], (member, unit)

    def test_a_schedule_is_the_donors_and_then_its_own(self, ran: Ran) -> None:
        schedules = [[(0, row.config)] for row in ran.rows]
        for e in ran.exploits:  # donors keep their places at an exchange, so that order does not matter
            schedules[e.member] = [*schedules[e.donor], (e.units, ran.study.full_config(e.config))]
        assert ran.schedules == schedules

    def test_exploits_are_counted(self, ran: Ran) -> None:
        members = [exploit.member for exploit in ran.exploits]
        assert [row.exploits for row in ran.rows] == [members.count(number) for number in range(BUDGET)]

    # ---- one seed, one sequence of decisions, whatever else was drawn

    def test_one_and_two_devices_give_the_same_schedules(self, ran: Ran, on_one_device: Ran) -> None:
        assert (ran.schedules, ran.exploits) == (on_one_device.schedules, on_one_device.exploits)

    def test_one_and_two_devices_give_the_same_results(self, ran: Ran, on_one_device: Ran) -> None:
        losses = [[row.metrics["eval_loss"] for row in study.rows] for study in (ran, on_one_device)]
        assert losses[0] == losses[1]

    # ---- what it costs

    def test_a_clone_s_time_is_its_own(self, ran: Ran) -> None:
        """Were a donor's time added to its clone, the trials' sum would exceed what the devices did."""
        shares = ran.finished.shares
        assert sum(row.device_seconds for row in ran.rows) == pytest.approx(shares.measured_seconds)
        assert shares.measured_seconds <= shares.reserved_seconds * 1.001

    def test_training_time_is_that_of_each_member_s_own_units(self, ran: Ran) -> None:
        own = [config for member in range(BUDGET) for config in ran.trained_with(member).values()]
        expected = sum(SECONDS_PER_UNIT * (0.5 + 4 / float(config["batch_size_per_device"])) for config in own)
        assert expected <= ran.finished.shares.seconds["train"] < 1.5 * expected  # calls and a busy machine

    # ---- what is stored

    def test_the_hyperparameters_of_every_unit_are_stored(self, ran: Ran) -> None:
        for member in range(BUDGET):
            trained_with = ran.trained_with(member)
            for name in ran.study.benchmark.space:
                expected = {unit: float(config[name]) for unit, config in trained_with.items()}
                assert ran.history(member, f"hp.{name}") == expected

    def test_every_member_s_schedule_is_stored(self, ran: Ran) -> None:
        stored = [ran.artifact(child.info.run_id, "schedule.json") for child in ran.children]
        assert stored == [[{"units": u, "config": c} for u, c in schedule] for schedule in ran.schedules]

    def test_every_member_s_exploits_are_stored(self, ran: Ran) -> None:
        assert [int(child.data.tags["hpo.exploits"]) for child in ran.children] == [row.exploits for row in ran.rows]

    def test_the_winner_s_schedule_is_stored_with_it(self, ran: Ran) -> None:
        winner, best = ran.finished.results.incumbent(), ran.artifact(ran.finished.run_id, "best_config.json")
        assert winner is not None
        assert winner.exploits > 0, "this seed's winner should have taken over another"
        assert best["schedule"] == [{"units": u, "config": c} for u, c in winner.schedule]
        assert best["config"] == winner.schedule[-1][1]


# ---- studies that diverge


LIMIT = 1e-3
"""Two of this seed's first rates lie above it, and none so close below that a step of 1.2 would cross it."""


@pytest.fixture(scope="module")
def diverging(store: None) -> Ran:
    return run_study(synthetic(diverge_above=LIMIT), InProcess(2), resample_probability=0.0)


@pytest.mark.slow
class TestDivergence:
    """Every learning rate above the limit gives NaN from its second unit on."""

    def test_a_diverged_member_takes_over_a_sound_one_at_the_next_exchange(self, diverging: Ran) -> None:
        bad = {row.number for row in diverging.rows if float(row.config["learning_rate"]) > LIMIT}
        assert 0 < len(bad) < BUDGET, "this seed should propose some"
        first = [exploit for exploit in diverging.exploits if exploit.units == INTERVAL]
        assert bad <= {exploit.member for exploit in first}
        assert not bad & {exploit.donor for exploit in first}

    def test_a_diverged_member_waits_for_the_exchange(self, diverging: Ran) -> None:
        units = [sorted(diverging.history(number, "device_seconds")) for number in range(BUDGET)]
        waited = [float(row.config["learning_rate"]) > LIMIT for row in diverging.rows]
        assert units == [[unit for unit in range(1, MAX_UNITS + 1) if unit != 3 or not w] for w in waited]

    def test_revived_members_train_to_the_end(self, diverging: Ran) -> None:
        assert [(row.outcome, row.units) for row in diverging.rows] == [("completed", MAX_UNITS)] * BUDGET

    def test_no_member_is_reported_as_diverged_any_more(self, diverging: Ran) -> None:
        assert [row.reason for row in diverging.rows] == [f"reached the full resource of {MAX_UNITS} units"] * BUDGET
        assert [child.data.tags["hpo.outcome"] for child in diverging.children] == ["completed"] * BUDGET

    def test_units_that_diverged_members_missed_are_not_spent(self, diverging: Ran) -> None:
        bad = sum(float(row.config["learning_rate"]) > LIMIT for row in diverging.rows)
        metrics = MlflowClient().get_run(diverging.finished.run_id).data.metrics
        assert metrics["units"] == BUDGET * MAX_UNITS - bad

    def test_a_study_of_which_all_members_diverge_ends(self, store: None) -> None:
        everywhere = run_study(synthetic(diverge_above=1e-9), InProcess(2), budget=3)
        assert [(row.outcome, row.units, row.exploits) for row in everywhere.rows] == [("diverged", 2, 0)] * 3
        assert everywhere.finished.results.incumbent() is None


# ---- members made by hand


BOUNDED = {
    "learning_rate": Uniform(type="uniform", low=0.1, high=1.0),
    "gradient_accumulation_steps": Integer(type="int", low=1, high=4),
    "batch_size_per_device": Choice(type="choice", values=(8, 16, 32)),
}
Fault = tuple[int, str, int]
"""Member, "step" or "save", and the unit at which it raises; once, and again in every attempt if `for_good`."""


def shrinkage(config: Config) -> float:
    """Compute the share of a member's loss that a unit leaves: the larger the rate, the less, beyond the bound too."""
    return 1 - 0.2 * float(config["learning_rate"]) - 0.01 * float(config["gradient_accumulation_steps"])


def make_member(folder: Path, faults: tuple[Fault, ...], for_good: bool, diverging: tuple[tuple[int, int], ...]) -> Any:
    """Make a trainable whose loss carries the settings of each of its units, as weights do."""

    class Member(tune.Trainable):
        def setup(self, config: Config) -> None:
            self._settings, self._units, self._loss = config, 0, 1.0

        def reset_config(self, new_config: Config) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self._units += 1
            self._maybe_raise("step")
            self._loss *= shrinkage(self._settings)
            diverged = (self._number, self._units) in diverging
            return {"units": self._units, "objective": 25.0 if diverged else self._loss, "diverged": diverged}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self._maybe_raise("save")
            (Path(checkpoint_dir) / "member.json").write_text(json.dumps([self._units, self._loss]))

        def load_checkpoint(self, checkpoint: str) -> None:
            self._units, self._loss = json.loads((Path(checkpoint) / "member.json").read_text())

        @property
        def _number(self) -> int:
            return int(self.trial_id.rpartition("_")[2])

        def _maybe_raise(self, what: str) -> None:
            fault, seen = (self._number, what, self._units), folder / f"{self._number} {what} {self._units}"
            if fault in faults and (for_good or not seen.exists()):
                seen.touch()
                raise RuntimeError(f"{what} of unit {self._units} does not work")

    return Member


@dataclass
class Population:
    """Records of members made by hand, by number."""

    units: dict[int, list[int]] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    trained_with: dict[tuple[int, int], Config] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    exploits: list[Exploit] = field(default_factory=list)

    def note_exploit(self, trial_id: str, donor_id: str, units: int, config: Config) -> None:
        self.exploits.append(Exploit(number_of(trial_id), number_of(donor_id), units, config))


class Recorder(tune.Callback):
    """Notes what members report, and deletes checkpoints as a study does."""

    def __init__(self) -> None:
        self.population, self._checkpoints = Population(), Checkpoints()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.population.statuses = {number_of(trial.trial_id): trial.status for trial in trials}

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **info: Any) -> None:
        number = number_of(trial.trial_id)
        self.population.units.setdefault(number, []).append(result["units"])
        self.population.losses[number] = result["objective"]
        self.population.trained_with[number, result["units"]] = dict(trial.config)

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        self._checkpoints.add(checkpoint)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._checkpoints.prune(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._checkpoints.prune([other for other in trials if other is not trial])


def number_of(trial_id: str) -> int:
    return int(trial_id.rpartition("_")[2])


def train(members: Any, folder: Path, recorder: Recorder, **how: Any) -> Population:
    """Run a study of members made by hand, retried once where they fail."""
    InProcess(devices=2).fit(
        members,
        {},
        tune.PlacementGroupFactory([{"CPU": 1}]),
        num_samples=BUDGET,
        storage_path=str(folder / "tune"),
        name="members",
        callbacks=[recorder],
        max_failures=1,
        **how,
    )
    return recorder.population


def bounded_study() -> Study:
    benchmark = spec.load("synthetic").model_copy(update={"space": BOUNDED})
    arguments = {"interval_units": INTERVAL, "exploit_share": 0.4, "resample_probability": 0.0}
    return Study("pbt", benchmark, SEED, BUDGET, arguments=arguments)


def train_ours(
    folder: Path, *faults: Fault, for_good: bool = False, diverging: tuple[tuple[int, int], ...] = ()
) -> Population:
    """Train under the scheduler of this suite, with units to spare for retries."""
    study, recorder = bounded_study(), Recorder()
    plan = registry.get("pbt").make_plan(study)
    assert isinstance(plan.scheduler, PopulationScheduler)
    assert isinstance(plan.searcher, SearchAlgorithm)
    plan.scheduler.on_exploit = recorder.population.note_exploit
    scheduler = budgeted(plan, Budget(study.budget_units + 2 * MAX_UNITS), MAX_UNITS)
    members, search = make_member(folder, faults, for_good, diverging), BudgetedSearch(plan.searcher, scheduler)
    return train(members, folder, recorder, search_alg=search, scheduler=scheduler, config=plan.space)


def train_rays_own(folder: Path) -> Population:
    """Train under Ray's scheduler alone, with the same settings."""
    mutations = {n: list(d.values) if isinstance(d, Choice) else to_tune({n: d})[n] for n, d in BOUNDED.items()}
    scheduler = PopulationBasedTraining(
        time_attr="units",
        metric="objective",
        mode="min",
        perturbation_interval=INTERVAL,
        hyperparam_mutations=mutations,
        quantile_fraction=0.4,
        resample_probability=0.0,
        synch=True,
        log_config=False,
    )
    random.seed(SEED)
    search = BasicVariantGenerator(random_state=SEED)
    space, stop = to_tune(BOUNDED), {"units": MAX_UNITS}
    members = make_member(folder, (), for_good=False, diverging=())
    return train(members, folder, Recorder(), search_alg=search, scheduler=scheduler, config=space, stop=stop)


def step(domain: Any, value: float, factor: float) -> float:
    """Scale a number within its bounds; a whole number that rounding would bring back moves by one."""
    moved = clip(domain, factor * value)
    if isinstance(domain, Integer) and moved == value:
        return clip(domain, value + (1 if factor > 1 else -1))
    return moved


def outside(configs: list[Config]) -> list[Config]:
    """List the configurations that do not lie in the space."""
    return [config for config in configs if not all(d.contains(config[name]) for name, d in BOUNDED.items())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return train_ours(tmp_path_factory.mktemp("undisturbed"))


DIVERGING, DIVERGING_LATE, FAILING = 0, 1, 4


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Population:
    diverging = ((DIVERGING, 2), (DIVERGING_LATE, 8))
    return train_ours(tmp_path_factory.mktemp("troubled"), (FAILING, "step", 2), for_good=True, diverging=diverging)


@pytest.mark.slow
class TestMembers:
    """Members made by hand, the better the larger their rates: the search pushes against the bounds."""

    def test_weights_carry_what_the_schedule_says(self, undisturbed: Population) -> None:
        """Each member's loss is its schedule, replayed from scratch."""
        schedules = [[(0, undisturbed.trained_with[number, 1])] for number in range(BUDGET)]
        for e in undisturbed.exploits:
            schedules[e.member] = [*schedules[e.donor], (e.units, e.config)]
        for number, schedule in enumerate(schedules):
            loss = 1.0
            for unit in range(MAX_UNITS):
                loss *= shrinkage(next(config for units, config in reversed(schedule) if units <= unit))
            assert undisturbed.losses[number] == loss

    def test_numbers_are_scaled_and_clipped_and_choices_moved_by_one_place(self, undisturbed: Population) -> None:
        places = BOUNDED["batch_size_per_device"].values
        for e in undisturbed.exploits:
            donor = undisturbed.trained_with[e.donor, e.units]
            for name in ("learning_rate", "gradient_accumulation_steps"):
                assert e.config[name] in [step(BOUNDED[name], donor[name], factor) for factor in (0.8, 1.2)]
            here, there = (places.index(config["batch_size_per_device"]) for config in (donor, e.config))
            assert abs(here - there) == 1 or here == there in (0, len(places) - 1)

    def test_no_value_leaves_the_space_where_the_best_lies_at_its_bound(self, undisturbed: Population) -> None:
        assert outside(list(undisturbed.trained_with.values())) == []
        assert BOUNDED["learning_rate"].high in [exploit.config["learning_rate"] for exploit in undisturbed.exploits]

    def test_rays_own_scheduler_leaves_the_space(self, tmp_path: Path) -> None:
        """Why values are clipped: Ray scales them past the bounds."""
        with ray_of(2):  # Tune starts one for it, and would leave it running
            population = train_rays_own(tmp_path)
        assert outside(list(population.trained_with.values())) != []

    def test_members_that_fail_once_keep_their_places(self, undisturbed: Population, tmp_path: Path) -> None:
        """In a unit, or while they write the checkpoint for an exchange: what they lost is trained again."""
        donor, clone = undisturbed.exploits[0].donor, undisturbed.exploits[0].member
        bystander = next(number for number in range(BUDGET) if number not in (donor, clone))
        faults = (donor, "step", 5), (clone, "step", 4), (bystander, "save", 3)
        population = train_ours(tmp_path, *faults)
        assert sorted(path.name for path in tmp_path.glob("*[0-9]")) == sorted(" ".join(map(str, f)) for f in faults)
        assert population.exploits == undisturbed.exploits
        assert population.losses == undisturbed.losses
        assert set(population.statuses.values()) == {Trial.TERMINATED}
        whole = list(range(1, MAX_UNITS + 1))
        assert population.units[donor] == [1, 2, 3, 4, *whole[3:]]
        assert population.units[clone] == whole
        assert population.units[bystander] == [1, 2, 3, *whole]

    # ---- one fails for good, one diverges on its way, one after the last exchange

    def test_a_member_that_fails_for_good_is_tried_twice(self, troubled: Population) -> None:
        assert troubled.units[FAILING] == [1, 1]
        assert troubled.statuses == {n: Trial.ERROR if n == FAILING else Trial.TERMINATED for n in range(BUDGET)}

    def test_a_member_that_fails_for_good_does_not_hold_up_the_others(self, troubled: Population) -> None:
        others = set(range(BUDGET)) - {FAILING, DIVERGING, DIVERGING_LATE}
        assert [troubled.units[n] for n in others] == [list(range(1, MAX_UNITS + 1))] * len(others)
        assert sorted({exploit.units for exploit in troubled.exploits}) == EXCHANGES

    def test_a_member_that_fails_for_good_is_no_longer_exchanged(self, troubled: Population) -> None:
        assert FAILING not in {number for exploit in troubled.exploits for number in (exploit.member, exploit.donor)}

    def test_a_diverged_member_goes_on_with_another_s_weights(self, troubled: Population) -> None:
        assert (DIVERGING, INTERVAL) in [(exploit.member, exploit.units) for exploit in troubled.exploits]
        assert troubled.units[DIVERGING] == [1, 2, 4, 5, 6, 7, 8, 9]

    def test_a_member_that_diverges_after_the_last_exchange_ends_there(self, troubled: Population) -> None:
        assert troubled.units[DIVERGING_LATE] == list(range(1, 9))


# ---- nano


SCORES = ("train_loss", "eval_loss", "exact_match", "f1")


@pytest.fixture(scope="module")
def nano(small_nano: Callable[..., Benchmark]) -> Benchmark:
    return small_nano(unit_samples=64, max_units=6)


@pytest.fixture(scope="module")
def tuned(store: None, nano: Benchmark) -> Iterator[Ran]:
    with ray_of(2):
        yield run_study(nano, OnRay(), budget=4, interval_units=2, exploit_share=0.5)


@pytest.fixture(scope="module")
def fresh_session(tuned: Ran, nano: Benchmark) -> Iterator[Ranks]:
    """Open a session in a process of its own: earlier trainings in this one could change the last bits."""
    session = Ranks(nano, find_places(1), threads=1)
    yield session
    session.close()


def change(session: Ranks, config: Config) -> None:
    """Continue with another configuration."""
    with tempfile.TemporaryDirectory() as checkpoint:
        session.save(Path(checkpoint))
        session.start(config, SEED)
        session.load(Path(checkpoint))


def replay(session: Ranks, schedule: list[tuple[int, Config]], max_units: int) -> dict[str, float]:
    """Train a schedule from the base weights; returns the last unit's scores."""
    (_, config), *changes = schedule
    session.start(config, SEED)
    for unit in range(max_units):
        for config in [config for units, config in changes if units == unit]:
            change(session, config)
        scores = session.run_unit()
    return scores


@pytest.mark.slow
class TestReplay:
    """Schedules trained from scratch, on one thread as in the study: there is no noise, the scores are the same."""

    def test_the_winner_s_schedule_gives_the_winner_s_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        best = tuned.artifact(tuned.finished.run_id, "best_config.json")
        assert len(best["schedule"]) > 1, "this seed's winner should have taken over another"
        schedule = [(entry["units"], entry["config"]) for entry in best["schedule"]]
        scores = replay(fresh_session, schedule, tuned.study.max_units)
        assert {key: scores[key] for key in SCORES} == {key: best["metrics"][key] for key in SCORES}

    def test_every_other_exploited_schedule_gives_its_member_s_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        winner = tuned.finished.results.incumbent()
        others = [row for row in tuned.rows if row.exploits and row is not winner]
        assert others
        for row in others:
            scores = replay(fresh_session, row.schedule, tuned.study.max_units)
            assert {key: scores[key] for key in SCORES} == {key: row.metrics[key] for key in SCORES}

    def test_a_schedule_with_another_batch_size_is_among_them(self, tuned: Ran) -> None:
        sizes = [{config["batch_size_per_device"] for _, config in row.schedule} for row in tuned.rows]
        assert max(map(len, sizes)) > 1

    def test_the_winner_s_last_configuration_alone_gives_another_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        """A schedule is not its last configuration."""
        winner = tuned.finished.results.incumbent()
        assert winner is not None
        scores = replay(fresh_session, [(0, winner.last_config)], tuned.study.max_units)
        assert scores["eval_loss"] != pytest.approx(winner.metrics["eval_loss"], abs=1e-3)


# ---- what needs no study


class TestPlan:
    """Refusals before anything starts."""

    @pytest.mark.parametrize("method", ["pbt", "pb2"])
    def test_a_budget_of_one_is_refused(self, method: str) -> None:
        with pytest.raises(BenchmarkError, match=f"budget is 1, but {method} needs a population of at least 2"):
            registry.get(method).make_plan(Study(method, synthetic(), budget=1))

    @pytest.mark.parametrize("method", ["pbt", "pb2"])
    def test_a_search_for_the_model_itself_is_refused(self, method: str) -> None:
        """Members take over each other's weights."""
        benchmark = synthetic()
        space = {**benchmark.space, "lora_rank": Choice(type="choice", values=(4, 8))}
        study = Study(method, benchmark.model_copy(update={"space": space}))
        with pytest.raises(BenchmarkError, match=f"has lora_rank, which cannot change within a trial, as {method}"):
            registry.get(method).make_plan(study)

    @pytest.mark.parametrize("interval", [MAX_UNITS, MAX_UNITS + 1])
    def test_an_interval_that_leaves_no_exchange_is_refused(self, interval: int) -> None:
        study = Study("pbt", synthetic(), arguments={"interval_units": interval})
        with pytest.raises(BenchmarkError, match=f"interval_units is {interval}, but must be < max_units, which is 9"):
            registry.get("pbt").make_plan(study)

    def test_the_interval_is_a_fifth_of_the_full_training_where_none_is_given(self) -> None:
        assert [interval_units(Study("pbt", synthetic()), given) for given in (0, 1, 8)] == [2, 1, 8]


class TestIntoSpace:
    def test_numbers_are_moved_to_the_nearest_bound(self) -> None:
        moved = into_space(
            BOUNDED, {"learning_rate": 1.7, "gradient_accumulation_steps": 0, "batch_size_per_device": 8}
        )
        assert moved == {"learning_rate": 1.0, "gradient_accumulation_steps": 1, "batch_size_per_device": 8}

    def test_numbers_within_stay(self) -> None:
        config = {"learning_rate": 0.3, "gradient_accumulation_steps": 3, "batch_size_per_device": 32, "seed": 5}
        assert into_space(BOUNDED, config) == config

    def test_whole_numbers_stay_whole(self) -> None:
        value = clip(Integer(type="int", low=1, high=4), 2.4)
        assert (value, type(value)) == (2, int)

    def test_bounds_are_hit_exactly(self) -> None:
        domain = LogUniform(type="loguniform", low=1e-6, high=1e-1)
        assert [clip(domain, value) for value in (1e-7, 0.12)] == [1e-6, 1e-1]


class TestWholeNumbers:
    SPACE: ClassVar[Space] = {"lora_rank": Integer(type="int", low=1, high=4)}

    @pytest.mark.parametrize(
        ("before", "after", "operation", "expected"),
        [
            (1, 1, "* 1.2", 2),
            (2, 2, "* 1.2", 3),
            (2, 2, "* 0.8", 1),
            (1, 1, "* 0.8", 1),  # at the bound
            (4, 4, "* 1.2", 4),
            (3, 3, "resample", 3),
            (2, 2, "* 1.0", 2),
            (2, 2, "* 1", 2),
            (3, 4, "* 1.2", 4),
        ],
    )
    def test_one_that_rounding_brought_back_moves_by_one(
        self, before: int, after: int, operation: str, expected: int
    ) -> None:
        moved = move_integers(self.SPACE, {"lora_rank": before}, {"lora_rank": after}, {"lora_rank": operation})
        assert moved == {"lora_rank": expected}

    @pytest.mark.slow  # eight members, in process
    def test_a_population_whose_best_is_1_tries_2(self) -> None:
        """Without resampling, Ray's rounding alone would leave every member at the donor's 1 for ever."""
        benchmark = synthetic()
        space = {"batch_size_per_device": Integer(type="int", low=1, high=4)}
        study = registry.get("pbt").study(
            benchmark.model_copy(update={"space": space, "grid": {}}), 0, 8, None, {"resample_probability": "0"}
        )
        rows = run_in_process(study, InProcess(2)).results.rows
        pairs = [
            (before["batch_size_per_device"], after["batch_size_per_device"])
            for row in rows
            for (_, before), (_, after) in itertools.pairwise(row.schedule)
        ]
        assert pairs
        assert all(before != after or before in (1, 4) for before, after in pairs)
        assert any(before < 4 and after == before + 1 for before, after in pairs)
