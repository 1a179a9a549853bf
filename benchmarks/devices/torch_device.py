"""Prove in a rank's process that torch computes on its GPU; imports torch."""

from __future__ import annotations

from benchmarks.devices.torch_build import TorchBuild, fault_of, installed
from benchmarks.devices.visible import look_at_visible
from benchmarks.files import BenchmarkError, first_line


def require_gpu(local_rank: int) -> None:
    """Refuse to train where this process was given a GPU that torch cannot use; a CPU would train for days instead.

    Args:
        local_rank: index of the GPU among those that are visible here.

    Raises:
        BenchmarkError: torch has no such device, or does not compute on it.
    """
    import torch

    error = ""
    try:
        if torch.cuda.is_available():
            torch.ones(1, device=f"cuda:{local_rank}").add_(1).item()
            return
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as raised:
        error = first_line(raised)
    raise BenchmarkError(_explained(error))


def _explained(error: str) -> str:
    """Explain why torch cannot use the visible GPU, by the driver's facts, or else by torch's own words."""
    build = imported()
    gpus, inventory = look_at_visible()
    if gpus and (fault := fault_of(build, gpus, inventory)):
        return f"{fault} (torch says: {error})" if error else fault
    seen = ", ".join("{} {}.{}".format(gpu.name, *gpu.compute_capability) for gpu in gpus) or "no GPU"
    return (
        f"{build.described} finds no GPU that it can use, but this rank was given one ({error or 'none is available'}; "
        f"driver {inventory.driver or 'none'}, which lists {seen}); run nvidia-smi and python -m hpo doctor there"
    )


def imported() -> TorchBuild:
    """Return the build of torch as torch itself describes it; it lists architectures only where it finds a GPU."""
    import torch

    architectures = tuple(torch.cuda.get_arch_list()) or installed().architectures
    return TorchBuild(torch.__version__, torch.version.cuda, architectures)
