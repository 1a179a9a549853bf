"""Every job writes to an SQLite store of its own, and adds it to the shared one when it ends.

SQLite on a cluster's shared file system does not keep writers on several nodes apart. So a job works on a copy,
which one server process owns, and brings its runs to the shared file in one transaction, under a lock, at its end. A
job that could not (killed, disk full) has lost nothing: `python -m hpo slurm collect` adds the runs that are missing.

A run is taken over as it is, with its id; its artifacts lie beside the shared file from the start.
"""

from __future__ import annotations

import shlex
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from benchmarks.ports import free_port
from benchmarks.spec import BenchmarkError
from hpo.store.client import making, readable_errors
from slurm.processes import Child, node_name, say, wait_for_start
from slurm.profile import Profile

OF_A_RUN = ("params", "metrics", "latest_metrics", "tags")
"""Tables of MLflow's schema whose rows belong to one run by `run_uuid`."""
FILE = "mlflow.db"
"""A job's own store, in its folder."""
LOCK_SECONDS = 300


def begin(own: Path, shared: Path) -> None:
    """Give a job its own store: a copy of the shared one, or a new one where there is none.

    A job that is queued again finds its own and goes on with it.
    """
    if own.exists():
        return
    if not shared.exists():
        # MLflow writes the place of its experiment "Default" into SQL as text, which fails in a folder with a quote
        # in its name; nothing is stored in that experiment.
        with readable_errors():
            SqlAlchemyStore(f"sqlite:///{own}", "file:///unused")  # type: ignore[no-untyped-call]
        return
    with _locked(shared), closing(sqlite3.connect(shared)) as source, closing(sqlite3.connect(own)) as target:
        source.backup(target)


def collect(own: Path, shared: Path) -> int:
    """Add a job's runs to the shared store; return the number of runs that it lacked.

    Raises:
        BenchmarkError: the shared store is of another version of MLflow, or cannot be written; the job's own keeps all.
    """
    try:
        with _locked(shared):
            if not shared.exists():
                with closing(sqlite3.connect(own)) as source, closing(sqlite3.connect(shared)) as target:
                    source.backup(target)
                    return int(target.execute("SELECT count(*) FROM runs").fetchone()[0])
            with closing(sqlite3.connect(shared, isolation_level=None)) as connection:
                connection.execute("ATTACH ? AS job", (str(own),))
                _check_versions(connection, own, shared)
                added = _add_runs(connection)
                connection.execute("COMMIT")  # before this, nothing of it is seen
                return added
    except (sqlite3.Error, OSError) as error:
        raise BenchmarkError(
            f"{shared}: runs could not be added ({error}); they are kept in {own}, "
            "and `python -m hpo slurm collect` adds them later"
        ) from None


def _check_versions(connection: sqlite3.Connection, own: Path, shared: Path) -> None:
    versions = [connection.execute(f"SELECT * FROM {schema}.alembic_version").fetchone() for schema in ("main", "job")]  # noqa: S608
    if versions[0] != versions[1]:
        raise BenchmarkError(
            f"{shared} was written by another version of MLflow than {own}; bring it to this one with "
            f"`mlflow db upgrade sqlite:///{shared}`, then: python -m hpo slurm collect"
        )


_RESUMED = """
CREATE TEMP TABLE resumed AS
    SELECT theirs.run_uuid FROM job.tags theirs
    LEFT JOIN main.tags ours ON ours.run_uuid = theirs.run_uuid AND ours.key = theirs.key
    WHERE theirs.key = 'hpo.resumes' AND CAST(theirs.value AS INTEGER) > CAST(coalesce(ours.value, '0') AS INTEGER);
INSERT INTO resumed
    SELECT run_uuid FROM job.tags WHERE key = 'mlflow.parentRunId' AND value IN (SELECT run_uuid FROM resumed);
"""
"""Studies that the job went on with, and their trials: it knows more of them than the shared store."""
_MATCH = """
CREATE TEMP TABLE missing AS
    SELECT run_uuid FROM job.runs WHERE run_uuid NOT IN (SELECT run_uuid FROM main.runs);
INSERT INTO main.experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
    SELECT name, artifact_location, lifecycle_stage, creation_time, last_update_time FROM job.experiments
    WHERE name NOT IN (SELECT name FROM main.experiments);
CREATE TEMP TABLE experiment AS
    SELECT theirs.experiment_id AS theirs, ours.experiment_id AS ours
    FROM job.experiments theirs JOIN main.experiments ours USING (name);
"""
"""Experiments are the same by their names; their numbers may differ from store to store."""
_DATASETS = """
CREATE TEMP TABLE dataset AS
    SELECT theirs.dataset_uuid AS theirs, ours.dataset_uuid AS ours
    FROM job.datasets theirs JOIN experiment ON theirs.experiment_id = experiment.theirs
    JOIN main.datasets ours
        ON ours.experiment_id = experiment.ours AND ours.name = theirs.name AND ours.digest = theirs.digest;
CREATE TEMP TABLE input AS
    SELECT input_uuid FROM job.inputs WHERE destination_id IN (SELECT run_uuid FROM missing);
"""
"""Data sets are the same by experiment, name and digest."""
_EXPERIMENT = ("experiment_id", "(SELECT ours FROM experiment WHERE theirs = experiment_id)")
_SOURCE = ("source_id", "coalesce((SELECT ours FROM dataset WHERE theirs = source_id), source_id)")
_OF_MISSING_RUNS = "run_uuid IN (SELECT run_uuid FROM missing)"


