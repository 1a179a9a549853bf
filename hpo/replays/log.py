"""The log of a replay: its description, then a line per study as it ends, so that no kill loses a finished one."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from benchmarks.files import BenchmarkError
from hpo.analysis.replayed.study import ReplayedStudy, ReplayHeader
from hpo.analysis.replayed.table import Replay
from hpo.terminal.files import only_writer, unwritable


def read(path: Path, header: ReplayHeader) -> list[ReplayedStudy]:
    """Read the studies of a log, to which studies of this description are to be added; none if it is not there.

    Raises:
        BenchmarkError: it cannot be read, another line than the last is torn, or its studies are of another replay.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
    if not lines:
        return []
    try:
        before = ReplayHeader.model_validate_json(lines[0])
        studies = [ReplayedStudy.model_validate_json(line) for line in lines[1:]]
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
        raise BenchmarkError(f"{path}: no log of a replay ({fault}); delete it, or give another --output") from None
    require_same(path, before, header)
    return studies


def require_same(path: Path, before: ReplayHeader, header: ReplayHeader) -> None:
    """Make sure that studies of a file go together with those of another description.

    Raises:
        BenchmarkError: they do not.
    """
    if differs := before.differs_from(header):
        raise BenchmarkError(f"{path}: holds studies with {differs}; give another folder with --output")


def only_replay(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing to the same log.

    Raises:
        BenchmarkError: one does, or the folder cannot be written.
    """
    busy = f"{path}: another replay writes to it; wait, or give another --output"
    return only_writer(path.with_name(f".{path.stem}.lock"), str(path), busy)


class ReplayLog:
    """A log that is being written.

    Args:
        path: the file; a torn last line is cut off.
        replay: the content that it begins with; the description of one that is there is replaced.

    Raises:
        BenchmarkError: the disk does not take it.
    """

    def __init__(self, path: Path, replay: Replay) -> None:
        self._path = path
        text = "".join(f"{one.model_dump_json()}\n" for one in (replay.header, *replay.studies))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != text.encode():
                beside = path.with_name(f"{path.name}.new")
                beside.write_text(text)
                os.replace(beside, path)
        except OSError as error:
            raise unwritable(str(path), error) from None

    def add(self, study: ReplayedStudy) -> None:
        """Append a study.

        Raises:
            BenchmarkError: the disk does not take it.
        """
        try:
            with self._path.open("ab") as file:
                file.write(f"{study.model_dump_json()}\n".encode())
        except OSError as error:
            raise unwritable(str(self._path), error) from None
