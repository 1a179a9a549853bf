"""Questions to SLURM: their number and their content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.clock import VirtualClock
from slurm import scheduler
from slurm.scheduler import Job, QueueWatch


class Squeue:
    """A program in place of squeue that shows one state and notes how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._state, self._calls = folder / "state", folder / "calls"
        program = folder / "squeue"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self._calls}\ncat {self._state}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def show(self, text: str) -> None:
        self._state.write_text(text)

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    return Squeue(tmp_path, monkeypatch)


def times_asked(squeue: Squeue, clock: VirtualClock, watch: QueueWatch, seconds: int) -> int:
    """Calls of squeue by a wait that looks every two seconds."""
    before = len(squeue.calls)
    for _ in range(seconds // 2):
        clock.sleep(2)
        watch.look(["7"])
    return len(squeue.calls) - before


def test_jobs_that_run_are_asked_after_every_ten_seconds(squeue: Squeue) -> None:
    squeue.show("7|RUNNING|None\n")
    clock = VirtualClock()
    watch = QueueWatch(clock)
    assert watch.look(["7"]) == {"7": Job("RUNNING")}
    assert times_asked(squeue, clock, watch, 100) == 10
    assert times_asked(squeue, clock, watch, 300) == 30


def test_a_long_wait_in_the_queue_is_asked_after_more_rarely(squeue: Squeue) -> None:
    squeue.show("7|PENDING|Priority\n")
    clock = VirtualClock()
    watch = QueueWatch(clock)
    assert watch.look(["7"]) == {"7": Job("PENDING", "Priority")}
    assert times_asked(squeue, clock, watch, 100) == 10
    assert 10 < times_asked(squeue, clock, watch, 1800) < 60
    squeue.show("7|RUNNING|None\n")
    assert times_asked(squeue, clock, watch, 60) in (1, 2)  # a minute after the last time
    assert times_asked(squeue, clock, watch, 60) == 6


def test_only_this_user_s_jobs_are_asked_for(squeue: Squeue) -> None:
    squeue.show("7|RUNNING|None\n")
    scheduler.jobs(["7"])
    squeue.show("7\n")
    assert scheduler.unfinished(["7", "8"]) == ["7"]
    assert all(f"--user={os.getuid()}" in call for call in squeue.calls)
    assert len(squeue.calls) == 2


@pytest.mark.parametrize("state", ["PREEMPTED", "REVOKED", "TIMEOUT", "NODE_FAIL"])
def test_a_job_that_will_not_run_again_has_ended(state: str) -> None:
    assert state in scheduler.ENDED


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "UNKNOWN"])
def test_a_job_that_may_run_has_not_ended(state: str) -> None:
    assert state not in scheduler.ENDED
