"""Runs in MLflow beside a study's trials: opened, linked, described, and given files."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient

from hpo.store import client as store

VERSIONED = ("torch", "transformers", "deepspeed", "ray", "mlflow", "optuna", "hyperopt", "numpy")


def job_tag() -> dict[str, str]:
    """SLURM's id of this job, where there is one."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"hpo.slurm_job": job} if job else {}


def versions() -> dict[str, str]:
    """Tags with the versions of the packages here."""
    return {f"hpo.version.{name}": importlib.metadata.version(name) for name in VERSIONED}


def open_run(client: MlflowClient, experiment_id: str, name: str, launch_run: str | None) -> str:
    """The run that `mlflow run` opened, if it lies in the benchmark's experiment; else one that is linked to it."""
    if launch_run is not None and client.get_run(launch_run).info.experiment_id == experiment_id:
        client.set_tag(launch_run, "mlflow.runName", name)
        return launch_run
    run = client.create_run(experiment_id, run_name=name)
    if launch_run is not None:
        link(client, launch_run, run.info.run_id)
    return str(run.info.run_id)


def link(client: MlflowClient, launch_run: str, run_id: str) -> None:
    """Say of the run that `mlflow run` opened where the study itself is."""
    client.set_tag(launch_run, "hpo.kind", "launch")
    client.set_tag(launch_run, "hpo.study_run_id", run_id)


def store_files(benchmark: str, kind: str, files: Mapping[str, str], tags: Mapping[str, str]) -> str:
    """Keep files as a run of their own.

    Args:
        benchmark: name of the experiment.
        kind: the run's tag `hpo.kind`, also its name.
        files: their text, by name.
        tags: of the run.

    Returns:
        The run's id.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    launch_run = os.environ.pop("MLFLOW_RUN_ID", None)
    client, experiment_id = store.open_experiment(benchmark)
    with store.readable_errors():
        run_id = open_run(client, experiment_id, f"{kind} of {benchmark}", launch_run)
        for key, value in {"hpo.kind": kind, **tags}.items():
            client.set_tag(run_id, key, value)
        log_files(client, run_id, files)
        client.set_terminated(run_id, "FINISHED")
    return run_id


def log_files(client: MlflowClient, run_id: str, files: Mapping[str, str]) -> None:
    """Keep texts as a run's artifacts, by name."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.write_text(text)
            client.log_artifact(run_id, str(path))


def git_commit() -> str | None:
    """The commit of the suite's checkout, where it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
