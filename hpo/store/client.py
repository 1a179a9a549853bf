"""The MLflow tracking store: opened safely, its faults reported in one sentence. Imports neither Ray nor torch."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.spec import BenchmarkError, first_line
from hpo.store import sharing

SQLITE = "sqlite:///"
EXPERIMENT_NAME, DEFAULT_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME", "Default"
SETTINGS = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per trial, from a server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow would make a run again whose answer was lost; see `write_queue`
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it would run through tables
}
"""Settings of MLflow, unless the user has made others."""
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Ports of databases whose address names none."""
SECONDS_TO_ANSWER = 10
_CREDENTIALS = re.compile(r"://\S*@")


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn a store's errors into one sentence, and keep its start-up messages to itself; take turns at a shared one.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks
    try:
        with sharing.turn():
            yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # a database's driver may be missing
        raise BenchmarkError(
            f"tracking store {shown_uri()}: cannot be used ({shown(first_line(error))}); {_cure(error)}"
        ) from None


def _cure(error: Exception) -> str:
    """Say what to do about a store's error: on a shared server an experiment may be another user's."""
    if "401" in str(error):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user of this server"
    if getattr(error, "error_code", "") == ErrorCode.Name(PERMISSION_DENIED) or "403" in str(error):
        return "the experiment belongs to another user: choose one of your own with --experiment NAME"
    return "set MLFLOW_TRACKING_URI, or unset it for an SQLite file in this folder"


def shown(text: str) -> str:
    """Return a text without the users and passwords of addresses in it."""
    return _CREDENTIALS.sub("://***@", text)


def shown_uri() -> str:
    """Return the address of the store, as it may be printed."""
    return shown(get_tracking_uri())


@cache
def warn_of(uri: str) -> None:
    """Warn, once, that a server beyond this machine is reached without encryption."""
    parts = urlsplit(uri)
    if parts.scheme != "http" or _is_loopback(parts.hostname or ""):
        return
    has_secret = parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD") or os.environ.get("MLFLOW_TRACKING_TOKEN")
    what = "the password and all that is stored" if has_secret else "all that is stored"
    print(
        f"warning: {shown(uri)} is not encrypted: {what} can be read on the way there; use https://, or a server on "
        "this machine",
        file=sys.stderr,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def file() -> Path | None:
    """Return the SQLite file that is the store; None if it is a server."""
    uri = get_tracking_uri()
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def exists() -> bool:
    """Tell whether there is a store to read: a new folder may have no SQLite file yet."""
    database = file()
    return database is None or database.exists() or not database.parent.is_dir()


def fault() -> str:
    """Return the reason why the store does not answer; empty if it does."""
    try:
        open_client().search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        return shown(first_line(error))
    return ""


def open_client() -> MlflowClient:
    """Open the tracking store, with our settings of MLflow."""
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    _require_answer(get_tracking_uri())
    return MlflowClient()


def _require_answer(uri: str) -> None:
    """Connect to a database's port once: MLflow tries an absent one for a minute and a half.

    Raises:
        OSError: the database does not answer.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:
        return  # MLflow says what is wrong with it
    if host and port and not parts.scheme.startswith("http"):
        socket.create_connection((host, port), SECONDS_TO_ANSWER).close()


def open_experiment(benchmark: str, tags: Mapping[str, str] | None = None) -> tuple[MlflowClient, str]:
    """Open the tracking store and a benchmark's experiment, made if need be, with these tags if it lacks them.

    Creating an SQLite store is not safe from several processes at once: a lock beside the file keeps them apart.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    with _alone():
        client = open_client()
        name = experiment_of(client, benchmark)
        experiment = client.get_experiment_by_name(name) or _make_experiment(client, name)
        return client, _prepare(client, experiment, tags or {})


def make() -> None:
    """Make the tracking store if it is a file that is not there yet; a store that cannot be used is noticed now.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    with _alone():
        open_client()


def open_experiment_of(run_id: str, tags: Mapping[str, str]) -> tuple[MlflowClient, str]:
    """Open the tracking store and the experiment that holds a run, with these tags if it lacks them.

    Raises:
        BenchmarkError: the store cannot be used, or does not have the run.
    """
    with _alone():
        client = open_client()
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
        return client, _prepare(client, experiment, tags)


@contextmanager
def _alone() -> Iterator[None]:
    """Open a store while no other process of this machine makes it, with its errors in a sentence."""
    uri, database = get_tracking_uri(), file()
    warn_of(uri)
    with readable_errors():
        if database is None:
            yield
            return
        database.parent.mkdir(parents=True, exist_ok=True)
        with making(database):
            if sharing.database() == database and not database.exists():
                _make_empty(uri)
            yield


def _make_empty(uri: str) -> None:
    """Make an SQLite store without a place for the artifacts of MLflow's experiment "Default", which nothing uses.

    MLflow writes the place into SQL as text, which fails in a folder with a quote in its name.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # takes a second to import

    SqlAlchemyStore(uri, "file:///unused")  # type: ignore[no-untyped-call]


def experiment_of(client: MlflowClient, benchmark: str) -> str:
    """Name the experiment of a benchmark: its own name, unless the user chose another.

    The choice is `--experiment`, MLflow's variable for it, or that of `mlflow run --experiment-name`.
    """
    if chosen := os.environ.get(EXPERIMENT_NAME):
        return chosen
    launched_in = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = str(client.get_experiment(launched_in).name) if launched_in else DEFAULT_EXPERIMENT
    return benchmark if name == DEFAULT_EXPERIMENT else name


@contextmanager
def choosing(name: str) -> Iterator[None]:
    """Choose the experiment of a command, by the variable that MLflow's own commands take; an empty text for none."""
    if not name:
        yield
        return
    before = os.environ.get(EXPERIMENT_NAME)
    os.environ[EXPERIMENT_NAME] = name
    try:
        yield
    finally:
        os.environ.pop(EXPERIMENT_NAME) if before is None else os.environ.update({EXPERIMENT_NAME: before})


@contextmanager
def choosing_that_of(run_id: str, benchmark: str) -> Iterator[None]:
    """Choose the experiment that holds a run, unless it is the benchmark's own.

    Raises:
        BenchmarkError: the store cannot be used, or does not have the run.
    """
    client, number = open_experiment_of(run_id, {})
    with readable_errors():
        name = str(client.get_experiment(number).name)
    with choosing("" if name == benchmark else name):
        yield


def experiment_id(benchmark: str) -> str | None:
    """Find the id of a benchmark's experiment, for links; None where the store does not tell."""
    try:
        with readable_errors():
            client = open_client()
            found = client.get_experiment_by_name(experiment_of(client, benchmark))
    except BenchmarkError:
        return None
    return str(found.experiment_id) if found else None


def making(database: Path) -> FileLock:
    """Keep other processes of this machine from making this SQLite file; the kernel ends the lock with the process."""
    return FileLock(f"{database}.lock")


def _prepare(client: MlflowClient, experiment: Experiment, tags: Mapping[str, str]) -> str:
    """Give an experiment the tags that it lacks; return its id."""
    require_active(experiment)
    for key, value in tags.items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def require_active(experiment: Experiment) -> None:
    """Make sure that an experiment has not been deleted: MLflow hides its runs then.

    Raises:
        BenchmarkError: it was.
    """
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise BenchmarkError(
            f"experiment {experiment.name!r} of tracking store {shown_uri()} was deleted; restore it with `mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}`, or choose another with --experiment"
        )


def _make_experiment(client: MlflowClient, name: str) -> Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, sharing.artifacts_of(name)))
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another process may have made it meanwhile
        if found is None:
            raise
        return found
