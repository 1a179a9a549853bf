"""Machines with GPUs as NVML would describe them, for tests without one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.devices import torch_build, torch_device
from benchmarks.devices.torch_build import ARCHITECTURES, TorchBuild
from hpo.cluster import devices

FAKE = Path(__file__).parent / "fake_nvml"
"""Folder to put first on PYTHONPATH of processes that are to see the machine in FAKE_NVML."""
CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_13 = TorchBuild("2.13.0+cu130", "13.0", ARCHITECTURES["13"])
CUDA_12 = TorchBuild("2.13.0+cu126", "12.6", ARCHITECTURES["12.6"])
R580, R535, R470 = ("580.65.06", (13, 0)), ("535.183.01", (12, 2)), ("470.82.01", (11, 4))


def gpu(number: int, name: str = "NVIDIA H100", capability: tuple[int, int] = (9, 0)) -> dict[str, Any]:
    """A whole GPU, whose UUID begins with its number."""
    return {"name": name, "uuid": f"GPU-{number}a7c-{number}", "capability": capability}


def sliced(number: int, *profiles: str, name: str = "NVIDIA A100") -> dict[str, Any]:
    """A GPU in MIG mode with slices of these profiles."""
    slices = [
        {"name": f"{name} MIG {profile}", "uuid": f"MIG-{number}{part}e-9"} for part, profile in enumerate(profiles)
    ]
    return {**gpu(number, name, (8, 0)), "slices": slices}


def machine(*gpus: dict[str, Any], driver: tuple[str, tuple[int, int] | None] = R580) -> str:
    """The machine as the fake NVML reads it."""
    return json.dumps({"driver": driver[0], "cuda": driver[1], "gpus": gpus})


def broken(error: int) -> str:
    """A machine whose NVML raises."""
    return json.dumps({"error": error})


def put_in(
    monkeypatch: pytest.MonkeyPatch, described: str, visible: str | None = None, build: TorchBuild | None = CUDA_13
) -> None:
    """Let this process see a machine.

    Args:
        monkeypatch: ends it.
        described: the machine.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
        build: of torch; None for the one that is installed.
    """
    spec = importlib.util.spec_from_file_location("pynvml", FAKE / "pynvml.py")
    assert spec is not None
    assert spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setenv("FAKE_NVML", described)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if build is not None:
        for user in (torch_build, torch_device, devices):  # two have it by name
            monkeypatch.setattr(user, "installed", lambda: build)
