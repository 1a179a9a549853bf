"""Warm ranks between studies: a Ray actor that owns them, lends them to trials and takes them back.

Ranks of a trial are found again by the model and data they have loaded and the places they run on. One pool serves all
studies of a Ray cluster, one after the other; its ranks end with it, and so do the keepers of checkpoints, see
`benchmarks.training.checkpoint.keeper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from benchmarks.devices.places import Place
from benchmarks.training.checkpoint.keeper import in_memory, start_keeper
from benchmarks.training.ranks import end_ranks, start_ranks

ANSWER_SECONDS = 0.2


@dataclass
class _Lease:
    """Ranks and their owner."""

    key: str
    places: tuple[Place, ...]
    actors: list[ActorHandle]
    owner: ActorHandle | None
    is_idle: bool = False


@ray.remote(num_cpus=0, max_restarts=-1)
class RankPool:
    """Lender of ranks.

    A pool that dies takes its ranks along; a trial then fails, is tried again, and finds a new pool.
    """

    def __init__(self) -> None:
        self._leases: dict[int, _Lease] = {}
        self._last = 0
        self._keepers: dict[str, ActorHandle] = {}

    def lease(
        self, key: str, places: Sequence[Place], threads: int, owner: ActorHandle | None
    ) -> tuple[int, list[ActorHandle], bool]:
        """Lend ranks on some places.

        Args:
            key: names the data and model that idle ranks must have loaded to be lent again.
            places: where they run, by rank.
            threads: CPU threads of each, if they have to be started.
            owner: the actor that will use them; if it dies, they are ended.

        Returns:
            a number for `give_back`, the processes by rank, and whether they are new: still to be joined.
        """
        for number, lease in self._leases.items():
            if lease.is_idle and lease.key == key and lease.places == tuple(places):
                lease.is_idle, lease.owner = False, owner
                return number, lease.actors, False
        self._end_those_in_the_way(places)
        self._last += 1
        self._leases[self._last] = _Lease(key, tuple(places), start_ranks(places, threads), owner)
        return self._last, self._leases[self._last].actors, True

    def give_back(self, number: int) -> None:
        """Take ranks back, to be lent again."""
        if number in self._leases:  # not after a restart of this pool
            self._leases[number].is_idle, self._leases[number].owner = True, None

    def discard(self, number: int) -> None:
        """End ranks that have failed."""
        if number in self._leases:
            end_ranks(self._leases.pop(number).actors)

    def reclaim(self) -> None:
        """End the ranks that a study has not given back: they belonged to trials that died."""
        for number in [number for number, lease in self._leases.items() if not lease.is_idle]:
            self.discard(number)

    def keepers(self, node_ids: Sequence[str]) -> dict[str, ActorHandle]:
        """Return the keeper of checkpoints of each node, started if there is none."""
        for node in node_ids:
            if node not in self._keepers:
                self._keepers[node] = start_keeper(node)
        return {node: self._keepers[node] for node in node_ids}

    def in_memory(self, folder: Path) -> set[str]:
        """List the files of a checkpoint that any keeper has in memory."""
        return set(in_memory(list(self._keepers.values()), folder))

    def _end_those_in_the_way(self, places: Sequence[Place]) -> None:
        """End idle ranks on the same devices, and ranks whose owner has died."""
        for number, lease in list(self._leases.items()):
            if set(lease.places) & set(places) and (lease.is_idle or _is_dead(lease.owner)):
                self.discard(number)


def _is_dead(owner: ActorHandle | None) -> bool:
    """Tell whether an actor is gone; a busy one does not answer in time, but lives."""
    if owner is None:
        return False
    answered, _ = ray.wait([owner.__ray_ready__.remote()], timeout=ANSWER_SECONDS)
    try:
        ray.get(answered)
    except RayActorError:
        return True
    return False
