"""A study told by hand: each call is an event or two, for its books, its log and, if there is one, its tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.space import Config
from hpo.core import event_log
from hpo.core.books import Books, interruption_of, outcome_of
from hpo.core.events import Began, Ended, Event, Exploited, Failed, Released, Reserved, proposed, unit
from hpo.core.ledger import MEASURED
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.store.tracker import Tracker


class Told:
    """A study without Ray.

    Times may be left out, and never go back: an earlier one is the time of the event before.

    Args:
        study: the study.
        tracker: writes it to MLflow.
        varies: whether its method changes hyperparameters within a trial.
        events: those of an earlier driver, which the tracker has resumed from.
    """

    def __init__(
        self, study: Study, tracker: Tracker | None = None, varies: bool = False, events: Sequence[Event] = ()
    ) -> None:
        self._study, self._tracker, self._varies = study, tracker, varies
        self.books, self.events = Books(study.benchmark), list(events)
        for event in events:
            self.books.apply(event)
        if not events:
            self.tell(Reserved(0.0, 1))

    def tell(self, event: Event) -> None:
        self.books.apply(event)
        self.events.append(event)
        if self._tracker is not None:
            self._tracker.tell(event, self.books)

    def _at(self, at: float) -> float:
        return max(at, self.books.seconds)

    def begin(self, name: str, proposal: Mapping[str, Any], at: float = 0.0) -> TrialRow:
        number = len(self.books.rows)
        self.tell(proposed(self._study, name, number, proposal, self._at(at), self._varies))
        self.tell(Began(self._at(at), name, 1.0))
        return self.books[name]

    def report(self, name: str, result: Mapping[str, Any], device_seconds: float = 1.0, at: float = 0.0) -> TrialRow:
        """Tell of a unit; all its time is training unless the result has parts."""
        parts = {} if any(f"{part}_seconds" in result for part in MEASURED) else {"train_seconds": device_seconds}
        told = {"objective": 1.0, "diverged": False, **parts, **result}
        self.tell(unit(self._study.benchmark, name, told, self._at(at)))
        return self.books[name]

    def exploit(self, name: str, donor: str, units: int, config: Config) -> None:
        self.tell(Exploited(self._at(0.0), name, donor, units, self._study.full_config(config)))

    def end(self, name: str, at: float = 0.0, budget_spent: bool = False) -> TrialRow:
        self.tell(Ended(self._at(at), name, *outcome_of(self._study, self.books[name], budget_spent)))
        return self.books[name]

    def fail(self, name: str, reason: str, at: float = 0.0) -> TrialRow:
        self.tell(Failed(self._at(at), name, reason))
        self.tell(Ended(self._at(at), name, "failed", reason))
        return self.books[name]

    def interrupt(self, at: float = 0.0) -> list[TrialRow]:
        trials = self.books.open_trials
        for name in trials:
            self.tell(Ended(self._at(at), name, *interruption_of(self.books[name])))
        return [self.books[name] for name in trials]

    def finish(self, status: str = "FINISHED", at: float = 0.0) -> None:
        """Release the devices, and let the tracker write the totals."""
        self.tell(Released(self._at(at)))
        assert self._tracker is not None
        self._tracker.finish(self.books, partial(event_log.text_of, self.events), on_gpu=False, status=status)
