"""The clocks, and the rule that no module reads the time by itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.clock import REAL, Mark, VirtualClock, utc

PROJECT = Path(__file__).parents[2]


def test_waiting_on_a_virtual_clock_takes_no_time() -> None:
    clock, began = VirtualClock(), REAL.now()
    clock.sleep(3600.0)
    clock.jump_to(7200.0)
    assert clock.now() == 7200.0
    assert REAL.now() - began < 60.0


def test_a_virtual_clock_never_goes_back() -> None:
    clock = VirtualClock()
    clock.jump_to(10.0)
    clock.jump_to(3.0)
    assert clock.now() == 10.0


def test_a_virtual_clock_tells_the_date_of_its_seconds() -> None:
    clock = VirtualClock(began_at=1e9)
    clock.sleep(2.5)
    assert clock.epoch() == 1e9 + 2.5


def test_a_process_knows_when_it_was_started_to_the_hundredth() -> None:
    """Not to the second, as by the kernel's own start: a trial would begin before the one whose task it takes over."""
    program = "from benchmarks.clock import process_began_at; print(process_began_at())"
    for _ in range(3):
        before = REAL.epoch()
        with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as child:
            after = REAL.epoch()
            told, _ = child.communicate()
        assert before - 0.011 <= float(told) <= after + 0.001


def test_a_process_that_waits_for_a_gpu_tells_no_computing_seconds() -> None:
    began, ended = Mark(), Mark()
    assert set(began.times("train", ended, on_cpu=False)) == {"train_seconds"}
    assert set(began.times("train", ended, on_cpu=True)) == {"train_seconds", "train_cpu_seconds"}


CALLS = [
    "time.time()",
    "time.monotonic()",
    "time.perf_counter()",
    "time.sleep(1)",
    "time.process_time()",
    "time.strftime('%H')",
    "datetime.datetime.now()",
    "datetime.date.today()",
    "asyncio.sleep(1)",
]


@pytest.mark.parametrize("folder", ["benchmarks", "hpo/engine", "slurm"])
def test_the_linter_finds_each_call_that_reads_the_time_by_itself(folder: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", f"--stdin-filename={folder}/other.py", "-"]
    source = "\n".join(["import asyncio, datetime, time", *CALLS, ""])
    checked = subprocess.run(command, input=source, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    for call in CALLS:
        assert f"`{call.partition('(')[0]}` is banned" in checked.stdout
    assert checked.stdout.count("of benchmarks.clock") == len(CALLS)


def test_dates_are_the_clock_s() -> None:
    assert abs(utc().timestamp() - REAL.epoch()) < 60.0
    assert utc().utcoffset() == timedelta(0)
