"""Every method, its driver killed for real at three moments drawn by lot: it ends as if nobody had.

test_resume has more moments and several devices, on actors in its own process.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.search import registry
from tests.faults.conftest import Record
from tests.stores import fresh_store
from tests.studies import finish, launch, read, steps, write_slow_synthetic

KILLS = 3
TIMED = ("device_seconds", "began_seconds", "ended_seconds", "samples_per_second", "peak_memory_mb")
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]


def drive(store: str, *words: object) -> subprocess.Popen[str]:
    """Start a driver on one core, and so on one device: the order of events is then the same each time."""
    return launch(["taskset", "--cpu-list", "0", sys.executable, "-m", "hpo", *map(str, words)], store)


def trials(store: str, folder: Path) -> list[dict[str, str]]:
    """Read the stored trials of a finished study, without measures of time."""
    study, runs = read(store)
    assert study.info.status == "FINISHED"
    for run in runs:
        found = steps(store, run)
        assert found == sorted(set(found)), "no unit is stored twice"
    path = MlflowClient(store).download_artifacts(study.info.run_id, "trials.csv", str(folder))
    rows = csv.DictReader(Path(path).read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


@pytest.mark.parametrize("method", registry.names())
def test_a_study_whose_driver_is_killed_three_times_ends_as_one_that_is_not(
    method: str, tmp_path: Path, record: Record
) -> None:
    stores = {}
    for name in ("whole", "killed"):
        stores[name] = fresh_store(tmp_path / name)
        write_slow_synthetic(tmp_path / name, 0.2)
    words = ("run", method, "--benchmark", "slow.yaml", "--budget", 4, "--seed", 1)
    status, _, err = finish(drive(stores["whole"], *words))
    assert status == 0, err
    lot, killed = random.Random(method), 0
    driver = drive(stores["killed"], *words)
    while killed < KILLS:
        wait_for_events(tmp_path / "killed", driver)
        time.sleep(lot.uniform(0.0, 2.0))
        assert driver.poll() is None, "it ended before it was killed"
        driver.kill()
        driver.communicate()
        killed += 1
        driver = drive(stores["killed"], "resume", read(stores["killed"])[0].info.run_id)
    status, _, err = finish(driver)
    assert status == 0, err
    assert trials(stores["killed"], tmp_path / "killed") == trials(stores["whole"], tmp_path / "whole")
    if method == registry.names()[-1]:
        outcome = "trials, decisions, scores and incumbent are those of a study without interruption"
        record("the driver dies, three times, at random", "`kill -9`; every method, one device", outcome)


def wait_for_events(folder: Path, driver: subprocess.Popen[str]) -> None:
    """Until a driver has kept a state of its own."""
    began, deadline = time.time(), time.monotonic() + 120
    while time.monotonic() < deadline and driver.poll() is None:
        if any(path.stat().st_mtime > began for path in folder.glob("unfinished/*/state")):
            return
        time.sleep(0.1)
    raise AssertionError("nothing has happened")
