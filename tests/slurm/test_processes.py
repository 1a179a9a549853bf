"""Processes that a job starts beside itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from slurm.processes import Signals

STARTS = """
import sys, time
from slurm.processes import Child
child = Child(["sleep", "60"], {}, is_bound=True)
print(child.process.pid, flush=True)
time.sleep(60)
"""


def test_a_bound_process_dies_with_the_one_that_started_it() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestSignals:
    @pytest.fixture(autouse=True)
    def _handlers(self) -> Iterator[None]:
        numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)
        before = [signal.getsignal(number) for number in numbers]
        yield
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (signal.SIGHUP, "the terminal has gone"),
            (signal.SIGTERM, "the job was cancelled"),
            (signal.SIGUSR1, "the time limit is near"),
        ],
    )
    def test_each_is_noted_and_disturbs_no_end(self, number: signal.Signals, reason: str) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Signals() as signals:
            signal.raise_signal(number)
        assert (signals.received, signals.reason) == (number, reason)
        signal.raise_signal(number)

    def test_under_nohup_a_closed_terminal_ends_nothing(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.received is None
