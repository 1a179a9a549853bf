"""Processes that a job starts beside itself, and ends with everything they have started in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

END_SECONDS = 10


class Child:
    """A process and its descendants.

    Args:
        command: what to run.
        environment: variables beside this process's own.
        output: file for stdout and stderr; by default this process's.
        shielded: whether SIGTERM does not reach it and its descendants. SLURM sends that to every process of a job
            that it cancels; who must outlive the driver, so that the driver can store what it has, does not take it.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Path | None = None,
        shielded: bool = False,
    ) -> None:
        self._file: IO[str] | None = output.open("a") if output else None
        self._shielded = shielded
        with _blocked() if shielded else nullcontext():
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=self._file,
                stderr=subprocess.STDOUT if self._file else None,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to it alone."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def end(self) -> None:
        """End it and its descendants: ask, wait, then kill. A process that has been orphaned is found all the same."""
        family = _family(self.process.pid)
        if not self._shielded:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=END_SECONDS)
        for process in {*family, *_family(self.process.pid)}:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=END_SECONDS)
        if self._file:
            self._file.close()


@contextmanager
def _blocked() -> Iterator[None]:
    """Start processes that do not take SIGTERM: they inherit what this thread has blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _family(process_id: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(process_id)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Stamps:
    """START and FINISH of a job in its log, whatever ends it; times with their zone."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.status: int | str = 1

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        say(f"START {now()} {self._name} on {node_name()}")
        return self

    def __exit__(self, *_: object) -> None:
        took = time.monotonic() - self._began
        say(f"FINISH {now()} {self._name} after {took:.0f} s, exit status {self.status}")


def node_name() -> str:
    """SLURM's name of this node, or the machine's."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def now() -> str:
    """The time, to the second."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def say(text: str) -> None:
    """A line in the job's log, at once."""
    print(text, flush=True)
