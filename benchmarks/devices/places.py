"""The nodes and GPUs that Ray has reserved for the ranks of a trial, by the names that CUDA and DeepSpeed read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.util.placement_group import PlacementGroup, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from benchmarks.devices.nvml import look
from benchmarks.devices.visible import choose
from benchmarks.files import BenchmarkError


@dataclass(frozen=True)
class Place:
    """Node and devices of a rank.

    Attributes:
        node_id: Ray's id of the node.
        devices: the GPU, as CUDA_VISIBLE_DEVICES has it: its number, or a slice's UUID; empty without one.
    """

    node_id: str
    devices: str = ""


def find_places(ranks: int, gpus_per_rank: float = 0, group: PlacementGroup | None = None) -> list[Place]:
    """Find the places that a placement group with one bundle per rank has reserved; without a group, this node."""
    if group is None:
        return [Place(ray.get_runtime_context().get_node_id())] * ranks
    if gpus_per_rank == 0:
        nodes = placement_group_table(group)["bundles_to_node_id"]
        return [Place(nodes[bundle]) for bundle in range(ranks)]
    probe = ray.remote(num_cpus=0)(_where_am_i)
    probes = [
        probe.options(num_gpus=gpus_per_rank, scheduling_strategy=_in_bundle(group, bundle)).remote()
        for bundle in range(ranks)
    ]
    return [Place(*found) for found in ray.get(probes)]


def devices_by_node(places: Sequence[Place]) -> dict[str, str]:
    """Write CUDA_VISIBLE_DEVICES for each node: the devices of all its ranks, in order of rank.

    Ray shows each actor its own GPU only; local rank 1 would then not exist, and ranks could not reach each
    other's memory directly.
    """
    by_node: dict[str, list[str]] = {}
    for place in places:
        by_node.setdefault(place.node_id, []).extend(d for d in place.devices.split(",") if d)
    return {node: ",".join(devices) for node, devices in by_node.items()}


def _where_am_i() -> tuple[str, str]:
    """Return the node and GPU of a bundle: only a task inside it is told.

    The variable CUDA_VISIBLE_DEVICES does not tell where RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is set.

    Raises:
        BenchmarkError: Ray names no GPU, or one that is not here.
    """
    context = ray.get_runtime_context()
    ids = [str(name) for name in context.get_accelerator_ids().get("GPU", [])]
    if not ids:
        raise BenchmarkError("Ray has reserved a GPU and names none; start Ray on this node with its GPUs visible")
    return context.get_node_id(), ",".join(_as_numbers(ids))


def _as_numbers(ids: list[str]) -> list[str]:
    """Write GPUs that are named by UUID as numbers: DeepSpeed's ZeRO 1 and 2 read no other names."""
    if all(name.isdecimal() for name in ids):
        return ids
    return [gpu.id for gpu in choose(look().gpus, ",".join(ids))] or ids


def _in_bundle(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
