"""The process on each node that keeps checkpoints in memory: it outlives the ranks that write and read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.clock import REAL
from benchmarks.files import BenchmarkError
from benchmarks.training.checkpoint.files import missing
from benchmarks.training.checkpoint.memory import CheckpointMemory

FIRST_SECONDS, SECONDS = 0.2, 10.0
"""Time to wait for a keeper that has never answered, since it may be starting, and for one that has."""
SECONDS_PER_LOOK = 0.02


class LostCheckpointError(BenchmarkError):
    """A checkpoint of which a file was in the memory of a node that has died."""


class Memory(Protocol):
    """Memory of a node as a rank uses it: a `CheckpointMemory`, or a keeper's behind Ray's mailbox."""

    def open(self, folder: Path, name: str, size: int) -> str | None:
        """See `CheckpointMemory.open`."""

    def close(self, folder: Path, name: str) -> None:
        """See `CheckpointMemory.close`."""

    def discard(self, folder: Path, name: str) -> None:
        """See `CheckpointMemory.discard`."""

    def paths(self, folder: Path) -> dict[str, str]:
        """See `CheckpointMemory.paths`."""


@ray.remote(num_cpus=0, max_restarts=-1)
class Keeper(CheckpointMemory):
    """Actor with the checkpoints of a node. One that dies loses what is not on the disk, and starts again empty."""


class Kept:
    """The memory of a keeper, for a rank; a keeper that has died keeps nothing.

    Args:
        keeper: of the rank's node.
        to_disk: whether files are to reach the disk too.
    """

    def __init__(self, keeper: ActorHandle, to_disk: bool = True) -> None:
        self._keeper, self._to_disk = keeper, to_disk

    def open(self, folder: Path, name: str, size: int) -> str | None:
        """See `CheckpointMemory.open`."""
        try:
            path: str | None = ray.get(self._keeper.open.remote(folder, name, size))
        except RayActorError:
            return None
        return path

    def close(self, folder: Path, name: str) -> None:
        """See `CheckpointMemory.close`.

        Raises:
            RayActorError: the keeper has died, and the file with it.
        """
        ray.get(self._keeper.close.remote(folder, name, self._to_disk))

    def discard(self, folder: Path, name: str) -> None:
        """See `CheckpointMemory.discard`; it may come late, or never if the keeper has died."""
        self._keeper.discard.remote(folder, name)

    def paths(self, folder: Path) -> dict[str, str]:
        """See `CheckpointMemory.paths`."""
        return in_memory([self._keeper], folder)


def start_keeper(node_id: str) -> ActorHandle:
    """Start the keeper of a node, owned by the caller: it ends with it."""
    on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
    keeper: ActorHandle = Keeper.options(scheduling_strategy=on_node).remote()  # type: ignore[attr-defined]
    return keeper


def in_memory(keepers: Sequence[ActorHandle], folder: Path) -> dict[str, str]:
    """Return the files of a checkpoint that these keepers have, by name; those that have died have none."""
    found: dict[str, str] = {}
    for asked in [keeper.paths.remote(folder) for keeper in keepers]:
        try:
            found |= ray.get(asked)
        except RayActorError:
            continue
    return found


class Keepers:
    """Keepers of the nodes of a trial, asked only once they have started.

    Args:
        pool: the `RankPool` that owns them.
        node_ids: Ray's id of each rank's node.
    """

    def __init__(self, pool: ActorHandle, node_ids: Sequence[str]) -> None:
        self._pool, self._node_ids = pool, node_ids
        self._by_node: dict[str, ActorHandle] = {}
        self._answered: set[str] = set()

    def by_rank(self) -> list[ActorHandle | None]:
        """Return the keeper of each rank; None for one that does not answer, so that the rank writes to the disk."""
        self._by_node = self._by_node or ray.get(self._pool.keepers.remote(self._node_ids))
        for node, keeper in self._by_node.items():
            timeout = SECONDS if node in self._answered else FIRST_SECONDS
            if ray.wait([keeper.__ray_ready__.remote()], timeout=timeout)[0]:
                self._answered.add(node)
            else:
                self._answered.discard(node)
        return [self._by_node[node] if node in self._answered else None for node in self._node_ids]

    def coming(self, folder: Path) -> set[str]:
        """List the files of a checkpoint that some node of the cluster has in its memory."""
        names: set[str] = ray.get(self._pool.in_memory.remote(folder))
        return names


def wait_for(folder: Path, keeper: ActorHandle | None, keepers: Keepers | None) -> None:
    """Wait until each file of a checkpoint is in a node's memory or on the disk.

    Args:
        folder: of the checkpoint.
        keeper: of that node; None for a node without one.
        keepers: know the files that other nodes have and will write.

    Raises:
        LostCheckpointError: a file is neither there nor coming.
    """
    here = in_memory([keeper], folder) if keeper and missing(folder) else {}
    while absent := missing(folder) - set(here):
        lost = absent - (keepers.coming(folder) if keepers else set())
        if lost := lost & missing(folder):  # one may have arrived meanwhile
            raise LostCheckpointError(
                f"checkpoint {folder}: {min(lost)} is lost, since its node died before the file had gone from memory "
                "to the disk; run this configuration again with `train`"
            )
        REAL.sleep(SECONDS_PER_LOOK)
