"""Files for the user: written whole or not at all, and nowhere else, whatever links lie in the folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.files import write_whole
from benchmarks.spec import BenchmarkError


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write text files into a folder, which is made if need be; files of the same names are replaced.

    Args:
        folder: the folder.
        files: texts, by name without a folder.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise unwritable(f"output {folder}", error) from None
    return folder


def unwritable(output: str, error: OSError) -> BenchmarkError:
    """Return the error of an output that the disk does not take.

    Args:
        output: its name for people.
        error: the disk's.
    """
    return BenchmarkError(f"{output}: cannot be written ({error.strerror}); give another folder with --output")


@contextmanager
def only_writer(lock: Path, output: str, busy: str) -> Iterator[None]:
    """Keep other processes from writing the same output meanwhile.

    Args:
        lock: a file that is locked; its folder is made if need be.
        output: the output's name for people.
        busy: the error if another process has the lock.

    Raises:
        BenchmarkError: another process has it, or the folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise BenchmarkError(busy) from None
    except OSError as error:
        raise unwritable(output, error) from None
