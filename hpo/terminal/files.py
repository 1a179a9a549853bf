"""Files for the user: written whole or not at all, and nowhere else, whatever links lie in the folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
        raise BenchmarkError(
            f"output {folder}: cannot be written ({error.strerror}); give another folder with --output"
        ) from None
    return folder
