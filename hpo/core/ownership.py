"""Origin of files: a file that could run code is read only if no other user can have written it.

A trial's checkpoint lies in its study's folder, `unfinished/<run id>/`, which is its owner's alone, and carries the
study's run as a mark. A checkpoint without the mark, or of another user, is refused before a byte of it is unpickled.
The others are read as weights alone, see `benchmarks.training.process`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from benchmarks.spec import BenchmarkError

MARK = "study"
"""File of a checkpoint with the run of the study that wrote it."""
PICKLED_BY_TUNE = "dict_checkpoint.pkl"
"""File of a checkpoint that Tune would unpickle; no trial of ours writes one."""


def require_own(paths: Iterable[Path]) -> None:
    """Make sure that these are this user's, and that no other user may write them.

    Raises:
        BenchmarkError: one is not.
    """
    for path in paths:
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BenchmarkError(
                f"{path} belongs to another user, or others may write it; it is not read, since it could run "
                "code of theirs. Resume as the user that began the study, or run it again"
            )


def mark(checkpoint: Path, home: Path) -> None:
    """Mark a checkpoint as one of the study whose folder is `home`."""
    (checkpoint / MARK).write_text(home.name)


def require_mark(checkpoint: Path, home: Path) -> None:
    """Make sure that a checkpoint was written by the study whose folder is `home`.

    Raises:
        BenchmarkError: it lies elsewhere, others may have written it, or it is of another study.
    """
    if home.resolve() not in checkpoint.resolve().parents:
        raise _foreign(checkpoint, f"it does not lie in {home}")
    require_own([home])
    for path in [checkpoint, *checkpoint.rglob("*")]:
        if path.is_symlink() or path.lstat().st_uid != os.getuid():
            raise _foreign(checkpoint, f"{path.name} is a link, or another user's")
    written_by = (checkpoint / MARK).read_text() if (checkpoint / MARK).is_file() else ""
    if written_by != home.name:
        raise _foreign(checkpoint, f"it was written by {f'study {written_by}' if written_by else 'no study'}")
    if (checkpoint / PICKLED_BY_TUNE).exists():
        raise _foreign(checkpoint, f"it holds {PICKLED_BY_TUNE}, which no trial writes")


def _foreign(checkpoint: Path, why: str) -> BenchmarkError:
    return BenchmarkError(f"checkpoint {checkpoint}: not read, since it is not this study's own: {why}")
