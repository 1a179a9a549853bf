"""Memory that this process may still take: of the machine, and of the control group that a job scheduler puts it in."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import psutil

from benchmarks.training.control_groups import OWN, ROOT, memory_groups

LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Names of limit, usage and reclaimable page cache, in version 2 and version 1 of control groups."""


def free_memory_bytes(groups: Path = OWN, root: Path = ROOT) -> int:
    """Return the bytes that are free on this machine, or in this process's control groups if they leave less.

    Args:
        groups: the kernel's list of this process's groups.
        root: where the groups are mounted.
    """
    free = [psutil.virtual_memory().available]
    for folder in chain.from_iterable(memory_groups(groups, root)):  # each has a limit of its own
        free += [left for names in LIMITS if (left := _left(folder, *names)) is not None]
    return max(0, min(free))


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return the bytes that a group leaves; None for one without a limit."""
    try:
        most = (folder / limit).read_text().strip()
        if most == "max":
            return None
        used = int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(most) - used + int(statistics.get(cache, 0))
    except (OSError, ValueError):
        return None
