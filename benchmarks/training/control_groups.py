"""Control groups of this process that limit memory: job schedulers and containers put it in one."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def memory_groups(groups: Path = OWN, root: Path = ROOT) -> list[list[Path]]:
    """List this process's memory group and its parents, of each version of control groups.

    Args:
        groups: the kernel's list of this process's groups.
        root: where the groups are mounted. Within a container, only the last parent may be there.

    Returns:
        Folders, from the group itself to the mount; empty if the list cannot be read.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or "memory" in controllers.split(","):
            base = root / "memory" if controllers else root
            inside = base / path.lstrip("/")
            found.append([inside, *(parent for parent in inside.parents if parent == base or base in parent.parents)])
    return found
