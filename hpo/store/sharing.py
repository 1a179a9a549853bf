"""One SQLite store that jobs on several nodes write to: one process at a time, by a lease file beside it.

SQLite on a cluster's shared file system does not keep writers on several nodes apart. So each access holds a lease,
and closes the file before it gives the lease up: a network file system then shows the next process all of it. A
process that dies holding the lease loses it after `LEASE_SECONDS`. Processes outside of jobs do not take it, as
before; SQLite's own locks hold between those of one node.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import SoftFileLease, Timeout

from benchmarks.spec import BenchmarkError

VARIABLE = "HPO_STORE_IN_TURNS"
"""Variable with the SQLite file that is shared, for this process and all that it starts."""
LEASE_SECONDS = 60.0
"""Seconds without a word of its holder after which a lease is another's; all processes must have the same."""
PATIENCE_SECONDS = 300.0
"""Seconds for which an access waits for its turn."""
SETTINGS = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
"""Settings of MLflow by which no connection outlives its access."""


@contextmanager
def shared(database: Path) -> Iterator[None]:
    """Take turns with other jobs at a store, in this process and all that it starts meanwhile.

    Args:
        database: the SQLite file, which is made if need be.

    Raises:
        BenchmarkError: the store cannot be made.
    """
    given = {VARIABLE: str(database.absolute()), **SETTINGS}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def database() -> Path | None:
    """Return the SQLite file that is shared; None if none is."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


@contextmanager
def turn() -> Iterator[None]:
    """Access the store in turn with other jobs, if it is shared; a thread that has its turn may ask again.

    Raises:
        BenchmarkError: another process holds the store for too long.
    """
    file = database()
    if file is None:
        yield
        return
    lease = _lease(f"{file}.lease", LEASE_SECONDS)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lease.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise BenchmarkError(
            f"{file} is held by another job for more than {PATIENCE_SECONDS:g} s; if none runs, delete {file}.lease"
        ) from None
    try:
        yield
    finally:
        lease.release()


@cache
def _lease(path: str, seconds: float) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=seconds)


def artifacts_of(experiment: str) -> str | None:
    """Return the folder for artifacts of a new experiment: beside the shared file; None for MLflow's own choice.

    Args:
        experiment: its name, which the folder has if it can be a file's name.
    """
    file = database()
    if file is None:
        return None
    name = "".join(letter if letter.isalnum() or letter in "_.-" else f"_{ord(letter):x}_" for letter in experiment)
    return str(file.parent / "mlruns" / (name if name.strip(".") else f"_{name}"))
