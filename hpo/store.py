"""The MLflow tracking store: opened safely, its faults said in a sentence. Imports neither Ray nor torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient, get_tracking_uri
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.spec import BenchmarkError, first_line

SQLITE = "sqlite:///"


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn a store's errors into one sentence, and keep its start-up messages to itself.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise BenchmarkError(
            f"tracking store {get_tracking_uri()}: cannot be used ({first_line(error)}); "
            "set MLFLOW_TRACKING_URI, or unset it for an SQLite file in this folder"
        ) from None


def exists() -> bool:
    """Whether there is a store to read: an SQLite file may not have been made yet in a folder that is there."""
    uri = get_tracking_uri()
    database = Path(uri.removeprefix(SQLITE))
    return not uri.startswith(SQLITE) or database.exists() or not database.parent.is_dir()


def open_experiment(name: str, tags: Mapping[str, str] | None = None) -> tuple[MlflowClient, str]:
    """The tracking store and the id of an experiment in it, made if need be, with these tags if it lacks them.

    Creating an SQLite store is not safe from several processes at once: a lock beside the file keeps them apart.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    uri = get_tracking_uri()
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a trial, from a server
    with readable_errors():
        if not uri.startswith(SQLITE):
            return _open(name, tags or {})
        database = Path(uri.removeprefix(SQLITE))
        database.parent.mkdir(parents=True, exist_ok=True)
        with making(database):
            return _open(name, tags or {})


def making(database: Path) -> FileLock:
    """Keeps processes of one machine apart that may make this SQLite file; let go by the kernel whatever ends them."""
    return FileLock(f"{database}.lock")


def _open(name: str, tags: Mapping[str, str]) -> tuple[MlflowClient, str]:
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    experiment_id = str(found.experiment_id if found else client.create_experiment(name))
    there = found.tags if found else {}
    for key, value in tags.items():
        if key not in there:
            client.set_experiment_tag(experiment_id, key, value)
    return client, experiment_id
