"""The log of a recording: JSON lines, each a session, a training or a choice, appended and brought to the disk.

A driver may be killed at any moment. A torn last line is left out when the log is read, and cut off before the next
one is written. The first line of each session names the benchmark's digest, so that no log mixes two benchmarks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from benchmarks.banks.training import BankSession, BankTraining
from benchmarks.files import BenchmarkError
from benchmarks.space import Config, Strict


class SessionLine(Strict):
    """Begin of a session."""

    kind: Literal["session"] = "session"
    name: str
    digest: str
    session: BankSession


class TrainingLine(Strict):
    """A training that has ended."""

    kind: Literal["training"] = "training"
    training: BankTraining


class DenseLine(Strict):
    """Configurations that were chosen where searchers go."""

    kind: Literal["dense"] = "dense"
    configs: tuple[Config, ...]


Line = SessionLine | TrainingLine | DenseLine
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


@dataclass
class Logged:
    """The content of a log.

    Attributes:
        digest: of the benchmark; empty for a log without a session.
        sessions: in order.
        trainings: in order of their ends.
        dense: configurations that were chosen where searchers go, in order.
    """

    digest: str = ""
    sessions: list[BankSession] = field(default_factory=list)
    trainings: list[BankTraining] = field(default_factory=list)
    dense: list[Config] = field(default_factory=list)


def read(path: Path) -> Logged:
    """Read a log; one that is not there is empty.

    Raises:
        BenchmarkError: it cannot be read, another line than the last is no line of a log, or it has two benchmarks.
    """
    logged = Logged()
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return logged
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
    for number, text in enumerate(lines, start=1):
        try:
            line = _LINE.validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
            raise BenchmarkError(f"{path}, line {number}: no line of a recording ({fault}); delete it") from None
        if isinstance(line, TrainingLine):
            logged.trainings.append(line.training)
            continue
        if isinstance(line, DenseLine):
            logged.dense.extend(line.configs)
            continue
        if logged.digest not in ("", line.digest):
            raise BenchmarkError(f"{path}, line {number}: another version of {line.name} was recorded into this log")
        logged.digest = line.digest
        logged.sessions.append(line.session)
    return logged


class RecordingLog:
    """A log that is being written.

    Args:
        path: the file; a torn last line is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._length = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0

    def add(self, line: Line) -> None:
        """Append a line, and bring it to the disk.

        Raises:
            BenchmarkError: the disk does not take it.
        """
        text = f"{line.model_dump_json()}\n".encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.ftruncate(descriptor, self._length)
                os.pwrite(descriptor, text, self._length)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise BenchmarkError(
                f"{self._path}: cannot be written ({error.strerror}); the recording ends here"
            ) from None
        self._length += len(text)
