"""The changing state of a running study, which is kept after each event so that the study can be resumed.

Ray's `Tuner.restore` brings back trials and searcher but makes a new scheduler, which has forgotten rungs, brackets
and population. Here searcher, scheduler and budget are one object, pickled at a moment at which they agree. The trials
and their device time are not in it: the log of events tells them, up to the length that the log had at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm, SearchGenerator

from benchmarks.clock import Clock
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Allotment
from hpo.core.books import Books, interruption_of
from hpo.core.budget import Budget
from hpo.core.event_log import EventLog
from hpo.core.events import Ended, Event, Interrupted, Released, Reserved, Resized, Skipped
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study
from hpo.engine.budgeted import BudgetedScheduler, BudgetedSearch, budgeted
from hpo.engine.checkpoints import Checkpoints, Pace
from hpo.engine.study_folder import Unfinished
from hpo.search.plan import Plan
from hpo.search.schedulers.population import PopulationScheduler
from hpo.terminal import errors

BY_THE_LOG = ("books", "log")
"""Attributes that a snapshot leaves out, since the log on disk has them."""


@dataclass
class State:
    """A study as it stands after an event.

    Attributes:
        books: its trials and device time.
        log: its events.
        budget: the units that it may spend.
        scheduler: stops and pauses trials, within the budget.
        search: proposes trials, within the budget.
        feasibility: which configurations fit into memory.
        pace: times of the checkpoints that no scheduler asks for.
        population: the scheduler that changes hyperparameters within trials, if the method has one.
        checkpoints: those on disk.
        trials: Tune's trials that have not ended.
        seconds: since the study began, while it ran.
        log_length: length of the log in bytes.
        began_at: when second 0 was, in seconds since the epoch; the time in which it did not run is left out.
        has_ended: whether it has reached its end, and only the store may not know of it.
    """

    books: Books
    log: EventLog
    budget: Budget
    scheduler: BudgetedScheduler
    search: BudgetedSearch
    feasibility: Feasibility
    pace: Pace
    population: PopulationScheduler | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    trials: list[Trial] = field(default_factory=list)
    seconds: float = 0.0
    log_length: int = 0
    began_at: float = 0.0
    has_ended: bool = False

    @classmethod
    def begin(cls, study: Study, plan: Plan, allotment: Allotment, log: EventLog, clock: Clock) -> State:
        """Make the state before the first trial."""
        population = plan.scheduler if isinstance(plan.scheduler, PopulationScheduler) else None
        feasibility = Feasibility(study)
        if population is not None:
            population.feasibility = feasibility
        budget = Budget(study.budget_units, _deadline_seconds(study, allotment), clock)
        scheduler = budgeted(plan, budget, study.max_units, feasibility)
        max_trials = None if plan.is_list else plan.num_samples
        search = BudgetedSearch(search_algorithm(plan), scheduler, feasibility, max_trials)
        pace = Pace(study.benchmark.resource.checkpoint_seconds)
        state = cls(Books(study.benchmark), log, budget, scheduler, search, feasibility, pace, population)
        log.cut(0)  # of a driver that was killed before its first snapshot
        state.tell(Reserved(0.0, allotment.devices))
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Leave the part that the log tells out of a snapshot."""
        return {name: value for name, value in self.__dict__.items() if name not in BY_THE_LOG}

    def catch_up(self, log: EventLog, benchmark: Benchmark) -> None:
        """Apply the log up to this snapshot; events after it are dropped, and happen again.

        Raises:
            BenchmarkError: the log lacks events, or has a line that is none.
        """
        log.cut(self.log_length)
        self.log, self.books = log, Books(benchmark)
        for event in log.events():
            self.books.apply(event)

    def tell(self, event: Event) -> None:
        """Enter an event into books and log."""
        self.books.apply(event)
        self.log.add(event)

    def mark(self, seconds: float) -> None:
        """Note the moment of the next snapshot, in seconds since the study began."""
        self.seconds, self.log_length = seconds, self.log.length

    def listen(self, on_exploit: Callable[[str, str, int, Config], None]) -> None:
        """Let each takeover be told to a function; see `hpo.search.schedulers.population`."""
        if self.population is not None:
            self.population.on_exploit = on_exploit

    def stop(self, seconds: float) -> None:
        """Book the interruption of the study after so many seconds: work since the checkpoints of live trials is lost.

        As with a failed attempt, the time it took is booked as such.
        """
        self.seconds = max(self.seconds, seconds)
        self.tell(Interrupted(self.seconds))

    def close(self, reason: str = "") -> list[Event]:
        """End the open trials and release the devices, now; returns the events."""
        now, books = self.seconds, self.books
        ends = [Ended(now, trial, *interruption_of(books[trial], reason)) for trial in books.open_trials]
        skipped = [Skipped(now, self.feasibility.skipped)] * (self.feasibility.skipped > 0)
        events: list[Event] = [*ends, *skipped, Released(now)]
        for event in events:
            self.tell(event)
        return events

    def go_on(self, study: Study, plan: Plan, allotment: Allotment, seconds: float, clock: Clock) -> dict[str, int]:
        """Resume an unfinished study in a new process.

        Args:
            study: the study that runs.
            plan: as its method makes it anew.
            allotment: of the devices there are now.
            seconds: how long the study had run when it was interrupted, which may be after this state.
            clock: of the new process.

        Returns:
            Units that each live trial has reported, by Tune's trial id.
        """
        self.stop(seconds)
        if allotment.devices != self.books.devices:
            self.tell(Resized(self.seconds, allotment.devices))
        self.budget.go_on(self.seconds, _deadline_seconds(study, allotment), clock)
        self.scheduler.go_on(self.trials)
        self.search.go_on(search_algorithm(plan))
        known = [trial.trial_id for trial in self.trials if trial.trial_id in self.books]
        return {trial_id: self.books[trial_id].units for trial_id in known}

    @property
    def signature(self) -> object:
        """Return a value that differs from an earlier one after any event."""
        exploits = sum(row.exploits for row in self.books.rows)
        standing = [(trial.trial_id, trial.status) for trial in self.trials]
        return self.search.drawn, self.budget.spent, exploits, standing, self.has_ended


def read(unfinished: Unfinished) -> State | None:
    """Read the latest snapshot of a study with its log; None if there was no event yet.

    Raises:
        BenchmarkError: another user may have written them, or they cannot be read.
    """
    state = unfinished.read()
    if state is None:
        return None
    assert isinstance(state, State)
    if unfinished.log.torn:
        errors.warn(unfinished.log.torn)
    state.catch_up(unfinished.log, unfinished.asked().study.benchmark)
    return state


def search_algorithm(plan: Plan) -> SearchAlgorithm:
    """Return the plan's searcher as Tune drives it."""
    return plan.searcher if isinstance(plan.searcher, SearchAlgorithm) else SearchGenerator(plan.searcher)


def _deadline_seconds(study: Study, allotment: Allotment) -> float | None:
    """Return the time at which the cap in device-hours is reached if all devices are reserved all the time."""
    return None if study.gpu_hours is None else study.gpu_hours * 3600 / allotment.devices
