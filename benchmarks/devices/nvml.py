"""The GPUs of this machine as the driver describes them, through NVML; imports no torch.

NVML lists every GPU in the order of the PCI bus, visible or not. A GPU in MIG mode computes by its slices alone, each
of which is a device of its own to CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.files import BenchmarkError

NO_GPU = (9, 12, 28)
"""NVML's errors where there is no driver (not loaded, no library) or no GPU: nothing is broken."""


@dataclass(frozen=True)
class Kind:
    """A kind of GPU, in whose hours a study counts.

    Attributes:
        name: see `Gpu`.
        compute_capability: major and minor; a driver that does not know a card yet may give several kinds one name.
    """

    name: str
    compute_capability: tuple[int, int]

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.name}, compute capability {major}.{minor}"


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one.

    Attributes:
        name: such as "NVIDIA H200"; of a slice, with its profile, such as "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
        uuid: begins with "GPU-", of a slice with "MIG-".
        compute_capability: major and minor.
        index: its number in the order of the PCI bus, as nvidia-smi counts; of a slice, its GPU's.
        is_slice: whether it is a slice of a GPU in MIG mode.
        in_mig_mode: whether it is a whole GPU in MIG mode, on which nothing runs but its slices.
        memory_bytes: its whole memory; 0 where the driver does not tell.
    """

    name: str
    uuid: str
    compute_capability: tuple[int, int]
    index: int = 0
    is_slice: bool = False
    in_mig_mode: bool = False
    memory_bytes: int = 0

    @property
    def kind(self) -> Kind:
        """Its kind; hours on GPUs of different kinds are not comparable."""
        return Kind(self.name, self.compute_capability)

    @property
    def id(self) -> str:
        """Its entry in CUDA_VISIBLE_DEVICES: the number of a GPU, the UUID of a slice, which has no number."""
        return self.uuid if self.is_slice else str(self.index)


@dataclass(frozen=True)
class Inventory:
    """GPUs and driver of a machine.

    Attributes:
        gpus: in the order of the PCI bus; a GPU in MIG mode is followed by its slices.
        driver: version of the driver, such as "580.65.06"; empty without one.
        cuda: the newest CUDA that the driver runs, major and minor; None where libcuda is not found.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] | None = None


def look() -> Inventory:
    """Describe this machine's GPUs; none without a driver.

    Raises:
        BenchmarkError: there is a driver, but it does not answer.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return Inventory(tuple(_gpus(pynvml)), str(pynvml.nvmlSystemGetDriverVersion()), _cuda(pynvml))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        if error.value in NO_GPU:
            return Inventory()
        raise BenchmarkError(
            f"the GPU driver says: {error}; run nvidia-smi and mend it (a new driver takes a restart of the machine or "
            "container), or train on CPU cores with CUDA_VISIBLE_DEVICES=''"
        ) from None


def _gpus(nvml: Any) -> Iterator[Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        name, uuid = str(nvml.nvmlDeviceGetName(handle)), str(nvml.nvmlDeviceGetUUID(handle))
        in_mig_mode = _is_sliced(nvml, handle)
        gpu = Gpu(name, uuid, (int(major), int(minor)), index, False, in_mig_mode, _memory_bytes(nvml, handle))
        yield gpu
        if gpu.in_mig_mode:
            yield from _slices(nvml, handle, gpu)


def _is_sliced(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # the card has no such mode
        return False
    return bool(current)


def _slices(nvml: Any, handle: Any, gpu: Gpu) -> Iterator[Gpu]:
    """Describe the slices of a GPU; their numbers have gaps."""
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:
            continue
        name, uuid = str(nvml.nvmlDeviceGetName(part)), str(nvml.nvmlDeviceGetUUID(part))
        size = _memory_bytes(nvml, part)
        yield replace(gpu, name=name, uuid=uuid, is_slice=True, in_mig_mode=False, memory_bytes=size)


def _memory_bytes(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # unified memory is the host's
        return 0


def _cuda(nvml: Any) -> tuple[int, int] | None:
    try:
        version = int(nvml.nvmlSystemGetCudaDriverVersion_v2())  # 12020 for 12.2
    except nvml.NVMLError:
        return None
    return version // 1000, version % 1000 // 10
