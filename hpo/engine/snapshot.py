"""The changing state of a running study, which is kept after each event so that the study can be resumed.

Ray's `Tuner.restore` brings back trials and searcher but makes a new scheduler, which has forgotten rungs, brackets
and population. Here all of them, the budget and the ledger are one object, pickled at a moment at which they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm, SearchGenerator

from hpo.cluster.devices import Allotment
from hpo.core.budget import Budget
from hpo.core.ledger import Ledger
from hpo.core.memory.feasibility import Feasibility
from hpo.core.results import Results
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch, budgeted
from hpo.engine.checkpoints import Checkpoints, Pace
from hpo.search.plan import Plan
from hpo.search.population import PopulationScheduler


@dataclass
class State:
    """A study as it stands after an event.

    Attributes:
        results: its trials.
        ledger: its device time.
        budget: the units that it may spend.
        scheduler: stops and pauses trials, within the budget.
        search: proposes trials, within the budget.
        feasibility: which configurations fit into memory.
        pace: times of the checkpoints that no scheduler asks for.
        checkpoints: those on disk.
        trials: Tune's trials that have not ended.
        seconds: since the study began, while it ran.
        began_at: when second 0 was, in seconds since the epoch; the time in which it did not run is left out.
        has_ended: whether it has reached its end, and only the store may not know of it.
    """

    results: Results
    ledger: Ledger
    budget: Budget
    scheduler: BudgetedScheduler
    search: BudgetedSearch
    feasibility: Feasibility
    pace: Pace
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    trials: list[Trial] = field(default_factory=list)
    seconds: float = 0.0
    began_at: float = 0.0
    has_ended: bool = False

    @classmethod
    def begin(cls, study: Study, plan: Plan, allotment: Allotment) -> State:
        """Make the state before the first event."""
        population = plan.scheduler if isinstance(plan.scheduler, PopulationScheduler) else None
        results, feasibility = Results(study, varies=population is not None), Feasibility(study)
        if population is not None:
            population.on_exploit, population.feasibility = results.exploit, feasibility
        budget = Budget(study.budget_units, _deadline_seconds(study, allotment))
        scheduler = budgeted(plan, budget, study.max_units, feasibility)
        ledger = Ledger(allotment.devices, allotment.devices_per_trial)
        max_trials = plan.num_samples if plan.num_samples > 1 else None
        search = BudgetedSearch(search_algorithm(plan), scheduler, feasibility, max_trials)
        pace = Pace(study.benchmark.resource.checkpoint_seconds)
        return cls(results, ledger, budget, scheduler, search, feasibility, pace)

    def stop(self, seconds: float) -> None:
        """Book the interruption of the study after so many seconds: work since the checkpoints of live trials is lost.

        As with a failed attempt, the time it took is booked as such.
        """
        self.seconds = max(self.seconds, seconds)
        for trial_id in self.ledger.open_attempts:
            self.results[trial_id].device_seconds += self.ledger.fail(trial_id, self.seconds)

    def go_on(self, study: Study, plan: Plan, allotment: Allotment, seconds: float) -> dict[str, int]:
        """Resume an unfinished study in a new process.

        Args:
            study: the study that runs.
            plan: as its method makes it anew.
            allotment: of the devices there are now.
            seconds: how long the study had run when it was interrupted, which may be after this state.

        Returns:
            Units that each live trial has reported, by Tune's trial id.
        """
        self.stop(seconds)
        self.ledger.resize(allotment.devices, self.seconds)
        self.budget.go_on(self.seconds, _deadline_seconds(study, allotment))
        self.scheduler.go_on(self.trials)
        self.search.go_on(search_algorithm(plan))
        return {
            trial.trial_id: self.results[trial.trial_id].units
            for trial in self.trials
            if trial.trial_id in self.results
        }

    @property
    def signature(self) -> object:
        """Return a value that differs from an earlier one after any event."""
        exploits = sum(row.exploits for row in self.results.rows)
        standing = [(trial.trial_id, trial.status) for trial in self.trials]
        return self.search.drawn, self.budget.spent, exploits, standing, self.has_ended


def search_algorithm(plan: Plan) -> SearchAlgorithm:
    """Return the plan's searcher as Tune drives it."""
    return plan.searcher if isinstance(plan.searcher, SearchAlgorithm) else SearchGenerator(plan.searcher)


def _deadline_seconds(study: Study, allotment: Allotment) -> float | None:
    """Return the time at which the cap in device-hours is reached if all devices are reserved all the time."""
    return None if study.gpu_hours is None else study.gpu_hours * 3600 / allotment.devices
