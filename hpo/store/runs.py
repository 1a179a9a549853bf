"""Runs in MLflow beside a study's trials: opened, linked, described, and given files."""

from __future__ import annotations

import importlib.metadata
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.databricks_command_context import DatabricksCommandRunContext
from mlflow.tracking.context.databricks_job_context import DatabricksJobRunContext
from mlflow.tracking.context.databricks_notebook_context import DatabricksNotebookRunContext
from mlflow.tracking.context.databricks_repo_context import DatabricksRepoRunContext
from mlflow.tracking.context.jupyter_notebook_context import JupyterNotebookRunContext
from mlflow.tracking.context.registry import resolve_tags

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError, first_line
from hpo.store import client as store
from hpo.store import sharing

VERSIONED = (
    "torch",
    "transformers",
    "deepspeed",
    "ray",
    "mlflow",
    "optuna",
    "hyperopt",
    "hpbandster",
    "ConfigSpace",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "numpy",
)
"""Packages whose version may change a study's result."""
REFUSALS = (400, 413, 414, 415, 422)
"""HTTP statuses of a server that will not take a file however often it is asked."""
NOTEBOOKS = [
    JupyterNotebookRunContext,
    DatabricksNotebookRunContext,
    DatabricksJobRunContext,
    DatabricksCommandRunContext,
    DatabricksRepoRunContext,
]
"""Origins for which MLflow imports IPython, to ask it: a tenth of a second where there is no notebook."""
ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""Between two attempts at a file."""


def job_tag() -> dict[str, str]:
    """Return a tag with SLURM's id of this job, if there is one."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"hpo.slurm_job": job} if job else {}


@cache  # reading the packages' metadata takes longer than the rest of a study's description
def versions() -> dict[str, str]:
    """Return tags with the versions of the packages here."""
    return {f"hpo.version.{name}": importlib.metadata.version(name) for name in VERSIONED}


@cache
def origin_tags() -> dict[str, str]:
    """Return MLflow's own tags of the user and the program that started this, which its client alone does not set."""
    in_notebook = "IPython" in sys.modules or "DATABRICKS_RUNTIME_VERSION" in os.environ
    unasked = [] if in_notebook else NOTEBOOKS
    found = resolve_tags(ignore=unasked)  # type: ignore[arg-type]  # annotated as instances, compared as classes
    return {str(name): str(value) for name, value in found.items()}


def open_run(client: MlflowClient, experiment_id: str, name: str, launch_run: str | None) -> str:
    """Open the run of `mlflow run`, if it lies in the benchmark's experiment; else one that is linked to it."""
    if launch_run is not None and client.get_run(launch_run).info.experiment_id == experiment_id:
        client.set_tag(launch_run, "mlflow.runName", name)
        return launch_run
    run = client.create_run(experiment_id, tags=origin_tags(), run_name=name)
    if launch_run is not None:
        link(client, launch_run, run.info.run_id)
    return str(run.info.run_id)


def link(client: MlflowClient, launch_run: str, run_id: str) -> None:
    """Link the run that `mlflow run` opened to the study's own run."""
    client.set_tag(launch_run, "hpo.kind", "launch")
    client.set_tag(launch_run, "hpo.study_run_id", run_id)


