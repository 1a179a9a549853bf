"""Members made by hand, with a state that their hyperparameters shape unit by unit, as weights do."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm

from benchmarks import spec
from benchmarks.space import Choice, Config, Domain, Integer, Uniform
from hpo.core.budget import Budget
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedSearch, budgeted
from hpo.engine.checkpoints import Checkpoints
from hpo.engine.in_process import InProcess
from hpo.search import registry
from hpo.search.schedulers.population import PopulationScheduler
from hpo.search.space import to_tune
from tests.hpo.search.schedulers.population.studies import BUDGET, INTERVAL, MAX_UNITS, SEED, Exploit

BOUNDED: dict[str, Domain] = {
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
    """Callback that notes the members' reports, and deletes checkpoints as a study does."""

    def __init__(self, folder: Path) -> None:
        self.population, self._checkpoints, self._folder = Population(), Checkpoints(), folder

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
        self._checkpoints.prune(trials, self._folder)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._checkpoints.prune([other for other in trials if other is not trial], self._folder)


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
    study, recorder = bounded_study(), Recorder(folder)
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
    return train(members, folder, Recorder(folder), search_alg=search, scheduler=scheduler, config=space, stop=stop)
