"""Tell whether the installed torch can train on a GPU, and the install line that would.

A build of torch has kernels for some architectures (`torch.cuda.get_arch_list()`) and belongs to one CUDA, which takes
a driver of at least a certain release. The build is read from torch's files, because importing torch takes seconds
that a driver process does not spend; a rank asks torch itself, see `benchmarks.devices.torch_device`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.devices.nvml import Gpu, Inventory
from benchmarks.files import BenchmarkError

CUDA_12_INDEX = "https://download.pytorch.org/whl/cu126"
"""PyTorch's own index with the builds for CUDA 12.6; the package index has those for CUDA 13 alone."""
ARCHITECTURES = {
    "12.6": ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
    "13": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
}
"""Architectures of torch 2.13's builds, by their CUDA or its major version, from pytorch's .ci/manywheel/build_cuda.sh.

PTX (`compute_120`) is taken to be there, so that a newer card is left to the rank.
"""
FIRST_OF_CUDA_13, FIRST_OF_CUDA_12 = (7, 5), (5, 0)
"""Least compute capability: Turing's for CUDA 13, Maxwell's for the builds for CUDA 12.6."""
LAST_OF_CUDA_12 = (9, 0)
"""Greatest compute capability of the builds for CUDA 12.6: Hopper's; later cards take CUDA 13."""
RELEASES = {12: "R525", 13: "R580"}
"""First release of the driver for each major version of CUDA; any later minor version runs on it too."""


@dataclass(frozen=True)
class TorchBuild:
    """A build of torch.

    Attributes:
        version: such as "2.13.0+cu126".
        cuda: version of the CUDA it was built with, such as "13.0"; None in a CPU build.
        architectures: as `torch.cuda.get_arch_list()` names them; empty where they are not known.
    """

    version: str
    cuda: str | None
    architectures: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """Version, CUDA and architectures in words."""
        if self.cuda is None:
            return f"torch {self.version}, which is built without CUDA,"
        kernels = f" with kernels for {', '.join(self.architectures)}" if self.architectures else ""
        return f"torch {self.version}, built for CUDA {self.cuda}{kernels},"


def installed() -> TorchBuild:
    """Read the build of the installed torch from its files, without importing it.

    Raises:
        BenchmarkError: torch is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise BenchmarkError("package torch is missing; install the pinned versions: pip install -r requirements.txt")
    text = Path(spec.origin).with_name("version.py").read_text()
    found = dict(re.findall(r"(?m)^(__version__|cuda)\b[^=\n]*= *['\"]([^'\"]+)['\"]", text))
    cuda = found.get("cuda")
    known = ARCHITECTURES.get(cuda or "", ARCHITECTURES.get((cuda or "").split(".")[0], ()))
    return TorchBuild(found.get("__version__", ""), cuda, known)


def fault_of(build: TorchBuild, gpus: Sequence[Gpu], inventory: Inventory) -> str:
    """Return a sentence if torch cannot train on these GPUs, with the remedy; else an empty text."""
    for gpu in gpus:
        if reason := _reason(build, gpu, inventory):
            return _sentence(build, gpu, inventory, reason)
    return ""


def _reason(build: TorchBuild, gpu: Gpu, inventory: Inventory) -> str:
    """Say why the GPU cannot be used; empty where it can."""
    if build.cuda is None:
        return "it takes a build for CUDA"
    if inventory.cuda is None:
        return "the driver's library for computing (libcuda) is not found"
    major = int(build.cuda.split(".")[0])
    if inventory.cuda[0] < major:
        return f"CUDA {major} takes a driver of {RELEASES.get(major, 'a later release')} or newer"
    if build.architectures and not has_kernels(build.architectures, gpu.compute_capability):
        return "it has no kernels for this card"
    return ""


def has_kernels(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Tell whether code for these architectures runs on a card.

    `sm_86` runs on cards of the same major version from 8.6 on; `sm_90a` on 9.0 alone; `compute_120` is translated for
    any card from 12.0 on.
    """
    for kind, major, minor, suffix in re.findall(r"\b(sm|compute)_(\d+)(\d)([a-z]?)\b", " ".join(architectures)):
        built = (int(major), int(minor))
        if built == capability or (suffix != "a" and built <= capability and kind == "compute"):
            return True
        if suffix != "a" and built[0] == capability[0] and built <= capability:
            return True
    return False


def _sentence(build: TorchBuild, gpu: Gpu, inventory: Inventory, reason: str) -> str:
    major, minor = gpu.compute_capability
    runs = f"CUDA {inventory.cuda[0]}.{inventory.cuda[1]}" if inventory.cuda else "no libcuda"
    card = f"{gpu.name} (compute capability {major}.{minor}, driver {inventory.driver or 'unknown'}: {runs})"
    return f"{build.described} cannot use {card}: {reason}; {_remedy(build, gpu, inventory)}"


def _remedy(build: TorchBuild, gpu: Gpu, inventory: Inventory) -> str:
    """Name the install line that would work, and the driver that it takes."""
    version, capability = build.version.split("+")[0], gpu.compute_capability
    if inventory.cuda is None:
        return (
            "let the job or container have the driver (apptainer exec --nv; docker run --gpus all with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
    if capability < FIRST_OF_CUDA_12:
        return f"no build of torch {version} has; take another card with CUDA_VISIBLE_DEVICES"
    takes_13 = capability > LAST_OF_CUDA_12
    takes_12 = capability < FIRST_OF_CUDA_13 or (inventory.cuda[0] < 13 and not takes_13)
    needed = 12 if takes_12 else 13
    line = f"pip uninstall -y torch && pip install torch=={version}"
    line += f" --index-url {CUDA_12_INDEX}" if takes_12 else ""
    update = f"update the driver to {RELEASES[needed]} or newer, then " if inventory.cuda[0] < needed else ""
    return f"{update}install a build that can: {line}"
