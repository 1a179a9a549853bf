"""The list of a checkpoint's files, by which a reader knows whether all of them have reached the disk.

Each file reaches its name whole, and the list is written before anything points to the checkpoint. So a kill at any
time leaves a checkpoint that is whole, or one that is seen to lack files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.files import write_whole

LIST = "files.json"
"""File of a checkpoint with the bytes of each of its files by name. An earlier version wrote none, and whole ones."""


def write_list(folder: Path, sizes: Mapping[str, int]) -> None:
    """Write the list of a checkpoint's files.

    Args:
        folder: of the checkpoint.
        sizes: bytes of each file, by its path within the folder.
    """
    write_whole(folder / LIST, json.dumps(dict(sizes)))


def listed(folder: Path) -> dict[str, int]:
    """Read the list of a checkpoint's files; empty for a checkpoint without one."""
    try:
        content: dict[str, int] = json.loads((folder / LIST).read_text())
    except FileNotFoundError:
        return {}
    return content


def missing(folder: Path) -> set[str]:
    """List the files of a checkpoint that have not reached the disk."""
    return {name for name in listed(folder) if not (folder / name).is_file()}


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint can be read from the disk alone."""
    return folder.is_dir() and not missing(folder)
