"""Writes to the tracking store, one after the other, in a thread of their own: no device waits for a database.

A store that fails (a server that is away, a locked file, a full disk) holds them up and loses none: the write that
failed is tried again until it succeeds, and those after it wait for it, so they arrive in order. Each must therefore
be able to run twice with the effect of once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError, first_line
from hpo.store import client as store

PAUSE_SECONDS = 1.0
"""Seconds between two attempts at a write; MLflow has tried a few times in each."""
SLOW_SECONDS = 10.0
"""Seconds after which a write counts as slow; one that waits for a lock takes a minute to fail."""


class Spool:
    """A queue of writes, and the thread that does them."""

    def __init__(self) -> None:
        self._writes: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_closing = self._is_given_up = False
        self._fault = ""
        self._progressed = self._attempted = REAL.now()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    @property
    def fault(self) -> str:
        """Why the store does not take the next write; empty as long as it does."""
        seconds = REAL.now() - self._attempted
        if self._fault or not self._writes or seconds < SLOW_SECONDS:
            return self._fault
        return f"tracking store {store.shown_uri()}: no answer for {seconds:.0f} s"

    @property
    def waiting(self) -> int:
        """Writes that the store has not taken yet."""
        return len(self._writes)

    def add(self, write: Callable[[], None]) -> None:
        """Queue a write after the earlier ones."""
        with self._changed:
            if not self._thread.is_alive():
                self._thread.start()
            if not self._writes:
                self._attempted = REAL.now()
            self._writes.append(write)
            self._changed.notify_all()

    def close(self, patience_seconds: float) -> None:
        """Wait until all is written; give up once the store has taken no write for this long.

        Raises:
            BenchmarkError: given up; names the write that failed.
        """
        with self._changed:
            self._is_closing, self._progressed = True, REAL.now()
            self._changed.notify_all()
            try:
                while self._writes and (left := self._progressed + patience_seconds - REAL.now()) > 0:
                    self._changed.wait(left)
            except KeyboardInterrupt:  # the user has less patience
                pass
            self._is_given_up = True
            self._changed.notify_all()
        if self._writes:
            raise BenchmarkError(self.fault or "the tracking store was not waited for")
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while (write := self._next()) is not None:
            self._attempted = REAL.now()
            fault = _attempt(write)
            with self._changed:
                self._fault = fault
                if fault:
                    self._changed.wait_for(lambda: self._is_given_up, PAUSE_SECONDS)
                    continue
                self._writes.popleft()
                self._progressed = REAL.now()
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """Return the oldest write, once there is one; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._writes or self._is_closing)
            return self._writes[0] if self._writes and not self._is_given_up else None


def _attempt(write: Callable[[], None]) -> str:
    """Try a write; return the reason if it failed, else an empty text."""
    try:
        with store.readable_errors():
            write()
    except BenchmarkError as error:
        return str(error)
    except Exception as error:  # of any kind: the results behind it must not go with the thread
        return f"{type(error).__name__}: {first_line(error)}"
    return ""
