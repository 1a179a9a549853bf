"""Tracking stores of tests' own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest


def fresh_store(folder: Path) -> str:
    """The URI of an SQLite store in this folder: the one there is, or an empty one.

    MLflow makes a database by all migrations since its first version, more than a second of computing. Tests that are
    not about it begin with a copy.
    """
    database = folder / "mlflow.db"
    if not database.exists():
        folder.mkdir(parents=True, exist_ok=True)
        database.write_bytes(_empty())
    return f"sqlite:///{database}"


@cache
def _empty() -> bytes:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Run studies in a folder, with a store there; without a GPU, and without the run of `mlflow run`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)  # MLflow puts artifacts into mlruns/ of the working directory
        monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        yield
