"""A study's scheduler and search under a budget, with trials that are never trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Experiment, Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from hpo.core.budget import Admission, Budget, PerTrial
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch

CONTINUE, PAUSE, STOP = TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP


class Deciding(FIFOScheduler):
    """Scheduler that decides as it is told, and continues by default."""

    def __init__(self) -> None:
        super().__init__()
        self.decision: str = CONTINUE

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return self.decision


@dataclass
class Shared:
    """One account for all trials, with one reservation, made by the first."""

    units: int
    is_complete: bool = True
    replaces_diverged: bool = False
    has_begun: bool = field(default=False, init=False)
    retried: list[Trial] = field(default_factory=list, init=False)

    def cost(self, free_units: int) -> int | None:
        if self.has_begun:
            return 0
        return self.units if self.units <= free_units else None

    def admit(self, free_units: int) -> None:
        """Take note of nothing."""

    def account_of(self, trial: Trial) -> str:
        self.has_begun = True
        return "shared"

    def is_over(self, account: str) -> bool:
        return self.is_complete

    def on_trial_retry(self, trial: Trial) -> None:
        self.retried.append(trial)

    def on_trial_drop(self, trial: Trial) -> None:
        """Keep the place."""


@dataclass
class Parts:
    """Scheduler and search of a study, and the part of Tune's controller that they speak with."""

    budget: Budget
    inner: Deciding
    scheduler: BudgetedScheduler
    search: BudgetedSearch
    trials: list[Trial] = field(default_factory=list)

    def create(self, number: int = 1) -> list[Trial]:
        """Create trials, as many as are admitted and no more than `number`."""
        created: list[Trial] = []
        while len(created) < number and (trial := self.search.next_trial()):
            self.scheduler.on_trial_add(self, trial)
            created.append(trial)
        self.trials += created
        return created

    def report(self, trial: Trial, units: int, diverged: bool = False) -> str:
        """Report a trained unit; a trial that is to stop ends."""
        decision = self.scheduler.on_trial_result(self, trial, {"units": units, "diverged": diverged})
        if decision == STOP:
            self.stop_trial(trial)
        return decision

    # ---- as Tune's controller

    def get_trials(self) -> list[Trial]:
        return self.trials

    def get_live_trials(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.is_finished()]

    def stop_trial(self, trial: Trial) -> None:
        trial.set_status(Trial.TERMINATED)
        self.scheduler.on_trial_remove(self, trial)
        self.search.on_trial_complete(trial.trial_id)


def make_study(
    folder: Path, budget: Budget, admission: Admission | None = None, max_units: int = 9, num_samples: int = 100
) -> Parts:
    inner = Deciding()
    scheduler = BudgetedScheduler(inner, admission or PerTrial(1), budget, max_units)
    search = BudgetedSearch(BasicVariantGenerator(random_state=0), scheduler)
    space = {"learning_rate": tune.uniform(0.0, 1.0)}
    experiment = Experiment("study", tune.Trainable, config=space, num_samples=num_samples, storage_path=str(folder))
    search.add_configurations([experiment])
    return Parts(budget, inner, scheduler, search)
