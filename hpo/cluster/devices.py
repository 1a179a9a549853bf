"""The devices of this machine. Asks the driver library and the operating system; does not import torch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from benchmarks.check.device import check_device
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
    """

    count: int
    gpu_name: str | None
    cpus: int
    cpus_per_device: float | None = None
    compute_capability: tuple[int, int] | None = None
    by_node: tuple[int, ...] = ()

    @property
    def accelerator(self) -> str:
        """The tag by which costs are kept apart: hours on different accelerators are not comparable."""
        return self.gpu_name or CPU

    def holds_on_one_node(self, ranks_per_trial: int) -> bool:
        """Tell whether a trial fits one node."""
        return max(self.by_node, default=self.count) >= ranks_per_trial

    def trials_at_once(self, ranks_per_trial: int, on_one_node: bool) -> int:
        """Count the trials that fit.

        Args:
            ranks_per_trial: devices of a trial.
            on_one_node: whether a trial keeps to one node; devices that are left over on several nodes stay idle then.
        """
        parts = (self.by_node or (self.count,)) if on_one_node else (self.count,)
        return sum(devices // ranks_per_trial for devices in parts)


@dataclass(frozen=True)
class Allotment:
    """The use of the devices by a study.

    Attributes:
        concurrency: trials at once.
        ranks_per_trial: devices of one trial.
        cpus_per_rank: the share of the cores that one rank reserves; a fraction where they do not divide evenly.
        gpus_per_rank: 1 or 0.
        on_one_node: whether a trial keeps to one node, as it does wherever one holds it.
    """

    concurrency: int
    ranks_per_trial: int
    cpus_per_rank: float
    gpus_per_rank: int
    on_one_node: bool = True

    @property
    def devices(self) -> int:
        """Devices reserved by the study."""
        return self.concurrency * self.ranks_per_trial


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it.

    Attributes:
        name: such as "NVIDIA H200".
        uuid: begins with "GPU-".
        compute_capability: major and minor.
    """

    name: str
    uuid: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """The place of a study.

    Attributes:
        devices: that were found.
        allotment: their use by the study.
    """

    devices: Devices
    allotment: Allotment


def detect_here() -> Devices:
    """Find the GPUs that may be used (CUDA_VISIBLE_DEVICES is respected), else the CPU cores."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = visible_gpus(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not found:
        return Devices(cpus, None, cpus)
    return Devices(len(found), found[0].name, cpus, compute_capability=min(gpu.compute_capability for gpu in found))


def visible_gpus(found: list[Gpu], visible: str | None) -> list[Gpu]:
    """Choose the GPUs that CUDA_VISIBLE_DEVICES leaves; None leaves all.

    As CUDA does, it stops at the first entry that is no device. A part of a GPU (MIG) is taken to be of the first kind,
    and so is a UUID that no GPU here has.
    """
    if visible is None or not found:
        return found
    chosen = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdigit() and int(entry) < len(found):
            chosen.append(found[int(entry)])
        elif entry.startswith(("GPU-", "MIG-")):
            chosen.append(next((gpu for gpu in found if gpu.uuid.startswith(entry)), found[0]))
        else:
            break
    return chosen


def gpus() -> list[Gpu]:
    """Describe this machine's GPUs, visible or not."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or one that is too old
        return []
    try:
        return [_describe(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _describe(handle: Any) -> Gpu:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return Gpu(str(name), str(uuid), (int(major), int(minor)))


def place(benchmark: Benchmark, devices: Devices, concurrency: int | None = None) -> Placement:
    """Allot devices to a benchmark's trials, and check that they can compute in its precision.

    Raises:
        BenchmarkError: a trial needs more devices than there are, or another precision than they have.
    """
    allotment = allot(devices, benchmark.ranks_per_trial, concurrency)
    check_device(benchmark, devices.gpu_name, devices.compute_capability)
    return Placement(devices, allotment)


def allot(devices: Devices, ranks_per_trial: int, concurrency: int | None = None) -> Allotment:
    """Allot devices to as many trials at once as fit, or to fewer if asked.

    On one machine the cores are shared out among the trials at once, which keeps Ray from starting another
    one. On a cluster no share does that, see `cluster.Cluster.holding`.

    Raises:
        BenchmarkError: a trial needs more devices than there are.
    """
    on_one_node = devices.holds_on_one_node(ranks_per_trial)
    at_once = devices.trials_at_once(ranks_per_trial, on_one_node)
    if at_once < 1:
        kind = "GPU" if devices.gpu_name else "CPU core"
        where = "the cluster" if devices.cpus_per_device else "this machine"
        raise BenchmarkError(
            f"a trial needs {ranks_per_trial} devices (ranks_per_trial), but {where} has "
            f"{counted(devices.count, kind)}; lower ranks_per_trial or run on a larger machine"
        )
    at_once = min(at_once, concurrency or at_once)
    share = devices.cpus_per_device or devices.cpus / (at_once * ranks_per_trial)
    cpus_per_rank = math.floor(1e4 * share) / 1e4  # Ray counts in 1/10,000
    return Allotment(at_once, ranks_per_trial, cpus_per_rank, 1 if devices.gpu_name else 0, on_one_node)
