"""Threads of a rank: while they wait for the last one of them, they leave it the cores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.devices.places import find_places
from benchmarks.spec import Benchmark
from benchmarks.training.ranks import Ranks
from tests.rays import ray_of
from tests.studies import processes_of

REPOSITORY = Path(__file__).parents[3]
SHOW = {"OMP_DISPLAY_ENV": "VERBOSE"}
"""Makes OpenMP print its settings as it is loaded."""

pytestmark = pytest.mark.slow


def settings_of_a_process(**given: str) -> str:
    """Return the settings of OpenMP in a process that makes itself a rank of two threads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    code = "from benchmarks.training.process import prepare_process; prepare_process(2)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**environment, **SHOW, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def threads_and_spins(printed: str) -> set[tuple[str, str]]:
    """Find the number of threads, and their looks at each other before they sleep, in each copy of OpenMP."""
    return set(re.findall(r"OMP_NUM_THREADS = '(.*?)'.*?GOMP_SPINCOUNT = '(.*?)'", printed, re.DOTALL))


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise() -> None:
    printed = settings_of_a_process()
    assert threads_and_spins(printed) == {("2", "0")}
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in settings_of_a_process(OMP_WAIT_POLICY="ACTIVE")


def test_threads_of_a_rank_under_ray_sleep_too(
    small_nano: Callable[..., Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 imports torch before it joins the others."""
    monkeypatch.setenv(*next(iter(SHOW.items())))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with ray_of(1):
        ranks = Ranks(small_nano(), find_places(1), threads=2)
        [rank] = processes_of(os.getpid(), "ray::_Rank")
        printed = Path(f"/proc/{rank.pid}/fd/2").readlink().read_text()
        ranks.close()
    assert threads_and_spins(printed) == {("2", "0")}
