"""The second process of a command: its forests are this one's, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from hpo.analysis import forest
from hpo.analysis.forest import Grow
from hpo.app.second_process import growing_forests

PROJECT = Path(__file__).parents[3]
POSITIONS = np.random.default_rng(0).uniform(size=(30, 2))
VALUES = POSITIONS[:, 0] ** 2


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the threads of a test's own runner."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@contextmanager
def second_process() -> Iterator[tuple[Grow, psutil.Process]]:
    """Start it beside the processes that other tests have left to this one, such as Ray's."""
    before = psutil.Process().children()
    with growing_forests() as grow:
        [child] = set(psutil.Process().children()) - set(before)
        yield grow, child


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_it_grows_what_this_process_would_also_after_its_own_end() -> None:
    here = forest.grow(POSITIONS, VALUES, 3, 0)
    with second_process() as (grow, child):
        for end in (None, signal.SIGKILL):
            if end:
                child.send_signal(end)
                child.wait(10)
            there = grow(POSITIONS, VALUES, 3, 0)
            assert there.shares.tolist() == here.shares.tolist()
            assert there.spread.tolist() == here.spread.tolist()
            assert there.r_squared == here.r_squared


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_its_errors_are_raised_here_and_it_ends_with_the_work() -> None:
    with second_process() as (grow, child), pytest.raises(ValueError, match="NaN"):
        grow(POSITIONS, VALUES * np.nan, 3, 0)
    assert not child.is_running()


def test_there_is_none_beside_other_threads() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with growing_forests() as grow:
        assert grow is forest.grow
    done.set()
    thread.join()


def test_nor_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with growing_forests() as grow:
        assert grow is forest.grow


@pytest.mark.slow
def test_it_does_not_outlive_a_command_that_is_killed() -> None:
    program = """
import os, signal, psutil
from hpo.app.second_process import growing_forests
with growing_forests():
    print(psutil.Process().children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    child = int(done.stdout)
    if psutil.pid_exists(child):
        psutil.Process(child).wait(10)


@pytest.mark.slow
def test_the_command_itself_imports_no_scikit_learn() -> None:
    """The process is there for that; `scipy.stats` is not imported either, and `scipy.special` where it is needed."""
    program = """
import sys
from hpo.app import comparison_commands
from hpo.analysis import compare, importance
from hpo.analysis.beside_random import early_looks
from hpo.analysis.statistics import censored, paired_tests, random_search, ranks
from hpo.report import page, tables
print("scipy.special" in sys.modules)
paired_tests.signed_rank_p([0.5, 0.7], [0.4, 0.5]), paired_tests.equivalence([0.5, 0.7], [0.5, 0.6])
ranks.rank_methods({name: {0: 0.1, 1: 0.2} for name in "abc"}, True)
random_search.RandomSearch.of([0.1] * 12, True).curve(3)
censored.Reaching.of([censored.Spell(1.0, True)]).shares()
print(sorted({"sklearn", "scipy.stats", "statsmodels", "plotly.utils"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n[]\n"


@pytest.mark.slow
def test_at_its_end_a_command_looks_for_no_garbage() -> None:
    """After MLflow's import that takes most of a second."""
    program = """
import gc, sys
from hpo.__main__ import run
sys.argv = ["hpo", "methods"]
status = run()
print(status, gc.get_freeze_count() > 10_000)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True"
