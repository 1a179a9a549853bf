"""Processes that a job starts beside itself."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

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
