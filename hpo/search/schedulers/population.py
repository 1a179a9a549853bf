"""Population based training in Ray Tune, corrected; the common part of PBT and PB2.

Ray's schedulers are used as they are, in their synchronous form: all members train one interval, then the worst take
over weights, optimizer state and hyperparameters of the best, and explore. One seed then gives one sequence of
decisions on any number of devices, and a member never falls behind the units it has reported. The corrections:

* Values stay in the search space; choices move along their list, numbers are scaled and clipped.
* Random state is the scheduler's own, not the process's.
* The exchange happens when every live member is paused with its checkpoint written: no member waits for one that
  has failed, and none is copied before it has arrived.
* A diverged member waits for the next exchange and then takes over a good member, however many have diverged.
* Exploration keeps the donor's batch size where another one is known not to fit into memory, or may not.
* Every exchange is told to a listener, so that schedules and their lineage can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from benchmarks.hyperparameters import FIXED_IN_A_TRIAL
from benchmarks.out_of_memory import MEMORY_DRIVERS
from benchmarks.space import Choice, Config, Domain, Integer, Scalar, Space
from benchmarks.spec import BenchmarkError
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE
from hpo.search.randomness import OwnRandomness

EXCHANGES = 4
"""Exchanges of a full training by default: each needs an interval long enough to show a difference."""
ExploitListener = Callable[[str, str, int, Config], None]
"""Function called with trial id, donor's trial id, units at the exchange, and the new configuration."""


def population_size(study: Study) -> int:
    """Return the number of members: the full trainings of the budget.

    Raises:
        BenchmarkError: too few to exchange anything.
    """
    if study.budget < 2:
        raise BenchmarkError(
            f"budget is {study.budget}, but {study.method} needs a population of at least 2, one full training each; "
            "raise the budget"
        )
    return study.budget


def require_exchangeable(study: Study) -> None:
    """Make sure that all members have the same weights, since they take over each other's, as they are.

    Raises:
        BenchmarkError: the search space varies the model itself, or a trial stands by its best unit.
    """
    if study.benchmark.selects_best:
        raise BenchmarkError(
            f"select is best_unit in benchmark {study.benchmark.name}, but {study.method} copies members as they are "
            "at an exchange; take `select: last_unit`, or another method"
        )
    if fixed := [name for name in FIXED_IN_A_TRIAL if name in study.benchmark.space]:
        raise BenchmarkError(
            f"the search space of benchmark {study.benchmark.name} has {fixed[0]}, which cannot change within a trial, "
            f"as {study.method} does it; take it out of `space`, or take another method"
        )


def interval_units(study: Study, given: int) -> int:
    """Return the units between exchanges: as given, or a fifth of the full training.

    Raises:
        BenchmarkError: no exchange would happen.
    """
    units = given or max(1, round(study.max_units / (EXCHANGES + 1)))
    if units >= study.max_units:
        raise BenchmarkError(
            f"interval_units is {units}, but must be < max_units, which is {study.max_units} in benchmark "
            f"{study.benchmark.name}: nothing would be exchanged"
        )
    return units


