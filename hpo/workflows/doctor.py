"""Look at this machine for all that a study needs: `python -m hpo doctor`. `require` checks the least of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.devices.torch_device import require_gpu
from benchmarks.spec import BenchmarkError
from hpo.terminal.console import print_line
from hpo.workflows.preflight import INSTALL, TO_RUN, package_fault, python_fault

REQUIREMENTS = Path(__file__).parents[2] / "requirements-run.txt"
DISTRIBUTION = "hpo-llm-finetuning"


def require() -> None:
    """Refuse to start where a study could not run.

    Raises:
        BenchmarkError: the interpreter or a package; names the remedy.
    """
    fault = python_fault(sys.version_info[:2]) or package_fault(TO_RUN)
    if fault:
        raise BenchmarkError(fault)


def compiler_fault() -> str:
    """Return a sentence if there is no C++ compiler, else an empty text."""
    if shutil.which("g++") or shutil.which("c++"):
        return ""
    return "no C++ compiler; only ZeRO offload to the CPU needs it (DeepSpeed's CPU Adam): install g++"


def report(console: Console) -> int:
    """Print the whole state; returns 0 if a study could run, else 1."""
    faults = []
    for name, value, fault in _rows():
        print_line(console, f"{'LACKS' if fault else 'ok':5}  {name:22} {fault or value}")
        faults.append(fault if name != "compiler" else "")
    return 1 if any(faults) else 0


def _rows() -> list[tuple[str, str, str]]:
    """List name, value and fault of everything that is looked at."""
    rows = [("python", f"{platform.python_version()} on {platform.platform()}", python_fault(sys.version_info[:2]))]
    rows += [(name, *_version(name, pinned)) for name, pinned in pins().items()]
    rows.append(("compiler", shutil.which("g++") or shutil.which("c++") or "", compiler_fault()))
    if any(fault for _, _, fault in rows[:-1]):
        return rows
    return [*rows, *_device_rows(), _store_row()]


def pins() -> dict[str, str]:
    """Read the exact versions by package: of requirements-run.txt, or of the wheel that was made from it."""
    if REQUIREMENTS.is_file():
        lines = REQUIREMENTS.read_text().splitlines()
    else:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;#]+).*", line.strip()) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _version(name: str, pinned: str) -> tuple[str, str]:
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "", f"not installed; {INSTALL}"
    if installed.split("+")[0] != pinned:
        return installed, f"version {installed}, but {pinned} is pinned; {INSTALL}"
    return installed, ""


def _device_rows() -> list[tuple[str, str, str]]:
    import torch

    from hpo.cluster.ray import detect

    try:
        devices = detect()
    except BenchmarkError as error:
        return [("devices", "", str(error))]
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.accelerator import get_accelerator

    found = f"{devices.count} x {devices.gpu_name or 'CPU worker process'}, {devices.cpus} cores"
    fault = devices.fault or (fault_of_torch() if devices.visible else "")
    return [("devices", found, fault), ("deepspeed accelerator", get_accelerator().device_name(), "")]


def fault_of_torch() -> str:
    """Return a sentence if torch does not compute on this machine's GPU; it tries."""
    try:
        require_gpu(0)
    except BenchmarkError as error:
        return str(error)
    return ""


def _store_row() -> tuple[str, str, str]:
    from hpo.store import client as store

    uri, database = store.shown_uri(), store.file()
    if database is not None and not database.exists():
        writable = os.access(database.parent, os.W_OK)
        return (
            "tracking store",
            f"{uri} (made at the first run)",
            "" if writable else f"{database.parent} is not writable",
        )
    fault = store.fault()
    return "tracking store", uri, f"{uri} cannot be used: {fault}" if fault else ""
