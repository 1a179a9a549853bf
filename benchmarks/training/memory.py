"""Memory of a process and of its GPU: peaks, and samples over time.

Two measures, because neither tells all:

- `reset_peak` and `peak_mb`: the peak as the kernel or the CUDA allocator counted it; exact, of this process alone.
- `Sampler`: memory over time, ten times a second or more, as NVML and the kernel see it, other processes on the GPU
  included: this number tells whether a training fits.

`kills` counts the processes that the kernel has killed for want of memory: nothing else tells why one was killed.
"""

from __future__ import annotations

import contextlib
import csv
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import psutil

from benchmarks.clock import REAL
from benchmarks.training.control_groups import OWN, ROOT, memory_groups

if TYPE_CHECKING:
    import torch

MIB = 2**20
CONTEXT_BYTES = 768 * MIB
"""Memory of a GPU that a process takes beside its tensors: context, kernels, handles of libraries."""
INTERVAL = 0.05
"""Seconds between samples: twenty a second."""


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of resident memory


def peak_mb(device: torch.device) -> float:
    """Return the peak since `reset_peak`, MiB: tensors allocated on a GPU, else resident memory of this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / MIB
    return host_peak_mb()


def gpu_bytes(device: torch.device) -> int | None:
    """Return the memory of a GPU that this process may take, bytes: its share of all; None for the CPU."""
    if device.type != "cuda":
        return None
    import torch

    whole = torch.cuda.get_device_properties(device).total_memory
    return int(whole * torch.cuda.get_per_process_memory_fraction(device))


def take_share(device: torch.device, processes: int) -> None:
    """Limit this process to its share of a GPU's memory, so that it runs out of memory before another process does.

    Args:
        device: the GPU, or the CPU, which is left as it is.
        processes: that share the GPU, at least 1.
    """
    if device.type != "cuda" or processes == 1:
        return
    import torch

    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(share_bytes(whole, processes) / whole, device)


def share_bytes(gpu_bytes: int, processes: int) -> int:
    """Return the bytes of tensors that each of the processes on a GPU may have; its CUDA context takes some beside."""
    return max(0, gpu_bytes // processes - (CONTEXT_BYTES if processes > 1 else 0))


def host_peak_mb() -> float:
    """Return the peak of resident memory since this process's start or `reset_peak` of a CPU, MiB."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 2**10


def kills(root: Path = ROOT, process: Path = OWN, machine: Path = Path("/proc/vmstat")) -> int:
    """Count the processes that the kernel has killed for want of memory, ever.

    Args:
        root: the tree of control groups.
        process: the file that names this process's groups. Its own group counts, so that other jobs' and containers'
            kills do not; one that cannot be read leaves the machine's count.
        machine: the file with the machine's count.
    """
    for group in (folder for folders in memory_groups(process, root) for folder in (folders[0], folders[-1])):
        for name in ("memory.events", "memory.oom_control"):
            if (count := _number_after("oom_kill", group / name)) is not None:
                return count
    return _number_after("oom_kill", machine) or 0


def _number_after(word: str, path: Path) -> int | None:
    """Return the number in the line of a file that begins with a word; None if there is none, or no file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{word} ")), None)


@dataclass(frozen=True)
class MemorySample:
    """Memory at one moment, MiB.

    Attributes:
        seconds: since the sampler's start.
        host_mb: resident memory of this process.
        gpu_mb: memory in use on the whole GPU, other processes' too; None without a GPU.
    """

    seconds: float
    host_mb: float
    gpu_mb: float | None


@dataclass(frozen=True)
class Summary:
    """Samples in short; the figures of a GPU are None without one."""

    num_samples: int
    seconds: float
    longest_gap_seconds: float
    host_peak_mb: float
    host_mean_mb: float
    gpu_peak_mb: float | None
    gpu_mean_mb: float | None
    gpu_min_mb: float | None


class Sampler:
    """Sampler of memory while a `with` block runs, from a thread of this process, with which it ends in any case.

    Args:
        path: a CSV file that gets each sample as it is taken; one that cannot be written ends the writing alone.
        device: a CUDA device whose memory is sampled too.
        interval: seconds between samples, above 0.

    Attributes:
        samples: in order of time; at least two after the block, one of its beginning and one of its end.
        fault: why the file is not whole; empty if it is.
    """

    def __init__(
        self, path: Path | None = None, device: torch.device | None = None, interval: float = INTERVAL
    ) -> None:
        self.samples: list[MemorySample] = []
        self.fault = ""
        self._path, self._device, self._interval = path, device, interval
        self._ended = threading.Event()
        self._open = ExitStack()
        self._write: Callable[[MemorySample], None] = lambda sample: None

    def __enter__(self) -> Sampler:
        self._gpu_mb = self._open.enter_context(_gpu_reader(self._device))
        self._process = psutil.Process()
        self._begin_file()
        self._began = REAL.now()
        self._take()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._take()
        with self._noting_faults():  # rows in the buffer are written now
            self._open.close()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return REAL.now() - self._began

    def summary(self, since: float = 0.0) -> Summary:
        """Compute the peaks of all samples, and mean and least of those since a moment, in seconds after the start."""
        late = [sample for sample in self.samples if sample.seconds >= since]
        host = [sample.host_mb for sample in late]
        gpu = _known(sample.gpu_mb for sample in late)
        return Summary(
            num_samples=len(self.samples),
            seconds=self.samples[-1].seconds,
            longest_gap_seconds=_longest_gap([sample.seconds for sample in self.samples]),
            host_peak_mb=max(sample.host_mb for sample in self.samples),
            host_mean_mb=sum(host) / len(host),
            gpu_peak_mb=max(_known(sample.gpu_mb for sample in self.samples), default=None),
            gpu_mean_mb=sum(gpu) / len(gpu) if gpu else None,
            gpu_min_mb=min(gpu) if gpu else None,
        )

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._take()

    def _take(self) -> None:
        sample = MemorySample(self.now, self._process.memory_info().rss / MIB, self._gpu_mb())
        self.samples.append(sample)
        with self._noting_faults():
            self._write(sample)

    def _begin_file(self) -> None:
        if self._path is None:
            return
        with self._noting_faults():
            file = self._open.enter_context(self._path.open("w", newline="", buffering=1))  # each line at once
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(MemorySample))
            self._write = lambda sample: _write_row(writer, sample)

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        """Let a full disk end the writing, and not the measuring."""
        try:
            yield
        except OSError as error:
            self.fault = self.fault or f"{self._path}: {error.strerror}"
            self._write = lambda sample: None


def _write_row(writer: csv.writer, sample: MemorySample) -> None:  # type: ignore[valid-type]  # a function to mypy
    writer.writerow("" if value is None else round(value, 4) for value in astuple(sample))  # type: ignore[attr-defined]


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _longest_gap(seconds: Sequence[float]) -> float:
    return max((after - before for before, after in pairwise(seconds)), default=0.0)


@contextmanager
def _gpu_reader(device: torch.device | None) -> Iterator[Callable[[], float | None]]:
    """Give a reader of the memory in use on a GPU, MiB; it reads None without a GPU, or if the driver does not tell."""
    if device is None or device.type != "cuda":
        yield lambda: None
        return
    import pynvml
    import torch

    def read() -> float | None:
        try:
            return float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) / MIB
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)  # an index is another where devices are hidden
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    except pynvml.NVMLError:
        yield lambda: None
        return
    try:
        yield read
    finally:
        pynvml.nvmlShutdown()