def _add_runs(connection: sqlite3.Connection) -> int:
    """Add the runs of the attached store `job` that `main` lacks, or has as they were before the job resumed them."""
    connection.execute("BEGIN IMMEDIATE")
    _run(connection, _RESUMED)
    for table in ("runs", *OF_A_RUN):
        connection.execute(f"DELETE FROM main.{table} WHERE run_uuid IN (SELECT run_uuid FROM resumed)")  # noqa: S608
    _run(connection, _MATCH)
    _copy(connection, "experiment_tags", "TRUE", *_EXPERIMENT)
    _copy(connection, "runs", _OF_MISSING_RUNS, *_EXPERIMENT)
    for table in OF_A_RUN:
        _copy(connection, table, _OF_MISSING_RUNS)
    _copy(connection, "datasets", "TRUE", *_EXPERIMENT)
    _run(connection, _DATASETS)
    _copy(connection, "inputs", "input_uuid IN (SELECT input_uuid FROM input)", *_SOURCE)
    _copy(connection, "input_tags", "input_uuid IN (SELECT input_uuid FROM input)")
    return int(connection.execute("SELECT count(*) FROM missing").fetchone()[0])


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run statements within the transaction; `executescript` would end it."""
    for statement in script.split(";"):
        connection.execute(statement)


def _copy(connection: sqlite3.Connection, table: str, condition: str, column: str = "", expression: str = "") -> None:
    """Add rows of a table that are not there; one column may have another value here than there."""
    names = [row[1] for row in connection.execute(f"PRAGMA job.table_info({table})")]
    values = [expression if name == column else f'"{name}"' for name in names]
    listed = ", ".join(f'"{name}"' for name in names)
    connection.execute(
        f"INSERT OR IGNORE INTO main.{table} ({listed}) "  # noqa: S608 - names of MLflow's own schema
        f"SELECT {', '.join(values)} FROM job.{table} WHERE {condition}"
    )


@contextmanager
def _locked(shared: Path) -> Iterator[None]:
    """One job at a time; by a file that is made or not made, which shared file systems keep apart too."""
    shared.parent.mkdir(parents=True, exist_ok=True)
    file = f"{shared}.jobs-lock"
    try:
        with SoftFileLock(file, timeout=LOCK_SECONDS), making(shared):
            yield
    except Timeout:
        raise BenchmarkError(
            f"{shared} is locked by another job for more than {LOCK_SECONDS} s; if none runs, delete {file}"
        ) from None


@contextmanager
def served(profile: Profile, folder: Path) -> Iterator[str]:
    """Yield the tracking URI of this job's store: the configured server, or one of its own for the SQLite file."""
    if profile.is_served:
        yield profile.store
        return
    shared, own = Path(profile.store), folder / FILE
    begin(own, shared)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{own}", "--no-serve-artifacts"]
    command += ["--default-artifact-root", str(shared.parent / "mlruns")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    try:
        with Child(command, quiet, folder / "mlflow.log", shielded=True) as server:
            here = f"http://127.0.0.1:{port}"
            uri = wait_for_start(server, "the MLflow server", folder / "mlflow.log", lambda: _health(here))
            say(f"MLflow on this node: {uri}; from your machine: ssh -L {port}:127.0.0.1:{port} {node_name()}")
            yield uri
    finally:
        if own.exists():
            say(f"added {collect(own, shared)} runs to {shared}")
            say(f"open it in the browser: mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{shared}')}")


def _health(uri: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5):  # noqa: S310 - our own address
            return uri
    except OSError:
        return None
