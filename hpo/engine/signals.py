"""Signals that end a study: SIGINT, SIGTERM, SIGHUP, SIGUSR1."""

from __future__ import annotations

import os
import signal
from typing import Any, Protocol

from benchmarks.clock import REAL

GRACEFUL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # SLURM: --signal=B:USR1@180
SAME_REQUEST_SECONDS = 2.0
"""Seconds within which two signals are one request: `mlflow run` passes Ctrl-C on as SIGTERM beside SIGINT."""


class Revocable(Protocol):
    """Work that can be told to end, such as a study's budget."""

    def revoke(self) -> None:
        """Begin nothing more."""


class InterruptibleCall:
    """Work in a call that takes long, which the first signal ends as Ctrl-C does: by a `KeyboardInterrupt`."""

    def revoke(self) -> None:
        """End the call.

        Raises:
            KeyboardInterrupt: always.
        """
        raise KeyboardInterrupt


class GracefulSignals:
    """A context in which the first signal ends the work in good order; a later one has its usual effect."""

    def __init__(self, work: Revocable) -> None:
        self._work = work
        handlers = {number: signal.getsignal(number) for number in GRACEFUL_SIGNALS}
        if handlers[signal.SIGHUP] == signal.SIG_IGN:  # started by nohup, which is to go on
            del handlers[signal.SIGHUP]
        self._before = handlers
        self._asked: float | None = None
        self._parent = os.getppid()

    def __enter__(self) -> GracefulSignals:
        self.install()
        return self

    def __exit__(self, *_: Any) -> None:
        self._restore()

    def install(self) -> None:
        """Take the signals; again if a library has taken one since."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        if self._asked is None:
            self._asked = REAL.now()
            self._work.revoke()
        elif self._parent != os.getppid():  # it took its time to die of the first signal, and has this one sent
            self._parent = os.getppid()
        elif REAL.now() - self._asked > SAME_REQUEST_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
