"""Real jobs on a real SLURM: studies that end well, and the many ways in which they do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import spec
from slurm import scheduler

REPOSITORY = Path(__file__).parents[2]
SECONDS = 240
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture
def work(bed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a name that shells stumble over, a cluster profile and a benchmark; no job is left at its end."""
    folder = tmp_path / 'it\'s "mine", 100% $HOME'
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_profile(folder)
    write_benchmark(folder, seconds_per_unit=0.05)
    yield folder
    left = squeue()
    scheduler.cancel([job for job, _, _ in left])
    wait_until(lambda: not squeue(), "the jobs' end")


def write_profile(folder: Path, **changes: object) -> None:
    content = {"time": "00:10:00", "workers": 2, "node": {"cpus": 1}, "head": {"cpus": 1}, **changes}
    (folder / "cluster.yaml").write_text(yaml.safe_dump(content))


def write_benchmark(folder: Path, seconds_per_unit: float) -> None:
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": "slow", "synthetic": {"seconds_per_unit": seconds_per_unit}}
    (folder / "slow.yaml").write_text(yaml.safe_dump(content))


def submit(folder: Path, *what: str) -> str:
    """Submit as a user does; returns the job's id."""
    done = hpo(folder, "slurm", "submit", "--cluster", "cluster.yaml", *what, "--benchmark", "slow.yaml")
    assert done.returncode == 0, done.stderr
    return re.findall(r"submitted job (\d+)", done.stdout)[0]


def hpo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpo", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def squeue() -> list[tuple[str, str, str]]:
    """Id, name and state of the jobs that have not ended."""
    printed = subprocess.run(["squeue", "--noheader", "--format=%A|%j|%T"], capture_output=True, text=True, check=True)
    return [tuple(line.strip().split("|")) for line in printed.stdout.splitlines()]  # type: ignore[misc]


def wait_until(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def wait_for_end(*jobs: str) -> None:
    wait_until(lambda: not {job for job, _, _ in squeue()} & set(jobs), f"the end of {jobs}")


def log(folder: Path, job: str) -> str:
    [path] = folder.glob(f"logs/*-{job}.out")
    return path.read_text()


def has_begun(folder: Path, job: str) -> bool:
    """A trial of its study has ended, and more are on their way."""
    return any(folder.glob(f"logs/*-{job}.out")) and "units | left" in log(folder, job)


def stored(folder: Path) -> list[Run]:
    """The studies in the shared store."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("slow")
    return list(client.search_runs([found.experiment_id], "tags.`hpo.kind` = 'study'")) if found else []


def assert_nothing_is_left(folder: Path, job: str) -> None:
    """No job of it, no process, no connection file, nothing in /tmp."""
    wait_until(lambda: not squeue(), "the workers' end", 60)
    assert not list(folder.glob("logs/*/connection.json"))
    assert not list(Path("/tmp").glob(f"hpo-{job}-*"))
    left = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        if (process.info["environ"] or {}).get("SLURM_JOB_ID") == job and process.status() != psutil.STATUS_ZOMBIE:
            left.append(process.info["cmdline"])
    assert left == []


def test_two_studies_at_once_in_one_folder_do_not_meet(work: Path) -> None:
    jobs = [submit(work, "random", "--budget", "2"), submit(work, "asha", "--budget", "2", "--seed", "3")]
    wait_until(lambda: len(list(work.glob("logs/*/connection.json"))) == 2 or not squeue(), "both Rays")
    assert {path.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o700}
    wait_for_end(*jobs)
    for job in jobs:
        text = log(work, job)
        assert re.search(rf"^START \S+ head job {job} \(hpo-\w+\) on n[12]$", text, re.MULTILINE), text
        assert re.search(rf"^FINISH \S+ head job {job} .* exit status 0$", text, re.MULTILINE), text
        assert "2 of 2 workers joined" in text
        assert_nothing_is_left(work, job)
    assert sorted((run.data.tags["hpo.method"], run.info.status) for run in stored(work)) == [
        ("asha", "FINISHED"),
        ("random", "FINISHED"),
    ]
    for run in stored(work):
        metrics = run.data.metrics
        assert metrics["device_hours"] == pytest.approx(2 * metrics["wall_seconds"] / 3600, rel=0.05)
        table = work / f"logs/hpo-{run.data.tags['hpo.method']}-{run.data.tags['hpo.slurm_job']}.csv"
        assert len(table.read_text().splitlines()) == 1 + metrics["num_trials"]
    assert hpo(work, "slurm", "collect", "--cluster", "cluster.yaml").stdout.count(": 0 runs added") == 2


def test_a_cancelled_study_keeps_what_it_found(work: Path) -> None:
    write_benchmark(work, seconds_per_unit=0.3)
    job = submit(work, "random", "--budget", "50")
    wait_until(lambda: has_begun(work, job), "a trial")
    scheduler.cancel([job])
    wait_for_end(job)
    text = log(work, job)
    assert "tells the study to end in good order: the job was cancelled" in text
    assert re.search(r"^FINISH .* exit status 1$", text, re.MULTILINE), text
    assert_nothing_is_left(work, job)
    [study] = stored(work)
    assert study.info.status == "KILLED"
    assert study.data.metrics["num_trials"] >= 2
    assert "best_eval_loss" in study.data.metrics


def test_a_worker_that_is_cancelled_in_mid_trial_is_replaced(work: Path) -> None:
    write_benchmark(work, seconds_per_unit=0.4)
    job = submit(work, "random", "--budget", "6")
    wait_until(lambda: has_begun(work, job), "a trial")
    workers = [number for number, name, _ in squeue() if name == "hpo-random-worker"]
    scheduler.cancel(workers[:1])
    wait_for_end(job)
    text = log(work, job)
    assert f"worker job {workers[0]} has ended early (CANCELLED)" in text
    assert re.search(r"^FINISH .* exit status 0$", text, re.MULTILINE), text
    assert_nothing_is_left(work, job)
    [study] = stored(work)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["units"] >= 54


def test_what_slurm_refuses_is_passed_on_in_its_words(work: Path) -> None:
    write_profile(work, partition="nowhere")
    done = hpo(work, "slurm", "submit", "--cluster", "cluster.yaml", "random", "--benchmark", "slow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: sbatch refused: " in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_is_found_before_anything_is_submitted(work: Path) -> None:
    done = hpo(work, "slurm", "submit", "--cluster", "cluster.yaml", "asha", "--reduction-factor", "1")
    assert done.returncode == 2
    assert "reduction_factor" in done.stderr
    assert squeue() == []
