"""Output that nobody reads any more: `| head`, a terminal that was closed, and its signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.core.budget import Budget
from hpo.engine.signals import GracefulSignals
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[3]
IN_PROCESS = """
import hpo.engine.runner, sys
from hpo.app import cli
from hpo.engine.in_process import InProcess
hpo.engine.runner.OnRay = lambda: InProcess(2)
sys.exit(cli.main(sys.argv[1:]))
"""


def into_closed_pipe(command: list[str], folder: Path, store: str) -> tuple[int, str]:
    """Run a command whose reader has gone; return its status and what it says on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": store}
    environment.pop("MLFLOW_RUN_ID", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["methods"], ["benchmarks"], ["methods", "asha"], ["reference"]])
def test_a_page_into_a_closed_pipe_leaves_no_traceback(words: list[str], tmp_path: Path) -> None:
    assert into_closed_pipe(["-m", "hpo", *words], tmp_path, "") == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("words", ["methods", "benchmarks", "methods asha"])
def test_a_page_on_a_full_disk_is_an_error_in_a_sentence(words: str, tmp_path: Path) -> None:
    done = shell(f"{sys.executable} -m hpo {words} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: the output cannot be written (No space left on device); free some room, or send it elsewhere\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "2>&-", "<&- >&-"])
def test_a_page_without_an_output_ends_as_with_one(closed: str, tmp_path: Path) -> None:
    done = shell(f"{sys.executable} -m hpo methods {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow  # a process of its own imports Ray and MLflow
def test_a_study_whose_reader_has_gone_reaches_its_end(tmp_path: Path) -> None:
    store = fresh_store(tmp_path)
    words = ["run", "random", "--benchmark", "synthetic", "--budget", "2"]
    status, err = into_closed_pipe(["-c", IN_PROCESS, *words], tmp_path, store)
    assert (status, "Traceback" in err) == (0, False), err
    [experiment] = [e for e in MlflowClient(store).search_experiments() if e.name == "synthetic"]
    runs = MlflowClient(store).search_runs([experiment.experiment_id], "tags.hpo.kind = 'study'")
    assert [run.info.status for run in runs] == ["FINISHED"]


class TestHangup:
    @pytest.fixture(autouse=True)
    def _handler(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGHUP)
        yield
        signal.signal(signal.SIGHUP, before)

    def test_a_closed_terminal_ends_a_study_in_good_order(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        budget = Budget(9)
        with GracefulSignals(budget):
            signal.raise_signal(signal.SIGHUP)
        assert budget.revoked_because == "interrupted"

    def test_under_nohup_it_goes_on(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        budget = Budget(9)
        with GracefulSignals(budget):
            signal.raise_signal(signal.SIGHUP)
        assert not budget.revoked
