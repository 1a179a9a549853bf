"""Room for a study's trials: on a shared GPU, and on the disk that gets their checkpoints."""

from __future__ import annotations

from benchmarks.check.room import require_room
from benchmarks.check.share import require_share
from hpo.cluster.devices import Placement


def require_room_for(placement: Placement, method: str, paused: int) -> None:
    """Refuse trials that do not fit their share of a GPU, or whose checkpoints do not fit the disk.

    Args:
        placement: of the study.
        method: the name of its method.
        paused: trials that may wait with a checkpoint each; 0 leaves the disk unchecked.

    Raises:
        BenchmarkError: memory or disk do not do.
    """
    devices, benchmark = placement.devices, placement.benchmark
    require_share(benchmark, devices.accelerator, devices.memory_bytes)
    if paused:
        at_once = paused + placement.allotment.concurrency
        require_room(benchmark, at_once, method, devices.compute_capability)
