"""Files of checkpoints in the memory of a node, and their way from there to the disk.

A file is anonymous memory of the kernel (`memfd_create`), which any process of this user on the node can open by a path
while the process that has made it lives. So all ranks of a node share one copy, /dev/shm may be small, and no kill
leaves anything behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from benchmarks.clock import REAL
from benchmarks.training.checkpoint.free_memory import free_memory_bytes

MAX_MEMORY_SHARE = 0.5
"""Share of the memory that would be free without checkpoints that they may take; trials need the rest."""
BYTES_PER_COPY = 64 * 2**20
SECONDS_PER_TRY = 2.0
"""Time after which a file that could not be written is tried again: the disk may have room by then."""


@dataclass(eq=False)
class _KeptFile:
    """A file in memory.

    Attributes:
        folder: of its checkpoint, on the disk.
        name: its path within the folder.
        descriptor: of the memory.
        bytes: that it takes, or is expected to take.
        is_forgotten: it is not to be written any more.
    """

    folder: Path
    name: str
    descriptor: int
    bytes: int
    is_forgotten: bool = False

    @property
    def path(self) -> str:
        """The path by which other processes open it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"


class CheckpointMemory:
    """Files of checkpoints in this node's memory, written to the disk by a thread, in order.

    Args:
        max_share: of the memory that would be free without checkpoints; 0 keeps none.
        free_bytes: returns the bytes of memory that are free now.
    """

    def __init__(self, max_share: float = MAX_MEMORY_SHARE, free_bytes: Callable[[], int] = free_memory_bytes) -> None:
        self._max_share, self._free_bytes = max_share, free_bytes
        self._files: dict[tuple[Path, str], _KeptFile] = {}
        self._lock, self._queue = threading.RLock(), Queue[_KeptFile]()
        threading.Thread(target=self._write_forever, name="checkpoints", daemon=True).start()

    def limit(self, max_share: float) -> None:
        """Change the share of the memory for further files; 0 leaves them to the disk."""
        self._max_share = max_share

    @property
    def bytes(self) -> int:
        """Bytes of all files in memory."""
        with self._lock:
            return sum(file.bytes for file in self._files.values())

    def open(self, folder: Path, name: str, size: int) -> str | None:
        """Make a file in memory.

        Args:
            folder: of its checkpoint, on the disk.
            name: its path within the folder.
            size: bytes that it will take, about.

        Returns:
            The path to write it to, for a process of this user on this node; None if there is no room.
        """
        with self._lock:
            self._forget_deleted()
            if size > self._max_share * (self._free_bytes() + self.bytes) - self.bytes:
                return None
            try:
                descriptor = os.memfd_create(Path(name).name, os.MFD_CLOEXEC)
            except OSError:
                return None
            file = self._files[folder, name] = _KeptFile(folder, name, descriptor, size)
            return file.path

    def close(self, folder: Path, name: str, to_disk: bool = True) -> None:
        """Note that a file is written whole; bring it to the disk, unless its checkpoint lives for a moment only."""
        with self._lock:
            file = self._files.get((folder, name))
            if file is None:
                return
            file.bytes = os.fstat(file.descriptor).st_size
        if to_disk:
            self._queue.put(file)

    def discard(self, folder: Path, name: str) -> None:
        """Forget a file, such as one that could not be written."""
        with self._lock:
            file = self._files.pop((folder, name), None)
            if file is not None:
                file.is_forgotten = True
                os.close(file.descriptor)

    def paths(self, folder: Path) -> dict[str, str]:
        """Return the paths in memory of a checkpoint's files, by their path within its folder."""
        with self._lock:
            return {name: file.path for (of, name), file in self._files.items() if of == folder}

    def wait(self) -> None:
        """Wait until each file is on the disk or forgotten."""
        self._queue.join()

    def _forget_deleted(self) -> None:
        """Free the memory of checkpoints that the study has deleted from the disk."""
        for folder, name in [key for key in self._files if not key[0].is_dir()]:
            self.discard(folder, name)

    def _write_forever(self) -> None:
        while True:
            file = self._queue.get()
            while not self._try_to_write(file):
                REAL.sleep(SECONDS_PER_TRY)
            self._queue.task_done()

    def _try_to_write(self, file: _KeptFile) -> bool:
        """Write a file to the disk; False if it is to be tried again."""
        with self._lock:
            if file.is_forgotten:
                return True
            source = os.dup(file.descriptor)
        try:
            write_file(source, file.folder, file.name)
        except OSError:
            if file.folder.is_dir():
                return False
            self.discard(file.folder, file.name)
        finally:
            os.close(source)
        return True


def write_file(source: int, folder: Path, name: str) -> None:
    """Copy an open file into a checkpoint's folder, whole or not at all, and wait until the disk has it.

    The part lies beside the folder, which holds none but whole files.

    Raises:
        OSError: the folder is gone, or the disk is full.
    """
    part = folder.parent / f".{folder.name}-{name.replace('/', '-')}.part"
    try:
        with part.open("wb") as target:
            offset, size = 0, os.fstat(source).st_size
            while offset < size:
                offset += os.sendfile(target.fileno(), source, offset, BYTES_PER_COPY)
            os.fsync(target.fileno())
        os.replace(part, folder / name)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
