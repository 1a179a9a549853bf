"""Studies that leave nothing behind: no run in a store, no folder, no log on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.clock import REAL
from hpo.core import event_log
from hpo.core.books import Books
from hpo.core.event_log import EventLog
from hpo.core.events import Event
from hpo.core.study import Study
from hpo.engine.study_folder import Asked, Unfinished
from hpo.store.tracker import Tracker


class Unstored(Tracker):
    """A tracker that stores nothing.

    Args:
        study: the study.
        accelerator: not used.
        command: not used.
        run_id: the run of a study that is resumed; by default `RUN_ID`, which is no run of a store.
    """

    RUN_ID = "0123abcd"

    def __init__(self, study: Study, accelerator: str, command: str, run_id: str | None = None) -> None:
        self._study, self._children = study, {}
        self.run_id, self.began_at = run_id or self.RUN_ID, REAL.epoch()

    @property
    def fault(self) -> str:
        """An empty text, since no store can fail."""
        return ""

    def reopen(self) -> None:
        """Store nothing."""

    def abandon(self) -> None:
        """Store nothing."""

    def resume(self, events: Sequence[Event]) -> None:
        """Store nothing."""

    def tell(self, event: Event, books: Books) -> None:
        """Store nothing."""

    def deliver(self) -> None:
        """Store nothing."""

    def finish(self, books: Books, log: Callable[[], str], on_gpu: bool, status: str) -> None:
        """Store nothing."""


class Unkept(Unfinished):
    """A study without a folder of its own: nothing is written while it runs, and it cannot be resumed.

    Its checkpoints lie in a temporary folder, which goes with it.
    """

    can_be_resumed = False

    @cached_property
    def log(self) -> EventLog:
        """The study's events, in memory."""
        return LogInMemory()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the temporary folder; no other process knows it."""
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-"))
        yield

    def begin(self, asked: Asked) -> None:
        """Write nothing."""

    @property
    def is_due(self) -> bool:
        """False: there is no state to write."""
        return False

    def write(self, state: Any) -> None:
        """Write nothing."""

    def touch(self, seconds: float) -> None:
        """Write nothing."""

    def remove(self) -> None:
        """Delete the temporary folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class LogInMemory(EventLog):
    """A log of events that stays in memory."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def length(self) -> int:
        """The number of events."""
        return len(self._events)

    def add(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)

    def sync(self) -> None:
        """Write nothing."""

    def cut(self, length: int) -> None:
        """Drop the events after the first `length`."""
        del self._events[length:]

    def text(self) -> str:
        """Return the whole log as JSON lines."""
        return event_log.text_of(self._events)

    def events(self) -> list[Event]:
        """Return all events."""
        return list(self._events)
