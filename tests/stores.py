"""Tracking stores of tests' own."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path


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
