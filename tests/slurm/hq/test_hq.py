"""`python -m hpo hq ...` as a user types it: a real server, worker and tasks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks import spec
from hpo.analysis import records
from hpo.core import events as core
from hpo.store.queries import states
from slurm import study_folder
from slurm.hq import ending
from tests.slurm.jobs.jobs_of_study import Job, make_folder
from tests.slurm.testbed.drills import REPOSITORY, hpo, squeue, stored, wait_for_end, wait_until
from tests.stores import fresh_store
from tests.studies import write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a name that shells and HyperQueue's placeholders stumble over, and a store."""
    folder = tmp_path / '"mine", 100% $HOME %{JOB_ID}'
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return folder


def folder_in(text: str) -> Path:
    return Path(re.findall(r"the study is in (.*)\n", text)[0])


def test_trials_are_tasks_and_become_a_study(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    done = hpo(place, "hq", "submit", "random", "--benchmark", "synthetic", "--budget", "7", "--per-task", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_in(done.stdout)
    assert f"7 trials in {folder}.csv, 0 of them failed" in done.stdout
    assert "compare: " in done.stdout
    [study] = records.finished("synthetic")
    assert (study.method, study.variant) == ("random", "evaluation=hyperqueue")
    assert (study.metrics["num_trials"], study.metrics["units"]) == (7, 63)
    assert not list(folder.glob("task-*.log"))  # a task that is well leaves none
    assert not [path for path in temporary.iterdir() if "hq" in path.name]
    shutil.rmtree(temporary)
    assert len(list(folder.glob("*.slot-*.jsonl"))) <= len(os.sched_getaffinity(0))
    again = hpo(place, "hq", "resume", str(folder))
    assert (again.returncode, "is in the store already" in again.stderr) == (2, True)


def test_a_study_that_was_killed_resumes_with_the_trials_that_lack_a_result(place: Path) -> None:
    write_slow_synthetic(place, 0.1)
    words = ["hq", "submit", "random", "--benchmark", "slow.yaml", "--budget", "6", "--workers", "2"]
    driver = subprocess.Popen([sys.executable, "-m", "hpo", *words], cwd=place, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(study_folder.finished(found) for found in place.glob("hq/hq-random-*")), "a trial")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    [folder] = place.glob("hq/hq-random-*")
    before = study_folder.finished(folder)
    assert 0 < len(before) < 6
    done = hpo(place, "hq", "resume", str(folder), "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [int(event.trial) for event in study_folder.events(folder) if isinstance(event, core.Began)]
    assert all(begun.count(trial) == 1 for trial in before)
    [study] = records.finished("short")
    assert (study.metrics["num_trials"], study.metrics["units"]) == (6, 54)


@pytest.mark.thorough  # HyperQueue's own heartbeat decides; the others of this file run tasks to their ends
def test_a_server_that_was_paused_with_its_machine_goes_on(place: Path) -> None:
    """HyperQueue takes its worker for lost then, kills its tasks, and would wait for another for ever."""
    write_slow_synthetic(place, 0.5)
    words = ["hq", "submit", "random", "--benchmark", "slow.yaml", "--budget", "6", "--workers", "2"]
    driver = subprocess.Popen([sys.executable, "-m", "hpo", *words], cwd=place, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(study_folder.finished(found) for found in place.glob("hq/hq-random-*")), "a trial")
    [server] = [child for child in psutil.Process(driver.pid).children() if "slurm.hq.server" in child.cmdline()]
    server.suspend()
    time.sleep(60)
    server.resume()
    printed, _ = driver.communicate()
    assert driver.returncode == 0, printed
    assert "HyperQueue has lost its worker" in printed
    [study] = records.finished("short")
    assert (study.metrics["num_trials"], study.metrics["units"]) == (6, 54)


def test_a_trial_that_fails_twice_is_a_row_and_the_others_of_its_task_are_trained(place: Path) -> None:
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": "tight", "synthetic": {"seconds_per_unit": 0.0, "memory_limit": 12}}
    (place / "tight.yaml").write_text(yaml.safe_dump(content))
    done = hpo(place, "hq", "submit", "random", "--benchmark", "tight.yaml", "--budget", "6", "--per-task", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_in(done.stdout)
    [log] = folder.glob("task-hq0-1-0.log")
    assert "1 task failed: Program terminated with exit code 1. It says: trial " in done.stdout
    assert f"(all of it: {log})" in done.stdout
    outcomes = {event.trial: event.outcome for event in study_folder.events(folder) if isinstance(event, core.Ended)}
    assert set(outcomes.values()) == {"completed", "failed"}
    assert "failed: out of memory" in done.stdout
    [study] = records.finished("tight")
    assert study.metrics["num_trials"] == 6


def test_a_study_of_which_every_trial_failed_ends_with_status_1_and_the_reason(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    folder = make_folder(place)
    job = Job(folder, "hq0").reserve()
    for trial in range(3):
        job.begin(trial).end("failed", f"RuntimeError: {trial}")
    job.release()
    assert ending.train_and_store(folder, workers=1, per_task=1) == 1
    printed = capsys.readouterr()
    assert printed.err == "error: the study found nothing (every trial fails: RuntimeError: 2)\n"
    assert "compare: " not in printed.out
    assert records.finished("synthetic") == []
    assert list(states("synthetic", "tags.hpo.kind = 'study'").values()) == ["FAILED"]


def test_mistakes_are_refused_in_a_sentence_before_anything_is_made(place: Path) -> None:
    for words, sentence in (
        (["submit", "random", "--benchmark", "nanno"], "nanno"),
        (["submit", "asha", "--benchmark", "synthetic"], "asha learns from results while trials run"),
        (["submit", "random", "--benchmark", "synthetic", "--workers", "0"], "workers is 0, but must be >= 1"),
        (["submit", "random", "--benchmark", "synthetic", "--per-task", "0"], "per_task is 0, but must be >= 1"),
        (["submit", "random", "--benchmark", "synthetic", "--wrokers", "2"], "--workers"),
        (["resume", "nowhere"], "give the folder of a study"),
    ):
        done = hpo(place, "hq", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert list(place.iterdir()) == []


def test_a_job_of_slurm_trains_a_whole_study(work: Path) -> None:
    words = ["--benchmark", "slow.yaml", "--budget", "5", "--workers", "2", "--cluster", "cluster.yaml"]
    done = hpo(work, "hq", "submit", "random", *words)
    assert done.returncode == 0, done.stderr
    [job] = re.findall(r"submitted job (\d+)", done.stdout)
    wait_for_end(job)
    folder = folder_in(done.stdout)
    [log] = work.glob(f"logs/*-{job}.out")
    assert "exit status 0" in log.read_text(), log.read_text()
    assert json.loads((folder / study_folder.JOBS).read_text()) == [job]
    [study] = stored(work)
    assert (study.data.tags["hpo.variant"], study.data.metrics["num_trials"]) == ("evaluation=hyperqueue", 5)
    assert squeue() == []
