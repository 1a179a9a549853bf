"""A stand-in for NVML's Python module. FAKE_NVML holds the machine as JSON, see `tests.benchmarks.devices.machines`."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND = 3, 6
TEXTS = {3: "Not Supported", 6: "Not Found", 9: "Driver Not Loaded", 12: "NVML Shared Library Not Found"}
TEXTS |= {18: "Driver/library version mismatch", 999: "Unknown Error"}


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(TEXTS.get(value, f"error {value}"))
        self.value = value


def _machine() -> Any:
    return json.loads(os.environ.get("FAKE_NVML", '{"error": 12}'))


def nvmlInit() -> None:
    if error := _machine().get("error"):
        raise NVMLError(error)


def nvmlShutdown() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return str(_machine()["driver"])


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    if (cuda := _machine()["cuda"]) is None:
        raise NVMLError(12)
    return 1000 * int(cuda[0]) + 10 * int(cuda[1])


def nvmlDeviceGetCount() -> int:
    return len(_machine()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> Any:
    return _machine()["gpus"][index]


def nvmlDeviceGetName(handle: Any) -> str:
    return str(handle["name"])


def nvmlDeviceGetUUID(handle: Any) -> str:
    return str(handle["uuid"])


def nvmlDeviceGetCudaComputeCapability(handle: Any) -> tuple[int, int]:
    return tuple(handle["capability"])


def nvmlDeviceGetMigMode(handle: Any) -> tuple[int, int]:
    if handle.get("slices") is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return 1, 1


def nvmlDeviceGetMaxMigDeviceCount(handle: Any) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: Any, number: int) -> Any:
    if number % 2 or number // 2 >= len(handle["slices"]):  # numbers have gaps
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return handle["slices"][number // 2]


def nvmlDeviceGetMemoryInfo(handle: Any) -> Any:
    total = handle.get("memory", 80 << 30)
    return SimpleNamespace(used=1 << 30, free=total - (1 << 30), total=total)
