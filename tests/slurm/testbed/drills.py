"""Steps and observations of the tests on a real SLURM."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from slurm.profile import PROFILES

REPOSITORY = Path(__file__).parents[3]
SECONDS = 240


def write_profile(folder: Path, **changes: object) -> None:
    """Write the shipped profile of the test bed, with changes."""
    shipped = yaml.safe_load((PROFILES / "testbed.yaml").read_text())
    (folder / "cluster.yaml").write_text(yaml.safe_dump({**shipped, **changes}))


def submit(folder: Path, *what: str) -> str:
    """Submit as a user does; returns the job's id."""
    done = hpo(folder, "slurm", "submit", "--cluster", "cluster.yaml", *what, "--benchmark", "slow.yaml")
    assert done.returncode == 0, done.stderr
    return re.findall(r"submitted job (\d+)", done.stdout)[0]


def hpo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpo", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def typed(folder: Path, line: str) -> str:
    """Type a printed command into a shell, in the user's folder; returns what it prints."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {**os.environ, "PATH": programs}
    settings.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def printed(text: str, title: str) -> str:
    """Find the command that a study prints as a next step."""
    [line] = re.findall(rf"^{title}: +(\S.*)$", text, re.MULTILINE)
    return str(line)


def squeue() -> list[tuple[str, str, str]]:
    """Id, name and state of the jobs that have not ended."""
    printed = subprocess.run(["squeue", "--noheader", "--format=%A|%j|%T"], capture_output=True, text=True, check=True)
    return [tuple(line.strip().split("|")) for line in printed.stdout.splitlines()]  # type: ignore[misc]


def running() -> list[str]:
    """The jobs that have not ended."""
    return [job for job, _, _ in squeue()]


def wait_until(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def wait_for_end(*jobs: str) -> None:
    wait_until(lambda: not set(running()) & set(jobs), f"the end of {jobs}")


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


def assert_ended_well(folder: Path, job: str) -> str:
    """Its head says so, and nothing of it is left; returns the log."""
    text = log(folder, job)
    assert re.search(r"^FINISH .* exit status 0$", text, re.MULTILINE), text
    assert_nothing_is_left(folder, job)
    return text


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
