"""Studies as users start them: `python -m hpo` in a process of its own, in a folder that is not the project's."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import spec
from hpo.app import cli

REPOSITORY = Path(__file__).parent.parent
TRAINING = "ray::_Rank.run_unit"
STARTED: list[subprocess.Popen[str]] = []
"""Every process that a test has started here; `tests/conftest.py` ends those that outlive their test."""


def write_benchmark(folder: Path, limit: int = 96, finetune: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """Write nano with short trainings into a file.

    Args:
        folder: where to write it.
        limit: questions of each split.
        finetune: replaces keys of its `finetune`.
        changes: replace top-level keys.
    """
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    for split in content["finetune"]["data"].values():
        split["limit"] = limit
    content["finetune"] |= finetune or {}
    content |= {"name": "short", "resource": {"unit_samples": 48, "max_units": 3}, "grid": {}, **changes}
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def write_slow_synthetic(folder: Path, seconds_per_unit: float, name: str = "short") -> Path:
    """Write synthetic into a file, slow enough for something to happen to a study on its way."""
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": name, "synthetic": {"seconds_per_unit": seconds_per_unit}}
    path = folder / "slow.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def make_project(folder: Path) -> Path:
    """Link the project into a folder of its own: files that `mlflow run` leaves there are no other test's."""
    folder.mkdir()
    for name in (
        "MLproject",
        "python_env.yaml",
        "benchmarks",
        "hpo",
        "slurm",
        "requirements.txt",
        "requirements-run.txt",
    ):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def start(
    store: str,
    *arguments: object,
    verb: str = "run",
    folder: Path | None = None,
    python_path: Path | None = None,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start `python -m hpo run ...`.

    Args:
        store: URI of the tracking store.
        arguments: the words after the verb.
        verb: the command.
        folder: where it runs; by default beside an SQLite store.
        python_path: a folder to import from before the project's.
        variables: more of its environment.
    """
    return launch([sys.executable, "-m", "hpo", verb, *map(str, arguments)], store, folder, python_path, **variables)


def launch(
    command: list[str], store: str, folder: Path | None = None, python_path: Path | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Start any command, in a process group of its own; see `start`."""
    path = os.pathsep.join(str(folder) for folder in (python_path, REPOSITORY) if folder)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `mlflow run` looks for python
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PYTHONPATH": path, "PATH": programs, **variables}
    environment.setdefault("RAY_worker_niceness", "0")  # else other work on the machine holds up Ray's workers alone
    environment.pop("MLFLOW_RUN_ID", None)
    where = folder or Path(store.removeprefix("sqlite:///")).parent
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    STARTED.append(subprocess.Popen(command, env=environment, cwd=where, start_new_session=True, **settings))
    return STARTED[-1]


def run_here(folder: Path, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m hpo ...` in this process, which spares the imports: two seconds of computing.

    Args:
        folder: where it runs.
        words: the command and its options.
        variables: more of its environment.
    """
    typed, out, err = list(map(str, words)), io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, variables), contextlib.chdir(folder):
        os.environ.pop("MLFLOW_RUN_ID", None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(typed)
    return subprocess.CompletedProcess(typed, status, out.getvalue(), err.getvalue())


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def read(store: str, experiment: str = "short") -> tuple[Run, list[Run]]:
    """Return the study's run and its trials' runs, in order."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    [study] = [run for run in runs if run.data.tags["hpo.kind"] == "study"]
    trials = [run for run in runs if run.data.tags["hpo.kind"] == "trial"]
    return study, sorted(trials, key=lambda run: int(run.data.tags["hpo.trial"]))


def processes_of(driver: int, title: str) -> list[psutil.Process]:
    """Find the processes of a driver whose title begins like this; an actor of Ray's has its current method in it."""
    try:
        descendants = psutil.Process(driver).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in descendants if _title(process).startswith(title)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for_training(driver: int, seen: set[int], seconds: float = 400.0) -> psutil.Process:
    """Wait for a rank that has been training for a while and is not among `seen`; adds it there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = {process.pid for process in processes_of(driver, TRAINING)} - seen
        time.sleep(1.0)
        for process in processes_of(driver, TRAINING):
            if process.pid in before:
                seen.add(process.pid)
                return process
    raise AssertionError("no rank trains")


def wait_for_trials(store: str, *states: str) -> list[Run]:
    """Wait until there is a trial in each of these states; returns all trials."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            _, trials = read(store)
        except (AssertionError, LookupError, ValueError):  # there is no study yet
            trials = []
        if set(states) <= {run.info.status for run in trials}:
            return trials
        time.sleep(0.2)
    raise AssertionError(f"no trials that are {' and '.join(states)}")


def steps(store: str, trial: Run) -> list[int]:
    """List the units of a trial, as they are stored."""
    return [point.step for point in MlflowClient(store).get_metric_history(trial.info.run_id, "eval_loss")]


def assert_nothing_is_left(folder: Path, descendants: list[psutil.Process], seconds: float = 60.0) -> None:
    """Make sure that a study that has ended has left no process and no folder of its own."""
    _, left = psutil.wait_procs(descendants, timeout=seconds)
    assert left == []
    assert not (folder / "unfinished").exists()
