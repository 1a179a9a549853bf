"""The nodes of a Ray cluster: each is asked for its GPUs, driver and torch before a trial begins there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.devices.nvml import Kind
from benchmarks.devices.visible import VISIBLE
from benchmarks.spec import BenchmarkError, first_line
from hpo.cluster.devices import Devices, NodeGpus, fault_of_node, look_at_node
from hpo.core.wording import some_of

T = TypeVar("T")
ANSWER_SECONDS = 120.0
"""Time in which a node answers: a process of Ray's starts there, and the driver of many GPUs takes seconds."""
MAX_NAMED = 3
"""Nodes that a message names for each kind of GPU."""
Node = Mapping[str, Any]
"""A node as Ray describes it."""


def living() -> list[Node]:
    """List the living nodes of the cluster that can train."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def ask(nodes: Sequence[Node], question: Callable[..., T], *arguments: object) -> list[T]:
    """Call a function on nodes of the cluster; return their answers in order.

    Raises:
        BenchmarkError: a node does not answer, or cannot.
    """
    asked = [_asked(node["NodeID"], question, *arguments) for node in nodes]
    answers = list[T]()
    for node, task in zip(nodes, asked, strict=True):
        try:
            answers.append(ray.get(task, timeout=ANSWER_SECONDS))
        except RayError as error:
            raise BenchmarkError(_unanswered(name_of(node), error)) from None
    return answers


def _asked(node_id: str, question: Callable[..., T], *arguments: object) -> Any:
    probe = ray.remote(num_cpus=0)(question)
    return probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, False)).remote(*arguments)


def _unanswered(name: str, error: RayError) -> str:
    if isinstance(error, GetTimeoutError):
        return f"node {name} has not answered for {ANSWER_SECONDS:g} s; look at `ray status`, and end Ray there"
    cause = error.cause if isinstance(error, RayTaskError) else error
    reason = f"{type(cause).__name__}: {first_line(cause)}"
    return f"node {name} cannot be asked for its devices ({reason}); nodes need the Python environment of the driver"


def name_of(node: Node) -> str:
    """Return the name by which a user knows a node."""
    return str(node["NodeManagerHostname"])


def offered(node: Node, kind: str = "GPU") -> int:
    """Return the number of devices that a node has for trials."""
    return int(node["Resources"].get(kind, 0))


def used(nodes: Sequence[Node]) -> Sequence[Node]:
    """Return the nodes that trials may land on: those with GPUs, if any has some."""
    return [node for node in nodes if offered(node)] or nodes


def devices_of(nodes: Sequence[Node]) -> Devices:
    """Return the devices of some nodes. If any offers GPUs, each that does is asked for them.

    Raises:
        BenchmarkError: GPUs of different kinds, whose hours could not be added up; or a node that does not answer.
    """
    cpus, shares = [int(node["Resources"]["CPU"]) for node in nodes], [offered(node) for node in nodes]
    if not any(shares):
        return Devices(sum(cpus), None, sum(cpus), cpus_per_device=1.0, by_node=tuple(cpus))
    with_gpus = used(nodes)
    names, seen = [name_of(node) for node in with_gpus], ask(with_gpus, look_from_ray)
    found = [gpu for node in seen for gpu in node.gpus]
    _require_one_kind(names, seen)
    _tell_of_drivers(names, seen)
    return Devices(
        sum(shares),
        found[0].name if found else "GPU",
        sum(cpus),
        min(cpu / share for cpu, share in zip(cpus, shares, strict=True) if share),
        found[0].compute_capability if found else None,
        tuple(shares),
        are_slices=any(gpu.is_slice for gpu in found),
        fault=next(filter(None, map(fault_of_node, names, filter(None, shares), seen)), ""),
        memory_bytes=min((gpu.memory_bytes for gpu in found), default=0),
    )


def look_from_ray() -> NodeGpus:
    """Look at this node's GPUs as a task of Ray's, which gives trials the devices that CUDA_VISIBLE_DEVICES names.

    Without names Ray gives numbers, and slices of a GPU have none: several trials would find the same one, or none.
    """
    seen = look_at_node()
    entries = os.environ.get(VISIBLE, "").split(",")
    if any(gpu.is_slice for gpu in seen.gpus) and not all(entry.strip().startswith("MIG-") for entry in entries):
        names = ",".join(gpu.uuid for gpu in seen.gpus)
        fault = f"its GPUs are slices (MIG), which Ray numbers unless they are named; start Ray with {VISIBLE}={names}"
        return replace(seen, fault=seen.fault or fault)
    return seen


def _require_one_kind(names: Sequence[str], seen: Sequence[NodeGpus]) -> None:
    """Refuse nodes with unlike GPUs."""
    kinds = _by_property(names, [{str(gpu.kind) for gpu in node.gpus} for node in seen])
    if len(kinds) > 1:
        raise BenchmarkError(
            f"the cluster has GPUs of {len(kinds)} kinds, whose hours cannot be added up: {'; '.join(kinds)}; end Ray "
            "on all nodes but those of one kind (`ray stop`), or ask SLURM for one kind, such as with --constraint"
        )


def _tell_of_drivers(names: Sequence[str], seen: Sequence[NodeGpus]) -> None:
    """Print a warning if nodes have different drivers, each of which may do."""
    drivers = _by_property(names, [{node.driver} - {""} for node in seen])
    if len(drivers) > 1:
        told = "; ".join(drivers)
        _warn(f"warning: nodes of the cluster have different GPU drivers, so that times may differ: {told}")


def _by_property(names: Sequence[str], properties: Sequence[set[str]]) -> list[str]:
    """List the properties of nodes in order, each with the nodes that have it, such as "580.65 (n1, n2)"."""
    return [
        f"{each} ({some_of([name for name, own in zip(names, properties, strict=True) if each in own], MAX_NAMED)})"
        for each in sorted(set[str]().union(*properties))
    ]


@cache
def _warn(text: str) -> None:
    """Print a warning, once: devices are looked up more than once."""
    print(text, file=sys.stderr)


class Newcomers:
    """Judge of nodes that join the cluster while a study runs, in whose hours the study counts.

    Args:
        devices: of the study.
        folder: in which the ranks of trials keep their checkpoints; None if it need not be seen.

    Attributes:
        kind: Ray's name of the devices.
    """

    def __init__(self, devices: Devices, folder: Path | None = None) -> None:
        self._devices, self._folder = devices, folder
        self.kind = "GPU" if devices.gpu_name else "CPU"
        self._asked, self._faults = dict[str, Any](), dict[str, str]()

    def wait_for(self, nodes: Sequence[Node]) -> None:
        """Wait for the answers of nodes that are there as the study begins."""
        for node in nodes:
            self._is_fit(node["NodeID"])
        asked = list(self._asked.values())
        ray.wait(asked, num_returns=len(asked), timeout=ANSWER_SECONDS)
        self.are_fit(node["NodeID"] for node in nodes)

    @property
    def faults(self) -> list[str]:
        """A sentence about each node on which no trial of the study begins."""
        return list(filter(None, self._faults.values()))

    def are_fit(self, node_ids: Iterable[str]) -> bool | None:
        """Tell whether trials may begin on all of these nodes; None until each of them has answered."""
        verdicts = [self._is_fit(node_id) for node_id in set(node_ids)]
        return False if False in verdicts else None if None in verdicts else True

    def unfit(self, node_ids: Iterable[str]) -> list[str]:
        """List the nodes among these on which no trial may begin."""
        return [node_id for node_id in node_ids if self._faults.get(node_id)]

    def present(self, nodes: Sequence[Node]) -> Devices:
        """Return the study's devices, in number those of the nodes that are known to be fit by now."""
        by_node = tuple(offered(node, self.kind) for node in nodes if self._is_fit(node["NodeID"]))
        return replace(self._devices, count=sum(by_node), by_node=by_node)

    def _is_fit(self, node_id: str) -> bool | None:
        if node_id not in self._faults:
            self._hear(node_id)
        return not self._faults[node_id] if node_id in self._faults else None

    def _hear(self, node_id: str) -> None:
        """Ask a node, and note its answer once it has come."""
        if node_id not in self._asked:
            self._asked[node_id] = _asked(node_id, _look_late, self.kind, self._folder)
        if not ray.wait([self._asked[node_id]], timeout=0)[0]:
            return
        node = next((node for node in living() if node["NodeID"] == node_id), None)
        answer = self._asked.pop(node_id)
        if node is not None:  # else it has died meanwhile
            self._faults[node_id] = self._judge(node, answer)

    def _judge(self, node: Node, answer: Any) -> str:
        try:
            seen, sees_folder = ray.get(answer)
        except RayError as error:
            return _unanswered(name_of(node), error)
        if not sees_folder:
            return (
                f"node {name_of(node)} has joined, but cannot see {self._folder}, where the ranks of a trial keep its "
                "checkpoints; no trial begins there"
            )
        return fault_of_newcomer(self._devices, node, seen)


def _look_late(kind: str, folder: Path | None) -> tuple[NodeGpus, bool]:
    """Look at this node's GPUs, if the study has GPUs, and for the study's folder."""
    return look_from_ray() if kind == "GPU" else NodeGpus(()), folder is None or folder.is_dir()


def fault_of_newcomer(devices: Devices, node: Node, seen: NodeGpus) -> str:
    """Say why no trial begins on a node that has joined; empty if trials may.

    Args:
        devices: of the study.
        node: as Ray describes it.
        seen: what the node says of itself.
    """
    if devices.gpu_name is None:
        return ""
    began = Kind(devices.gpu_name or "", devices.compute_capability or (0, 0))
    others = [gpu.kind for gpu in seen.gpus if gpu.kind != began]
    if devices.compute_capability and others and offered(node):
        return (
            f"node {name_of(node)} has joined with {others[0]}, but the study counts hours of {began}; no trial "
            "begins there. End Ray on that node (`ray stop`), or use it for another study"
        )
    if devices.fault:  # which a study that trains no model takes as it is
        return ""
    fault = fault_of_node(name_of(node), offered(node), seen)
    return f"{fault}. No trial begins on that node" if fault else ""
