"""Processes that a job starts beside itself, and ends with everything they have started in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

import psutil

from benchmarks.clock import REAL, utc
from benchmarks.parent import end_with_parent
from benchmarks.spec import BenchmarkError
from hpo.terminal.console import Lasting

END_SECONDS = 10
POLL_SECONDS = 2.0
START_SECONDS = 120


class Child:
    """A process and its descendants.

    Args:
        command: what to run.
        environment: variables beside this process's own.
        output: file for stdout and stderr; by default this process's.
        shielded: whether SIGTERM does not reach it and its descendants. SLURM sends that to every process of a job
            that it cancels; those that the driver needs to store its results must outlive the driver.
        ignores: a signal that it ignores until it takes it itself; by default none.
        is_bound: whether the kernel kills it when this process dies, as by SIGKILL, and cannot end it any more.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Path | None = None,
        shielded: bool = False,
        ignores: signal.Signals | None = None,
        is_bound: bool = False,
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
                preexec_fn=partial(_prepare, ignores, is_bound) if ignores or is_bound else None,
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


def _prepare(ignores: signal.Signals | None, is_bound: bool) -> None:
    """Set up a process that has just been forked; see `Child`."""
    if ignores:
        signal.signal(ignores, signal.SIG_IGN)
    if is_bound:
        end_with_parent(signal.SIGKILL)


@contextmanager
def _blocked() -> Iterator[None]:
    """Start processes that do not take SIGTERM: they inherit this thread's mask of blocked signals."""
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
    """START and FINISH of a job in its log, whatever ends it; times with their zone.

    An error that the user can mend is printed between the two, and ends the job with status 1.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.status = 1

    def __enter__(self) -> Self:
        self._began = REAL.now()
        say(f"START {now()} {self._name} on {node_name()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        is_said = isinstance(error, BenchmarkError)
        if is_said:
            say(f"error: {error}")
        took = REAL.now() - self._began
        say(f"FINISH {now()} {self._name} after {took:.0f} s, exit status {self.status}")
        return is_said


def job_id() -> str:
    """SLURM's id of this job; that of the process outside of one."""
    return os.environ.get("SLURM_JOB_ID", f"pid{os.getpid()}")


def node_name() -> str:
    """SLURM's name of this node, or the machine's."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def now() -> str:
    """Return the time, to the second."""
    return utc().astimezone().isoformat(timespec="seconds")


def say(text: str) -> None:
    """Write a line to the job's log, at once."""
    stream = Lasting(sys.stdout)
    stream.write(text + "\n")
    stream.flush()


class OnChange:
    """Lines of a job's log that repeat nothing: a text is written where it differs from the one before."""

    def __init__(self) -> None:
        self._before = ""

    def say(self, text: str) -> None:
        """Write a text if it is new; an empty one is written never, and lets the one before be written again."""
        if text and text != self._before:
            say(text)
        self._before = text


class EndedBySignal(Exception):  # noqa: N818 - not an error
    """SLURM asked this job to end."""


class Signals:
    """SIGTERM (scancel), SIGUSR1 (the time limit is near) and SIGHUP (the terminal has gone), noted.

    They are raised where a job only waits. Under nohup, SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        is_kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._taken = (signal.SIGTERM, signal.SIGUSR1, *(() if is_kept else (signal.SIGHUP,)))

    def __enter__(self) -> Signals:
        self.install()
        return self

    def install(self) -> None:
        """Take the signals; again where a library has taken one since."""
        for number in self._taken:
            signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        """Let nothing disturb the end of the job."""
        for number in self._taken:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)

    @property
    def reason(self) -> str:
        """The meaning of the signal; empty without one."""
        if self.received == signal.SIGUSR1:
            return "the time limit is near"
        if self.received == signal.SIGHUP:
            return "the terminal has gone"
        return "the job was cancelled" if self.received else ""

    def sleep(self) -> None:
        """Wait a little.

        Raises:
            EndedBySignal: a signal has come.
        """
        REAL.sleep(POLL_SECONDS)
        if self.received:
            raise EndedBySignal


def wait_for_start(child: Child, what: str, log: Path, answer: Callable[[], str | None]) -> str:
    """Wait for a process to start; return its answer.

    Raises:
        BenchmarkError: it ended, or took too long; with the last line of its log.
    """
    deadline = REAL.now() + START_SECONDS
    while REAL.now() < deadline and child.status is None:
        if found := answer():
            return found
        REAL.sleep(0.2)
    raise BenchmarkError(f"{what} did not start; it says: {_last_line(log)} (all of it: {log})")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