class PopulationScheduler(PopulationBasedTraining):
    """Ray's synchronous PBT with the corrections above; also a base for PB2.

    Args:
        study: gives space, seed and full resource.
        settings: arguments of Ray's scheduler.
    """

    _next_perturbation_sync: int

    def __init__(self, study: Study, **settings: Any) -> None:
        self._max_units, self._space = study.max_units, study.benchmark.space
        self._randomness = OwnRandomness(study.seed)
        self._diverged: set[Trial] = set()
        self.on_exploit: ExploitListener = _nobody_listens
        self.feasibility: Feasibility | None = None
        super().__init__(
            time_attr=TIME_ATTRIBUTE,
            metric=OBJECTIVE,
            mode=study.benchmark.mode,
            synch=True,
            log_config=False,
            **settings,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the listener out of a snapshot: it belongs to a driver."""
        return {**self.__dict__, "on_exploit": _nobody_listens}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a unit; at the exchange, or if it has diverged before, a member waits for the others."""
        exchange_at = self._next_perturbation_sync
        if result["diverged"]:
            if exchange_at >= self._max_units:
                return str(TrialScheduler.STOP)
            self._diverged.add(trial)
        else:  # also one that had diverged, lost that with a failure, and was tried again
            self._diverged.discard(trial)
            if result[TIME_ATTRIBUTE] < exchange_at:
                return str(TrialScheduler.CONTINUE)
        self._save_trial_state(self._trial_state[trial], exchange_at, result, trial)
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the member that is furthest behind, after the exchange if all have arrived."""
        live = [trial for trial in self._trial_state if not trial.is_finished()]
        if live and all(self._has_arrived(trial) for trial in live):
            self._exchange(tune_controller, live)
        return super().choose_trial_to_run(tune_controller)

    def _has_arrived(self, trial: Trial) -> bool:
        """Tell whether a member waits for the exchange, with its checkpoint written."""
        is_there = self._trial_state[trial].last_train_time >= self._next_perturbation_sync
        return bool(trial.status == Trial.PAUSED and is_there)

    def _exchange(self, tune_controller: Any, live: list[Trial]) -> None:
        """Let the worst members take over the best, which keep their places."""
        units = self._next_perturbation_sync
        with self._randomness.borrowed():
            lower, upper = self._quantiles()
            for trial in sorted(live, key=lambda t: (t not in upper, t in lower)):  # donors' checkpoints first
                self._trial_state[trial].last_perturbation_time = units
                self._checkpoint_or_exploit(trial, tune_controller, upper, lower)
        self._next_perturbation_sync = units + self._perturbation_interval
        for trial in live:
            if trial in self._diverged:  # no sound member was left to take over
                tune_controller.stop_trial(trial)

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        """Return the members to replace, every diverged one among them, and sound ones to copy."""
        lower, upper = super()._quantiles()
        live = [trial for trial in self._trial_state if not trial.is_finished()]
        sound = sorted((t for t in live if t not in self._diverged), key=lambda t: self._trial_state[t].last_score)
        donors = [trial for trial in upper if trial in sound] or sound[-1:]
        if not donors:
            return [], []
        diverged = [trial for trial in live if trial in self._diverged]
        return diverged + [t for t in lower if t in sound and t not in donors], donors

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[Config, dict[str, Any]]:
        """Explore as Ray does; a whole number that its rounding has brought back moves by one."""
        config, operations = super()._get_new_config(trial, trial_to_clone)
        moved = move_integers(self._space, trial_to_clone.config, config, operations)
        return within_memory(self.feasibility, trial_to_clone.config, moved), operations

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        """Exploit as Ray does, and tell the listener."""
        super()._exploit(tune_controller, trial, trial_to_clone)
        if self.feasibility:
            self.feasibility.begin(trial.trial_id, trial.config)
        self._diverged.discard(trial)
        self.on_exploit(trial.trial_id, trial_to_clone.trial_id, self._next_perturbation_sync, dict(trial.config))


def within_memory(feasibility: Feasibility | None, before: Config, after: Config) -> Config:
    """Return an explored configuration, with its donor's demand for memory if its own may not fit.

    Args:
        feasibility: the study's; None if nothing is known.
        before: the donor's configuration.
        after: the explored one.
    """
    if feasibility is None or feasibility.admits(after):
        return after
    return {**after, **{name: before[name] for name in MEMORY_DRIVERS if name in before}}


def into_space(space: Space, config: Config) -> Config:
    """Clip every number of a configuration to its domain."""
    return {name: clip(space[name], value) if name in space else value for name, value in config.items()}


def move_integers(space: Space, before: Config, after: Config, operations: Mapping[str, Any]) -> Config:
    """Move whole numbers that were scaled but stayed where they were, by one in the direction of the factor.

    Rounding brings 1 x 1.2, 2 x 1.2 and 2 x 0.8 back, so that small numbers would never be explored.

    Args:
        space: the search space.
        before: the donor's configuration.
        after: the explored one.
        operations: Ray's word on each hyperparameter, such as "* 1.2" or "resample".
    """
    moved = dict(after)
    for name, operation in operations.items():
        domain, factor = space.get(name), str(operation).removeprefix("* ")
        if isinstance(domain, Integer) and factor != operation and after[name] == before[name] and float(factor) != 1:
            moved[name] = clip(domain, int(before[name]) + (1 if float(factor) > 1 else -1))
    return moved


def clip(domain: Domain, value: Scalar) -> Scalar:
    """Move a number into its domain; keep a choice."""
    if isinstance(domain, Choice):
        return value
    nearest = min(max(float(value), domain.low), domain.high)
    return round(nearest) if isinstance(domain, Integer) else nearest


def _nobody_listens(trial_id: str, donor_id: str, units: int, config: Config) -> None:
    """Do nothing, as the listener before there is one."""
