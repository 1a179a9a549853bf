"""The devices of this machine and a study's share of them. Does not import torch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from benchmarks.check.device import settle_precision
from benchmarks.devices.nvml import Gpu
from benchmarks.devices.torch_build import fault_of, installed
from benchmarks.devices.visible import BY_BUS, ORDER, VISIBLE, look_at_visible
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.wording import counted

CPU = "cpu"
"""The accelerator of devices that are worker processes."""


@dataclass(frozen=True)
class Devices:
    """Devices that trials may occupy.

    Attributes:
        count: GPUs, or worker processes (one a CPU core) on a machine without.
        gpu_name: the GPU's name; None where devices are worker processes.
        cpus: CPU cores.
        cpus_per_device: on a cluster, the CPU cores that a device may have on every node; None on one machine, where
            trials share out the cores.
        compute_capability: of the least of the GPUs, major and minor; None without one.
        by_node: on a cluster, the devices of each node; empty on one machine.
        visible: the GPUs of one machine for CUDA_VISIBLE_DEVICES: numbers, or UUIDs of slices; empty without.
        are_slices: whether they are slices of GPUs (MIG).
        fault: the reason why nothing can be trained on the GPUs; empty if it can.
        memory_bytes: of the least of the GPUs; 0 without one, or where the driver does not tell.
    """

    count: int
    gpu_name: str | None
    cpus: int
    cpus_per_device: float | None = None
    compute_capability: tuple[int, int] | None = None
    by_node: tuple[int, ...] = ()
    visible: str = ""
    are_slices: bool = False
    fault: str = ""
    memory_bytes: int = 0

    @property
    def accelerator(self) -> str:
        """The tag by which costs are kept apart: hours on different accelerators are not comparable."""
        return self.gpu_name or CPU

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a process on this machine sees its GPUs, counted as driver and Ray count them.

        GPUs go by number, since DeepSpeed reads no UUID, and slices by UUID, since they have no number.
        """
        return {ORDER: BY_BUS, VISIBLE: self.visible} if self.visible else {}

    def holds_on_one_node(self, ranks_per_trial: int) -> bool:
        """Tell whether a trial fits one node."""
        return max(self.by_node, default=self.count) >= ranks_per_trial

    def trials_at_once(self, ranks_per_trial: int, on_one_node: bool, trials_per_gpu: int = 1) -> int:
        """Count the trials that fit.

        Args:
            ranks_per_trial: devices of a trial.
            on_one_node: whether a trial keeps to one node; devices that are left over on several nodes stay idle then.
            trials_per_gpu: trials that share a device.
        """
        parts = (self.by_node or (self.count,)) if on_one_node else (self.count,)
        return sum(devices * trials_per_gpu // ranks_per_trial for devices in parts)


@dataclass(frozen=True)
class Allotment:
    """The use of the devices by a study.

    Attributes:
        concurrency: trials at once.
        ranks_per_trial: ranks of one trial, a device each.
        cpus_per_rank: the share of the cores that one rank reserves; a fraction where they do not divide evenly.
        gpus_per_rank: 1, a share of one where trials share GPUs, or 0.
        on_one_node: whether a trial keeps to one node, as it does wherever one holds it.
        trials_per_gpu: trials that share a GPU.
        most_trials: trials at once that were asked for at most; None for as many as fit, on nodes that join later too.
    """

    concurrency: int
    ranks_per_trial: int
    cpus_per_rank: float
    gpus_per_rank: float
    on_one_node: bool = True
    trials_per_gpu: int = 1
    most_trials: int | None = None

    @property
    def devices_per_trial(self) -> float:
        """Devices that one trial occupies."""
        return self.ranks_per_trial / self.trials_per_gpu

    @property
    def devices(self) -> float:
        """Devices reserved by the study."""
        return self.concurrency * self.devices_per_trial

    def trials_on(self, devices: Devices) -> int:
        """Count the trials of this kind that may run on some devices at once."""
        fitting = devices.trials_at_once(self.ranks_per_trial, self.on_one_node, self.trials_per_gpu)
        return min(fitting, self.most_trials or fitting)


@dataclass(frozen=True)
class Placement:
    """The place of a study.

    Attributes:
        devices: that were found.
        allotment: their use by the study.
        benchmark: the study's, for its ranks: with the precision that "auto" means on the devices.
    """

    devices: Devices
    allotment: Allotment
    benchmark: Benchmark


def detect_here() -> Devices:
    """Find the GPUs that may be used (CUDA_VISIBLE_DEVICES is respected), else the CPU cores.

    Raises:
        BenchmarkError: the driver does not answer, CUDA_VISIBLE_DEVICES names what is not there, or the GPUs differ.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found, inventory = look_at_visible()
    if not found:
        return Devices(cpus, None, cpus)
    return Devices(
        len(found),
        found[0].name,
        cpus,
        compute_capability=min(gpu.compute_capability for gpu in found),
        visible=",".join(gpu.id for gpu in found),
        are_slices=found[0].is_slice,
        fault=fault_of(installed(), found, inventory),
        memory_bytes=min(gpu.memory_bytes for gpu in found),
    )


@dataclass(frozen=True)
class NodeGpus:
    """The visible GPUs of a node of a cluster.

    Attributes:
        gpus: in the order of CUDA_VISIBLE_DEVICES.
        fault: the reason why nothing can be trained on them; empty if it can.
        driver: version of the driver; empty without one.
    """

    gpus: tuple[Gpu, ...]
    fault: str = ""
    driver: str = ""


def look_at_node() -> NodeGpus:
    """Look at the GPUs that this node shows to Ray, and at its torch."""
    try:
        found, inventory = look_at_visible()
        return NodeGpus(tuple(found), fault_of(installed(), found, inventory), inventory.driver)
    except BenchmarkError as error:
        return NodeGpus((), str(error))


def place(benchmark: Benchmark, devices: Devices, concurrency: int | None = None) -> Placement:
    """Allot devices to a benchmark's trials, and check that they can train them, in its precision.

    Raises:
        BenchmarkError: a trial needs more devices than there are, or another precision than they have; or torch cannot
            use them.
    """
    allotment = allot(devices, benchmark.ranks_per_trial, concurrency, benchmark.trials_per_gpu)
    if benchmark.trial.trains_model:
        require_usable(devices, benchmark.ranks_per_trial)
    settled = settle_precision(benchmark, devices.gpu_name, devices.compute_capability)
    return Placement(devices, allotment, settled)


def fault_of_node(name: str, offered: int, seen: NodeGpus) -> str:
    """Say why trials could not train on the GPUs that a node of a cluster offers; empty if they can.

    Args:
        name: of the node.
        offered: GPUs that Ray has there for trials.
        seen: what the node says of itself.
    """
    if offered and seen.fault:
        return f"node {name}: {seen.fault}"
    if offered > len(seen.gpus):
        there = counted(len(seen.gpus), "visible GPU")
        return f"node {name} offers {offered} to Ray, but its driver has {there}; start Ray there with as many"
    return ""


def require_usable(devices: Devices, ranks: int = 1) -> None:
    """Refuse devices that torch cannot train on.

    Raises:
        BenchmarkError: the reason, and the next step.
    """
    if devices.fault:
        raise BenchmarkError(devices.fault)
    if devices.are_slices and ranks > 1:
        raise BenchmarkError(
            f"a trial has {ranks} ranks (ranks_per_trial), but the devices are slices of GPUs (MIG), and NCCL does not "
            "work between slices; set ranks_per_trial to 1, or let the GPUs be whole (nvidia-smi -mig 0)"
        )


def allot(devices: Devices, ranks_per_trial: int, concurrency: int | None = None, trials_per_gpu: int = 1) -> Allotment:
    """Allot devices to as many trials at once as fit, or to fewer if asked.

    On one machine the cores are shared out among the trials at once, which keeps Ray from starting another
    one. On a cluster no share does that, see `hpo.cluster.reservations`.

    Raises:
        BenchmarkError: a trial needs more devices than there are, or trials are to share GPUs and there are none.
    """
    if trials_per_gpu > 1 and devices.gpu_name is None:
        raise BenchmarkError(
            f"trials_per_gpu is {trials_per_gpu}, but there is no GPU here, and without one a trial has whole CPU cores"
            "; set trials_per_gpu to 1, or run where there are GPUs"
        )
    on_one_node = devices.holds_on_one_node(ranks_per_trial)
    at_once = devices.trials_at_once(ranks_per_trial, on_one_node, trials_per_gpu)
    if at_once < 1:
        kind = "GPU" if devices.gpu_name else "CPU core"
        where = "the cluster" if devices.cpus_per_device else "this machine"
        raise BenchmarkError(
            f"a trial needs {ranks_per_trial} devices (ranks_per_trial), but {where} has "
            f"{counted(devices.count, kind)}; lower ranks_per_trial or run on a larger machine"
        )
    at_once = min(at_once, concurrency or at_once)
    of_a_device = devices.cpus_per_device and devices.cpus_per_device / trials_per_gpu
    cpus_per_rank = _as_ray_counts(of_a_device or devices.cpus / (at_once * ranks_per_trial))
    gpus_per_rank = _as_ray_counts(1 / trials_per_gpu) if devices.gpu_name else 0
    return Allotment(at_once, ranks_per_trial, cpus_per_rank, gpus_per_rank, on_one_node, trials_per_gpu, concurrency)


def _as_ray_counts(share: float) -> float:
    """Round a share down to 1/10,000, in which Ray counts."""
    return math.floor(1e4 * share) / 1e4
