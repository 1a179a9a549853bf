"""Faults of a study's driver and of its Ray: signals, kills, a second driver."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Record
from tests.studies import (
    assert_nothing_is_left,
    finish,
    launch,
    make_project,
    read,
    start,
    steps,
    wait_for_trials,
    write_benchmark,
    write_slow_synthetic,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
KEPT = "ended trials are in MLflow, the others are `interrupted`"


def resume(store: str, units: int) -> None:
    """Resume the study to its end."""
    study, _ = read(store)
    status, _, err = finish(start(store, study.info.run_id, verb="resume"))
    assert status == 0, err
    assert_ended(store, units)


def assert_ended(store: str, units: int) -> None:
    """Make sure that the study ended as one without interruption does."""
    study, trials = read(store)
    assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", units)
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    for trial in trials:
        found = steps(store, trial)
        assert found == list(range(1, len(found) + 1))


def assert_interrupted(store: str, out: str, err: str, because: str = "") -> None:
    """Make sure that the study ended in good order: all is stored, and the next step is printed."""
    study, trials = read(store)
    assert f"error: the study did not reach its end (interrupted{because})" in err
    assert "Traceback" not in err
    assert re.search(rf"^resume it: .* resume .*{study.info.run_id}$", out, re.MULTILINE)
    assert study.info.status == "KILLED"
    assert {trial.data.tags["hpo.outcome"] for trial in trials} == {"completed", "interrupted"}
    assert "best_eval_loss" in study.data.metrics


@pytest.mark.thorough
def test_sigterm(tmp_path: Path, store: str, record: Record) -> None:
    """test_concurrency has the other signals."""
    driver = start(store, "random", "--benchmark", write_slow_synthetic(tmp_path, 1.0), "--budget", 6)
    wait_for_trials(store, "FINISHED", "RUNNING")
    descendants = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGTERM)
    status, out, err = finish(driver)
    assert status == 1
    assert_interrupted(store, out, err)
    resume(store, 54)
    assert_nothing_is_left(tmp_path, descendants)
    record("the driver is told to end", "SIGTERM, SIGINT or SIGUSR1 to it", f"{KEPT}; `resume` ends the study")


def to_the_group(launcher: int) -> None:
    os.killpg(launcher, signal.SIGINT)


def to_mlflow_alone(launcher: int) -> None:
    os.kill(launcher, signal.SIGTERM)


@pytest.mark.thorough  # test_concurrency has the signals, in process
@pytest.mark.parametrize("send", [to_the_group, to_mlflow_alone])
def test_mlflow_run_is_told_to_end(tmp_path: Path, store: str, record: Record, send: Callable[[int], None]) -> None:
    """MLflow passes Ctrl-C on once more, as SIGTERM; killed itself, it passes on nothing."""
    benchmark = write_slow_synthetic(tmp_path, 1.0)
    words = ["mlflow", "run", str(make_project(tmp_path / "project")), "--env-manager", "local", "-e"]
    launcher = launch([*words, "random", "-P", f"benchmark={benchmark}", "-P", "budget=6"], store)
    wait_for_trials(store, "FINISHED", "RUNNING")
    descendants = psutil.Process(launcher.pid).children(recursive=True)
    send(launcher.pid)
    status, out, err = finish(launcher)
    assert status != 0
    _, left = psutil.wait_procs(descendants, timeout=90)
    assert left == []
    assert_interrupted(store, out, err)
    status, _, err = finish(launch([*words, "resume", "-P", f"run_id={read(store)[0].info.run_id}"], store))
    assert status == 0, err
    assert_ended(store, 54)
    how = "Ctrl-C: SIGINT to its process group" if send is to_the_group else "SIGTERM to it alone"
    record("`mlflow run` is told to end", how, f"the study ends with it; {KEPT}; `resume` ends the study")


@pytest.mark.thorough  # test_resume interrupts every method, in process
@pytest.mark.timeout(600)
def test_the_driver_is_killed(tmp_path: Path, store: str, record: Record) -> None:
    """Nobody else may go on with the study before that; afterwards nothing is trained twice that had ended."""
    driver = start(store, "asha", "--benchmark", write_benchmark(tmp_path), "--budget", 4)
    trials = wait_for_trials(store, "FINISHED")
    ended = {run.info.run_id: run.info.end_time for run in trials if run.info.status == "FINISHED"}
    descendants = psutil.Process(driver.pid).children(recursive=True)
    [run_id] = [path.name for path in (tmp_path / "unfinished").iterdir()]
    driver.send_signal(signal.SIGSTOP)  # or it would reach its end meanwhile
    status, _, err = finish(start(store, run_id, verb="resume"))
    assert (status, err.startswith(f"error: study {run_id} is running")) == (2, True), err
    record("a second driver for one study", "`resume` while it runs", "refused with a sentence")
    driver.kill()
    finish(driver)
    assert f"python -m hpo resume {run_id}" in finish(start(store, verb="resume"))[1]
    status, out, err = finish(start(store, run_id, verb="sync"))
    assert (status, read(store)[0].info.status) == (0, "KILLED"), out + err
    resume(store, 12)
    for trial in read(store)[1]:
        assert ended.get(trial.info.run_id, trial.info.end_time) == trial.info.end_time
    assert_nothing_is_left(tmp_path, descendants, seconds=120)  # Ray's agents look after half a minute
    record(
        "the driver dies",
        "`kill -9`",
        "its ranks end at once, the last of Ray within a minute; `resume` ends the study, every unit once",
    )


@pytest.mark.thorough
def test_ray_dies(tmp_path: Path, store: str, record: Record) -> None:
    """Ray ends a driver without its raylet, with status 1 and no word, after some seconds; we are faster."""
    driver = start(store, "random", "--benchmark", write_slow_synthetic(tmp_path, 0.3), "--budget", 6)
    wait_for_trials(store, "FINISHED", "RUNNING")
    descendants = psutil.Process(driver.pid).children(recursive=True)
    [raylet] = [process for process in descendants if process.name() == "raylet"]
    raylet.kill()
    status, out, err = finish(driver)
    assert status == 1
    assert_interrupted(store, out, err, ": Ray's raylet has died")
    resume(store, 54)
    assert_nothing_is_left(tmp_path, descendants)
    record("Ray dies", "`kill -9` of its raylet", f"{KEPT}, with the reason; `resume` ends the study")
