"""Reads from the tracking store that survive a short fault: repeated with a limit, and never quietly given up.

MLflow's own repeats are switched off (see `client.SETTINGS`), since it would also repeat writes. Reads change nothing,
so they may be repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError, first_line
from hpo.store import client as store

WAITS_SECONDS = (0.3, 1.0, 3.0)
"""Pauses between the attempts of a read; after the last attempt its error is final."""
PASSING_CODES = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})
"""MLflow's codes of a server that may answer later, among them those of HTTP 429, 500, 502, 503 and 504."""
NO_SERVER = ("NewConnectionError", "NameResolutionError", "Failed to establish a new connection")
"""Words of an error that no repeat cures: nothing listens at the address, or the address does not exist."""

T = TypeVar("T")


@dataclass(frozen=True)
class StoredFiles:
    """Artifacts of a run, as texts.

    Attributes:
        texts: by name; a file that the run does not have is missing here.
        faults: reasons why a file could not be read, by name.
    """

    texts: Mapping[str, str] = field(repr=False)
    faults: Mapping[str, str]


def retried(read: Callable[[], T]) -> T:
    """Call a function that reads, and call it again after a fault that may pass; at most four attempts."""
    for wait in WAITS_SECONDS:
        try:
            return read()
        except Exception as error:  # each artifact repository (HTTP, S3, ...) raises errors of its own
            if not may_pass(error):
                raise
            REAL.sleep(wait)
    return read()


def may_pass(error: Exception) -> bool:
    """Tell whether the same read may work a moment later."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status == 429 or status >= 500
    if isinstance(error, MlflowException):
        return error.error_code in PASSING_CODES and not any(words in str(error) for words in NO_SERVER)
    return not isinstance(error, FileNotFoundError | PermissionError | UnicodeError | ImportError | ValueError)


def read_files(run: Run, names: Sequence[str]) -> StoredFiles:
    """Read text artifacts of a run; those that it does not have are left out, and faults are told by name."""
    local = Path(run.info.artifact_uri.removeprefix("file://"))
    if local.is_absolute():  # MLflow would ask its database for the way first
        return _collect(names, lambda name: (local / name).read_text(encoding="utf-8"))
    try:
        there = retried(lambda: [file.path for file in store.open_client().list_artifacts(run.info.run_id)])
    except Exception as error:
        return StoredFiles({}, dict.fromkeys(names, _reason(error)))
    wanted = [name for name in names if name in there]
    return _collect(wanted, lambda name: retried(lambda: mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}")))


def read_content(run: Run, name: str) -> bytes:
    """Read an artifact of a run, whatever it holds.

    Raises:
        BenchmarkError: the run does not have it, or the store cannot be used.
    """
    local = Path(run.info.artifact_uri.removeprefix("file://"))
    try:
        if local.is_absolute():
            return (local / name).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            uri = f"{run.info.artifact_uri}/{name}"
            return Path(retried(lambda: mlflow.artifacts.download_artifacts(uri, dst_path=folder))).read_bytes()
    except Exception as error:  # each artifact repository raises errors of its own
        raise BenchmarkError(
            f"run {run.info.run_id}: {name} cannot be read ({_reason(error)}); restore it, or leave the run out for "
            f"good: mlflow runs delete --run-id {run.info.run_id}"
        ) from None


def _collect(names: Sequence[str], read: Callable[[str], str]) -> StoredFiles:
    texts, faults = {}, {}
    for name in names:
        try:
            texts[name] = read(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Exception as error:
            faults[name] = _reason(error)
    return StoredFiles(texts, faults)


def _reason(error: Exception) -> str:
    return store.shown(first_line(error))
