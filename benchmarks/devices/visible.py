"""The GPUs that a process may use, by CUDA_VISIBLE_DEVICES: numbers, UUIDs, their beginnings, and MIG slices.

Numbers mean the order of the PCI bus, as in nvidia-smi and in Ray. CUDA alone would count the fastest GPU first, so
every process that trains gets `ORDER` too. CUDA ends the list in silence at an entry that it does not know; here such
a list is refused, since the trials would run on fewer GPUs, or on none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import takewhile

from benchmarks.devices.nvml import Gpu, Inventory, Kind, look
from benchmarks.files import BenchmarkError

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"
MAX_SHOWN = 120
"""Characters of a value that a message shows."""
ENDS = ("", "-1", "NoDevFiles")
"""Entries by which users and SLURM end the list: no GPU from here on."""


def look_at_visible(environment: Mapping[str, str] = os.environ) -> tuple[list[Gpu], Inventory]:
    """Return the visible GPUs of this machine, all of one kind, with the inventory that they were chosen from.

    Raises:
        BenchmarkError: the driver does not answer, the list names what is not there, or the GPUs differ.
    """
    _require_no_gap(environment.get(VISIBLE, ""))
    if environment.get(VISIBLE, "0").split(",")[0].strip() in ENDS:
        return [], Inventory()  # a broken driver is no fault of a training on CPU cores
    inventory = look()
    _require_one_order(inventory.gpus, environment)
    found = choose(inventory.gpus, environment.get(VISIBLE))
    require_one_kind(found)
    return found, inventory


def choose(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Choose the devices that CUDA_VISIBLE_DEVICES names; None chooses all.

    A GPU in MIG mode stands for its slices.

    Raises:
        BenchmarkError: an entry names no device here, or several; or one is named twice, or has no slice.
    """
    whole = [gpu for gpu in gpus if not gpu.is_slice]
    named = whole if visible is None or not gpus else [_named(entry, gpus, visible) for entry in _entries(visible)]
    chosen = [device for gpu in named for device in _devices(gpu, gpus)]
    for number, device in enumerate(chosen):
        if device in chosen[:number]:
            raise BenchmarkError(
                f"{VISIBLE} is {visible!r}, but names {_described(device)} twice, and CUDA finds no GPU then; name "
                "each once"
            )
    return chosen


def _entries(visible: str) -> list[str]:
    entries = [entry.strip() for entry in visible.split(",")]
    ends = [number for number, entry in enumerate(entries) if entry in ENDS]
    return entries[: ends[0]] if ends else entries


def _require_no_gap(visible: str) -> None:
    """Refuse an empty entry before a device, such as that of a variable that is not set."""
    entries = [entry.strip() for entry in visible.split(",")]
    listed = list(takewhile(lambda entry: entry not in ENDS[1:], entries))
    if "" in listed and any(listed[listed.index("") :]):
        raise BenchmarkError(
            f"{VISIBLE} is {_short(visible)}, but CUDA ends the list at its empty entry; remove that entry, or write -1"
        )


def _named(entry: str, gpus: Sequence[Gpu], visible: str) -> Gpu:
    """Find the device of one entry."""
    whole = [gpu for gpu in gpus if not gpu.is_slice]
    if entry.isdecimal():  # compared as text: there may be thousands of digits
        found = [gpu for gpu in whole if str(gpu.index) == (entry.lstrip("0") or "0")]
    else:
        found = [gpu for gpu in gpus if entry.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(entry)]
    if len(found) == 1:
        return found[0]
    fault = f"{_short(entry)} begins {len(found)} of them" if found else f"{_short(entry)} is none of them"
    raise BenchmarkError(
        f"{VISIBLE} is {_short(visible)}, but must name devices of this machine by number, UUID or its beginning, "
        f"and {fault}: {'; '.join(_described(gpu) for gpu in gpus)}"
    )


def _devices(gpu: Gpu, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the devices that a GPU is to CUDA: itself, or its slices."""
    if not gpu.in_mig_mode:
        return [gpu]
    slices = [other for other in gpus if other.is_slice and other.index == gpu.index]
    if not slices:
        raise BenchmarkError(
            f"{_described(gpu)} is in MIG mode and has no slice, so that nothing can run on it; make slices "
            f"(nvidia-smi mig), or leave it out of {VISIBLE}"
        )
    return slices


def require_one_kind(found: Sequence[Gpu]) -> None:
    """Refuse unlike GPUs: hours on them cannot be added up, and a trial would be as slow as the slower one.

    Raises:
        BenchmarkError: they differ; names a choice of like ones.
    """
    kinds: dict[Kind, list[str]] = {}
    for gpu in found:
        kinds.setdefault(gpu.kind, []).append(gpu.id)
    if len(kinds) < 2:
        return
    most = max(kinds.values(), key=len)
    told = "; ".join(f"{kind} ({', '.join(ids)})" for kind, ids in kinds.items())
    raise BenchmarkError(
        f"this machine has GPUs of {len(kinds)} kinds, whose hours cannot be added up: {told}; choose one kind, such "
        f"as with export {VISIBLE}={','.join(most)}"
    )


def _require_one_order(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> None:
    order = environment.get(ORDER) or BY_BUS
    if order != BY_BUS and len({gpu.index for gpu in gpus}) > 1:
        raise BenchmarkError(
            f"{ORDER} is {order}, but the driver and Ray count GPUs in the order of the bus, so that a number would "
            f"mean two GPUs; unset it, or set {BY_BUS}"
        )


def _short(value: str) -> str:
    return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}...")


def _described(gpu: Gpu) -> str:
    return f"{gpu.name} {gpu.uuid}" if gpu.is_slice else f"GPU {gpu.index} ({gpu.name}, {gpu.uuid})"
