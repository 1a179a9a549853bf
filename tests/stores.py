"""Tracking stores of tests' own."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy import event
from sqlalchemy.engine import Engine

CACHE = Path(__file__).parent.parent / ".pytest_cache"
"""Folder of pytest's own, which git ignores."""


def fresh_store(folder: Path) -> str:
    """Return the URI of an SQLite store in this folder: the one there is, or an empty one.

    MLflow makes a database by all migrations since its first version: two seconds of computing. Tests that are not
    about it begin with a copy.
    """
    database = folder / "mlflow.db"
    if not database.exists():
        folder.mkdir(parents=True, exist_ok=True)
        database.write_bytes(empty_store().read_bytes())
    return f"sqlite:///{database}"


@cache
def empty_store() -> Path:
    """Return an empty SQLite store that this version of MLflow has made; once on a machine."""
    made = CACHE / f"new-store-of-mlflow-{version('mlflow')}.db"
    CACHE.mkdir(exist_ok=True)
    with FileLock(f"{made}.lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _make_store(Path(folder, "mlflow.db"))
                os.replace(Path(folder, "mlflow.db"), made)
    return made


def _make_store(database: Path) -> None:
    """Let MLflow make a store by its migrations, as the suite does: its first experiment names no folder."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{database}", "file:///unused").engine.dispose()


@contextmanager
def copying_empty_stores() -> Iterator[None]:
    """Make MLflow copy the empty store, within this process, where it would make another one."""
    from mlflow.store.db import utils

    template, make_tables = empty_store(), utils._initialize_tables

    def copy_tables(engine: Any) -> None:
        if engine.url.drivername != "sqlite" or not engine.url.database:
            make_tables(engine)
            return
        with closing(sqlite3.connect(template)) as source, engine.connect() as to:
            source.backup(to.connection.dbapi_connection)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(utils, "_initialize_tables", copy_tables)
        event.listen(Engine, "connect", _write_without_waiting)
        yield
        event.remove(Engine, "connect", _write_without_waiting)


def _write_without_waiting(connection: Any, _: object) -> None:
    """Spare tests SQLite's waiting for the disk, which only the loss of power makes necessary."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.DatabaseError):  # MLflow would take it for a database that is away, and try for long
            connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Run studies in a folder, with a store there; without a GPU, and without the run of `mlflow run`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)  # MLflow puts artifacts into mlruns/ of the working directory
        monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        yield
