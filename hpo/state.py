"""All that changes while a study runs, so that it can be kept after an event and gone on with.

Ray's `Tuner.restore` brings back trials and searcher but makes a new scheduler, which has forgotten rungs, brackets
and population. Here all of them, the budget and the ledger are one object, pickled at a moment at which they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm, SearchGenerator

from hpo.budget import Budget, BudgetedScheduler, BudgetedSearch
from hpo.checkpoints import Checkpoints
from hpo.devices import Allotment
from hpo.ledger import Ledger
from hpo.methods import Plan
from hpo.population import PopulationScheduler
from hpo.results import Results
from hpo.study import Study


@dataclass
class State:
    """A study as it stands.

    Attributes:
        results: its trials.
        ledger: its device time.
        budget: what it may spend.
        scheduler: stops and pauses trials, within the budget.
        search: proposes trials, within the budget.
        checkpoints: those on disk.
        trials: Tune's trials that have not ended.
        seconds: since the study began, while it ran.
    """

    results: Results
    ledger: Ledger
    budget: Budget
    scheduler: BudgetedScheduler
    search: BudgetedSearch
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    trials: list[Trial] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def begin(cls, study: Study, plan: Plan, allotment: Allotment) -> State:
        """Before the first event."""
        population = plan.scheduler if isinstance(plan.scheduler, PopulationScheduler) else None
        results = Results(study, varies=population is not None)
        if population is not None:
            population.on_exploit = results.exploit
        budget = Budget(study.budget_units, _deadline_seconds(study, allotment))
        scheduler = plan.within(budget, study.max_units)
        ledger = Ledger(allotment.devices, allotment.ranks_per_trial)
        return cls(results, ledger, budget, scheduler, BudgetedSearch(search_algorithm(plan), scheduler))

    def go_on(self, study: Study, plan: Plan, allotment: Allotment, seconds_after: float) -> dict[str, int]:
        """Take up an unfinished study in a new process.

        What trials were doing when it was interrupted is lost back to their checkpoints; as with a failed attempt,
        the time it took is booked as such.

        Args:
            study: what is run.
            plan: as its method makes it anew.
            allotment: of the devices there are now.
            seconds_after: how long the study ran on after this state.

        Returns:
            Units that each live trial has reported, by Tune's trial id.
        """
        self.seconds += seconds_after
        for trial_id in self.ledger.open_attempts:
            self.results[trial_id].device_seconds += self.ledger.fail(trial_id, self.seconds)
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
        """Differs from an earlier one where something has happened."""
        exploits = sum(row.exploits for row in self.results.rows)
        return self.search.created, self.budget.spent, exploits, [(t.trial_id, t.status) for t in self.trials]


def search_algorithm(plan: Plan) -> SearchAlgorithm:
    """The plan's searcher as Tune drives it."""
    return plan.searcher if isinstance(plan.searcher, SearchAlgorithm) else SearchGenerator(plan.searcher)


def _deadline_seconds(study: Study, allotment: Allotment) -> float | None:
    """When the cap in device-hours is reached, all devices being reserved all the time."""
    return None if study.gpu_hours is None else study.gpu_hours * 3600 / allotment.devices
