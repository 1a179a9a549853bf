"""DeepSpeed's way to its checkpoint's files, led through the memory of the node.

DeepSpeed hands each file to an object, its checkpoint engine, that writes or reads it. Here is one that asks for memory
first, and writes to the disk where there is none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.training.checkpoint.keeper import Memory

BYTES_BESIDE_TENSORS = 2**20
IN_MEMORY = "/proc/"


class Writer:
    """A checkpoint engine of DeepSpeed's that puts files into memory.

    Args:
        inner: the engine's own, which does the rest.
        folder: of the checkpoint, on the disk.
        memory: of this node; None for the disk alone.
        left_out: names of weights that are not saved.
        needed: names of weights that a file with weights must have to be loaded.

    Attributes:
        sizes: bytes of each file that was saved, by its path within the folder.
    """

    def __init__(
        self,
        inner: Any,
        folder: Path,
        memory: Memory | None,
        left_out: Collection[str] = (),
        needed: Collection[str] = (),
    ) -> None:
        self._inner, self._folder, self._memory = inner, folder, memory
        self._left_out, self._needed = left_out, needed
        self.sizes: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        """Write a file into memory, or to the disk."""
        if self._left_out and isinstance(weights := state_dict.get("module"), Mapping):
            kept = {name: weight for name, weight in weights.items() if name not in self._left_out}
            state_dict = {**state_dict, "module": kept}
        name = str(Path(path).relative_to(self._folder))
        self.sizes[name] = self._save_to_memory(state_dict, name) or _save(state_dict, path)

    def _save_to_memory(self, state_dict: dict[str, Any], name: str) -> int:
        """Write a file into memory and return its bytes; 0 if there is no room."""
        if self._memory is None:
            return 0
        place = self._memory.open(self._folder, name, tensor_bytes(state_dict) + BYTES_BESIDE_TENSORS)
        if place is None:
            return 0
        try:
            size = _save(state_dict, place)
        except (OSError, RuntimeError):  # no memory after all, or the keeper's process lets no other look in
            self._memory.discard(self._folder, name)
            return 0
        self._memory.close(self._folder, name)
        return size

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read a file. One in memory is mapped, not copied: the trials that continue from it share its bytes.

        Raises:
            RuntimeError: it lacks a weight.
        """
        import torch

        content = torch.load(path, map_location=map_location, weights_only=True, mmap=_is_in_memory(path))
        weights = content.get("module")
        if isinstance(weights, Mapping) and (lacking := set(self._needed) - set(weights)):
            raise RuntimeError(f"loading state_dict: {self._folder} lacks {min(lacking)}, which this trial trains")
        return content


def tensor_bytes(content: Any) -> int:
    """Count the bytes of all tensors in nested containers as a file will have them: each storage once, and whole."""
    import torch

    storages: dict[int, int] = {}
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return sum(storages.values())


@contextmanager
def written_by(engine: Any, writer: Writer) -> Iterator[None]:
    """Let a DeepSpeed engine save and load through a writer meanwhile."""
    own, engine.checkpoint_engine = engine.checkpoint_engine, writer
    try:
        yield
    finally:
        engine.checkpoint_engine = own


@contextmanager
def view(folder: Path, in_memory: Mapping[str, str]) -> Iterator[Path]:
    """Give a folder with all files of a checkpoint, wherever they are: links, for this rank, for this moment."""
    if not in_memory:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as name:
        linked = {str(path.relative_to(folder)): str(path) for path in folder.rglob("*") if path.is_file()}
        for file, place in {**linked, **in_memory}.items():
            link = Path(name, file)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(place)
        yield Path(name)


def _is_in_memory(path: str) -> bool:
    """Tell whether a path is a link to memory. Another file is not mapped: one of a shared disk may go meanwhile."""
    with suppress(OSError):
        return os.readlink(path).startswith(IN_MEMORY)
    return False


def _save(state_dict: dict[str, Any], path: str) -> int:
    import torch

    torch.save(state_dict, path)
    return Path(path).stat().st_size