class CommandRun:
    """The run of a command that is no study, such as a training: described, written, ended.

    Once it is open, a store that fails costs no result: the fault is noted, and the command goes on.

    Args:
        experiment: name of the experiment.
        name: the run's name, for people.
        params: its parameters; those that `mlflow run` has logged already stay as they are.
        tags: its tags.
        experiment_tags: tags that the experiment gets if it lacks them.

    Attributes:
        run_id: its id.
        fault: the reason why the store lacks a part of it; empty if it has all.

    Raises:
        BenchmarkError: the store cannot be used.
    """

    def __init__(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        experiment_tags: Mapping[str, str] | None = None,
    ) -> None:
        self.fault = ""
        launch_run = os.environ.pop("MLFLOW_RUN_ID", None)  # Ray's workers and ranks must not inherit it
        self._client, self._experiment_id = store.open_experiment(experiment, experiment_tags)
        with store.readable_errors():
            self.run_id = open_run(self._client, self._experiment_id, name, launch_run)
            there = self._client.get_run(self.run_id).data.params
            new = {key: value for key, value in params.items() if key not in there}
            self._client.log_batch(self.run_id, params=_params(new), tags=_tags(tags))

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End the run if the command breaks off, so that it does not look as if it still ran."""
        try:
            yield
        except BaseException as error:
            self.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Write metrics; those that are not finite are left out."""
        now = int(REAL.epoch() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items() if math.isfinite(value)]
        with self._noting_faults():
            self._client.log_batch(self.run_id, metrics=points)

    def tag(self, **tags: str) -> None:
        """Set tags, whose names get the prefix `hpo.`."""
        with self._noting_faults():
            self._client.log_batch(self.run_id, tags=_tags({f"hpo.{key}": value for key, value in tags.items()}))

    def log_files(self, files: Mapping[str, str], smaller: Mapping[str, Iterable[str]] | None = None) -> None:
        """Write texts as artifacts, by name; see `log_files` for smaller ones."""
        with self._noting_faults():
            refused = log_files(self._client, self.run_id, files, ATTEMPTS, smaller)
            if refused:
                raise BenchmarkError(f"tracking store {store.shown_uri()} did not take {_listed(refused)}")

    def log_content(self, files: Mapping[str, bytes]) -> None:
        """Write artifacts that are no texts, by name."""
        with self._noting_faults(), tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.write_bytes(content)
                if reason := _log_file(self._client, self.run_id, path, ATTEMPTS):
                    raise BenchmarkError(f"tracking store {store.shown_uri()} did not take {name} ({reason})")

    def add_model(self, log: Callable[[MlflowClient, str], None]) -> bool:
        """Write a model with a function that gets store and run id; returns whether the store has taken it."""
        try:
            with sharing.turn():
                log(self._client, self.run_id)
            return True
        except Exception as error:  # packaging runs code of several libraries, and the model lies on disk already
            self.fault = self.fault or f"the model could not be logged ({store.shown(first_line(error))})"
            return False

    def add_child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        points: Iterable[tuple[str, float, int]],
        status: str,
    ) -> None:
        """Write a run nested below this one, with metrics as name, value and step, and end it."""
        nested = {**origin_tags(), "mlflow.parentRunId": self.run_id, **tags}
        metrics = [Metric(metric, value, 0, step) for metric, value, step in points]
        with self._noting_faults():
            child = self._client.create_run(self._experiment_id, run_name=name, tags=nested).info.run_id
            self._client.log_batch(child, params=_params(params), metrics=metrics)
            self._client.set_terminated(child, status)

    def end(self, status: str) -> None:
        """End the run with a status of MLflow's: FINISHED, FAILED or KILLED."""
        with self._noting_faults():
            self._client.set_terminated(self.run_id, status)

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            with store.readable_errors():
                yield
        except BenchmarkError as error:
            self.fault = self.fault or str(error)


def store_files(
    benchmark: str,
    kind: str,
    files: Mapping[str, str],
    tags: Mapping[str, str],
    smaller: Mapping[str, Iterable[str]] | None = None,
) -> str:
    """Store files as a run of their own, as far as the store takes them.

    Args:
        benchmark: name of the experiment.
        kind: the run's tag `hpo.kind`, also its name.
        files: their text, by name.
        tags: of the run.
        smaller: see `log_files`.

    Returns:
        The reason why the store lacks a file; empty if it has all.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    run = CommandRun(benchmark, f"{kind} of {benchmark}", {}, {"hpo.kind": kind, **tags})
    run.log_files(files, smaller)
    run.end("FINISHED")
    return run.fault


def log_files(
    client: MlflowClient,
    run_id: str,
    files: Mapping[str, str],
    attempts: int | None = None,
    smaller: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, str]:
    """Write texts as a run's artifacts, each by itself: a file that is refused does not lose the others.

    A server or a proxy before it may refuse a file for its size. The run's tag `hpo.refused_files` then names it.

    Args:
        client: the tracking store.
        run_id: the run.
        files: texts, by name.
        attempts: how often a file that fails otherwise is tried before it is left out too. By default such a fault is
            raised, for callers that write again.
        smaller: by name, texts to store in a file's place if the server does not take it, the largest first. They are
            asked for only then.

    Returns:
        The files that are left out or replaced, each with the reason.

    Raises:
        MlflowException, OSError: the store failed.
    """
    refused = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.write_text(text)
            if reason := _log_file(client, run_id, path, attempts):
                is_replaced = _log_smaller(client, run_id, path, (smaller or {}).get(name, ()))
                refused[name] = f"{reason}; a smaller one is stored in its place" if is_replaced else reason
    if refused:
        client.set_tag(run_id, "hpo.refused_files", _listed(refused))
    return refused


def _log_smaller(client: MlflowClient, run_id: str, path: Path, texts: Iterable[str]) -> bool:
    """Write the first of these texts that the store takes in a file's place; tell whether it takes one."""
    for text in texts:
        path.write_text(text)
        if not _log_file(client, run_id, path, attempts=1):
            return True
    return False


def _log_file(client: MlflowClient, run_id: str, path: Path, attempts: int | None) -> str:
    """Write one file; returns the reason why it is left out, or an empty text."""
    fault = ""
    for attempt in range(attempts or 1):
        if attempt:
            REAL.sleep(PAUSE_SECONDS)
        try:
            client.log_artifact(run_id, str(path))
            return ""
        except (MlflowException, OSError) as error:
            fault = store.shown(first_line(error))
            if _status(error) in REFUSALS:
                return fault
            if attempts is None:
                raise
    return fault


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an error; None if it has none."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    return getattr(getattr(error, "response", None), "status_code", None)


def _listed(refused: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({reason})" for name, reason in refused.items())


def _params(values: Mapping[str, object]) -> list[Param]:
    return [Param(key, str(value)) for key, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in values.items()]


def git_commit() -> str | None:
    """Return the commit of the suite's checkout, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
