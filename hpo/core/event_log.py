"""A study's log of events on disk: JSON lines, one file per study, only ever appended to.

A line counts once its end is on disk. The last line of a process that was killed may be torn: it is left out when the
log is read, and cut off before the next line is written. Every number reads back as the very same number. Numbers that
JSON lacks are written as {"float": "nan"}, {"float": "inf"} and {"float": "-inf"}.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.files import BenchmarkError, first_line
from hpo.core.events import KINDS, Event

FILE = "events.jsonl"
"""Name of the log in a study's folder, and among its artifacts."""
KIND = "event"
"""Key of a line that names the kind of its event."""
MODE = 0o600
"""Permissions of a new log: errors in it may quote the user's data."""


# ---- lines


def line_of(event: Event) -> str:
    """Return an event as strict JSON in one line, without the line's end."""
    return json.dumps({KIND: type(event).__name__.lower(), **_plain(event)}, allow_nan=False)


def event_of(line: str) -> Event:
    """Return the event of a line.

    Raises:
        BenchmarkError: the line is no event as this version writes them.
    """
    try:
        content = json.loads(line, object_hook=_float_if_one, parse_constant=_refuse)
        kind = content.pop(KIND)
        if kind not in KINDS:
            raise BenchmarkError(f"event is {kind!r}, but must be one of {', '.join(KINDS)}")
        event: Event = _adapter(kind).validate_python(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise BenchmarkError(f"{where} of event {kind} cannot be used: {fault['msg']}") from None
    except BenchmarkError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BenchmarkError(f"no event in JSON ({type(error).__name__}: {first_line(error)})") from None
    return event


def text_of(events: Iterable[Event]) -> str:
    """Return events as the text of a log."""
    return "".join(f"{line_of(event)}\n" for event in events)


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[kind])


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(of) for of in value]
    if hasattr(value, "item"):  # a searcher may propose numpy's numbers
        value = value.item()
    return {"float": repr(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _float_if_one(found: dict[str, Any]) -> Any:
    return float(found["float"]) if found.keys() == {"float"} else found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


# ---- the file


def read(path: Path) -> tuple[list[Event], str]:
    """Read a log.

    Returns:
        Its events, and a sentence on a torn last line that was left out; empty if there is none.

    Raises:
        BenchmarkError: the file cannot be read, or another line than the last is no event.
    """
    try:
        whole, _, torn = path.read_bytes().rpartition(b"\n")
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
    return _events_of(whole + b"\n" if whole else b"", path), _torn(path, len(torn))


def _torn(path: Path, number: int) -> str:
    """Tell of a last line that is torn after a number of bytes; empty for none."""
    lost = f"{path}: its last line is torn ({number} bytes) and left out; the driver was killed while writing it"
    return lost if number else ""


def _events_of(text: bytes, path: Path) -> list[Event]:
    events = []
    for number, line in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            events.append(event_of(line.decode()))
        except (BenchmarkError, UnicodeDecodeError) as error:
            raise BenchmarkError(
                f"{path}, line {number}: {error}; read it with the version that wrote it, or run the study again"
            ) from None
    return events


def append(path: Path, event: Event) -> None:
    """Append an event to a log, and bring it to the disk: for processes that write to one log in turn.

    Raises:
        OSError: the disk does not take it.
    """
    log = EventLog(path)
    log.add(event)
    log.sync()


class EventLog:
    """A log that is being written.

    Events wait in memory until `sync`. Those that the disk does not take wait for the next one.

    Args:
        path: the file; a torn last line is cut off.

    Attributes:
        torn: a sentence on that line, if there was one; else empty.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._waiting = path, b""
        self._length = _whole_bytes(path)
        self.torn = _torn(path, path.stat().st_size - self._length) if path.exists() else ""

    @property
    def length(self) -> int:
        """Length of the log in bytes, waiting events included."""
        return self._length + len(self._waiting)

    def add(self, event: Event) -> None:
        """Append an event."""
        self._waiting += f"{line_of(event)}\n".encode()

    def sync(self) -> None:
        """Bring all events to the disk: they survive this process, and the machine.

        Raises:
            OSError: the disk does not take them.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, MODE)
        try:
            if os.fstat(descriptor).st_size < self._length:  # it would be filled up with zeros
                raise OSError(errno.ESTALE, f"{FILE} was deleted or cut meanwhile")
            os.ftruncate(descriptor, self._length)  # off a torn line
            os.lseek(descriptor, self._length, os.SEEK_SET)
            while self._waiting:
                written = os.write(descriptor, self._waiting)
                self._length, self._waiting = self._length + written, self._waiting[written:]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def cut(self, length: int) -> None:
        """Drop the events after the first `length` bytes: a study resumes from an earlier snapshot.

        Raises:
            BenchmarkError: the log is shorter.
        """
        if length > self.length:
            raise BenchmarkError(
                f"{self._path}: has {self.length} bytes, but the study's snapshot was taken at {length}; run it again"
            )
        kept = self._bytes()[:length]
        self._length = min(length, self._length)  # the file follows with the next `sync`
        self._waiting = kept[self._length :]

    def text(self) -> str:
        """Return the whole log, waiting events included."""
        return self._bytes().decode()

    def events(self) -> list[Event]:
        """Return all events, waiting ones included.

        Raises:
            BenchmarkError: a line is no event.
        """
        return _events_of(self._bytes(), self._path)

    def _bytes(self) -> bytes:
        written = self._path.read_bytes()[: self._length] if self._path.exists() else b""
        return written + self._waiting


def _whole_bytes(path: Path) -> int:
    """Return the number of bytes up to the end of the last whole line; 0 without a file."""
    try:
        return path.read_bytes().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0
