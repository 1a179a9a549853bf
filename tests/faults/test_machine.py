"""Faults of the machine: its disk is full, its clock is set."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import SIMULATED, Record
from tests.faults.test_store import assert_complete, wait_for_line
from tests.stores import fresh_store
from tests.studies import finish, read, start, wait_for_trials, write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
DISK = "64m"


@pytest.fixture(params=["disk"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Mount a small file system on a folder of this name."""
    folder = tmp_path / request.param
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all; returns the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue
    assert shutil.disk_usage(disk).free == 0
    return filler


@pytest.mark.thorough  # test_write_queue has stores that fail for a while, in process
def test_the_disk_of_the_store_is_full(disk: Path, record: Record) -> None:
    """With its artifacts, and with the study's own folder; there is room again while the study's end waits for it."""
    store = fresh_store(disk)
    driver = start(store, "random", "--benchmark", write_slow_synthetic(disk, 0.3), "--budget", 6)
    wait_for_trials(store, "FINISHED")
    filler = fill(disk)
    warned = wait_for_line(driver, "waits for its store")
    assert "warning: tracking store" in warned
    assert "No space left on device" in warned  # for the study's state
    filler.unlink()
    status, out, err = finish(driver)
    assert status == 0, err
    assert "Traceback" not in warned + out + err
    assert_complete(store, 6)
    study, _ = read(store)
    artifacts = {file.path for file in MlflowClient(store).list_artifacts(study.info.run_id)}
    assert {"trials.csv", "units.csv", "ledger.csv", "best_config.json"} <= artifacts
    outcome = "the study goes on and says so; once there is room all arrives, in order and once"
    record("the disk of store, artifacts and state is full", "a small file system, filled", outcome)


@pytest.mark.thorough  # test_the_disk_of_the_store_is_full is of the same kind
@pytest.mark.parametrize("disk", ["unfinished"], indirect=True)
def test_the_disk_of_the_checkpoints_is_full(tmp_path: Path, disk: Path, store: str, record: Record) -> None:
    """PBT writes a checkpoint a member and interval; without any, no member gets far, and every one is a row."""
    benchmark = write_slow_synthetic(tmp_path, 2.0)  # the disk is full before the first checkpoint
    driver = start(store, "pbt", "--benchmark", benchmark, "--budget", 4, "--interval-units", 3)
    wait_for_trials(store, "RUNNING")
    fill(disk)
    status, out, err = finish(driver)
    assert "Traceback" not in out + err
    study, trials = read(store)
    assert (status, study.info.status) == (1, "FAILED"), err
    assert "No space left on device" in err.strip().splitlines()[-1]
    assert all("hpo.outcome" in trial.data.tags for trial in trials)
    failed = [trial for trial in trials if trial.data.tags["hpo.outcome"] != "interrupted"]  # by the early end
    assert {trial.data.tags["hpo.outcome"] for trial in failed} == {"failed"}
    assert all("No space left on device" in trial.data.tags["hpo.reason"] for trial in failed)
    record(
        "the disk of the checkpoints is full",
        "a small file system, filled before the first checkpoint; PBT",
        "each member is a `failed` row with the reason; the study ends early, FAILED, status 1, with it as last line",
    )


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [86_400, -86_400], ids=["forward", "back"])
def test_the_clock_is_set(tmp_path: Path, store: str, record: Record, seconds: int) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    words = ("asha", "--benchmark", write_slow_synthetic(tmp_path, 0.3), "--budget", 5)
    driver = start(store, *words, python_path=SIMULATED, CLOCK_SET_BY=str(clock))
    began = time.monotonic()
    wait_for_trials(store, "FINISHED")
    draft = clock.with_suffix(".new")
    draft.write_text(str(seconds))
    draft.replace(clock)
    status, _, err = finish(driver)
    took = time.monotonic() - began
    assert (status, "Traceback" in err) == (0, False), err
    study, trials = read(store)
    assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", 45)
    assert study.data.metrics["wall_seconds"] < took
    assert study.data.metrics["device_hours"] * 3600 == pytest.approx(
        study.data.metrics["wall_seconds"] * len(os.sched_getaffinity(0)), rel=0.01
    )
    points = [
        point.timestamp / 1000
        for trial in trials
        for point in MlflowClient(store).get_metric_history(trial.info.run_id, "eval_loss")
    ]
    assert max(points) - min(points) < took
    assert max(points) == pytest.approx(time.time(), abs=took)
    how = f"simulated: by a day, {'forward' if seconds > 0 else 'back'}, for Python in every process"
    record("the clock is set", how, "nothing: seconds, costs and times in MLflow are those without it")
