"""Resources of a running study: memory, file descriptors, threads and processes by role, and bytes on disk.

Memory is the resident set (RSS). It holds libraries several times over where processes share them, which does not
matter to how it changes; and it holds the pages of Ray's object store that a process has touched, which the memory of
a process's own (USS) would leave out.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.clock import REAL

MB, BYTES_PER_BLOCK = 2**20, 512  # of st_blocks, on every file system
ROLES = ("driver", "rank", "worker", "raylet", "gcs_server", "agent")
"""Ray's workers are the trials' actors, the pool of ranks, and those that wait for work; it calls a trial's by its name
only while it has something to do. Its agents and monitors are the rest."""
AGENTS = ("agent", "monitor.py", "dashboard")


@dataclass
class Held:
    """Resources of all processes of a role.

    Attributes:
        memory_mb: resident memory.
        fds: open file descriptors.
        threads: threads.
        processes: their number.
    """

    memory_mb: float = 0.0
    fds: int = 0
    threads: int = 0
    processes: int = 0


@dataclass(frozen=True)
class StudySample:
    """One look at a study.

    Attributes:
        seconds: since the study was started.
        trials: number of ended trials.
        held: by role.
        disk_mb: by use.
    """

    seconds: float
    trials: int
    held: dict[str, Held]
    disk_mb: dict[str, float]


@dataclass
class StudyWatch:
    """Observer of a study from outside.

    Args:
        driver: the process of the study.
        database: its store's SQLite file, which holds nothing else.
        folders: paths to measure on disk, by name.

    Attributes:
        seen: every process that has been seen.
    """

    driver: psutil.Process
    database: Path
    folders: dict[str, list[Path]]
    seen: set[psutil.Process] = field(default_factory=set)
    _began: float = field(default_factory=REAL.now)

    def look(self) -> StudySample:
        """Take a sample of this moment."""
        held = {role: Held() for role in ROLES}
        for process in self._processes():
            with suppress(psutil.Error):  # it has ended meanwhile
                _add(held[self._role(process)], process)
        disk = {name: sum(map(size_mb, paths)) for name, paths in self.folders.items()}
        return StudySample(REAL.now() - self._began, ended_trials(self.database), held, disk)

    def survivors(self, seconds: float) -> list[psutil.Process]:
        """List processes of the study that live on so long after it."""
        _, alive = psutil.wait_procs(self.seen, timeout=seconds)
        return alive

    def _processes(self) -> list[psutil.Process]:
        try:
            found = [self.driver, *self.driver.children(recursive=True)]
        except psutil.Error:
            return []
        self.seen.update(found)
        return found

    def _role(self, process: psutil.Process) -> str:
        if process == self.driver:
            return "driver"
        command = process.cmdline()
        name = Path(command[0]).name if command else ""
        if name in ("raylet", "gcs_server"):
            return name
        if name.startswith("ray::_Rank"):
            return "rank"
        is_agent = any(agent in " ".join(command).lower() for agent in AGENTS)
        return "agent" if is_agent or not name.startswith(("ray::", "python")) else "worker"


def _add(held: Held, process: psutil.Process) -> None:
    with process.oneshot():
        memory_mb, fds, threads = process.memory_info().rss / MB, process.num_fds(), process.num_threads()
    held.memory_mb += memory_mb
    held.fds += fds
    held.threads += threads
    held.processes += 1


def ended_trials(database: Path) -> int:
    """Count trials of the only study in a store; 0 before there is one."""
    ended = (
        "select count(*) from runs join tags on tags.run_uuid = runs.run_uuid "
        "where tags.key = 'hpo.kind' and tags.value = 'trial' and runs.end_time is not null"
    )
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        try:
            return int(connection.execute(ended).fetchone()[0])
        finally:
            connection.close()
    return 0


def size_mb(path: Path) -> float:
    """Measure a file, or a folder with its content, on the disk; empty folders take their block."""
    within = [Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files)]
    return sum(map(_blocks, [path, *within])) * BYTES_PER_BLOCK / MB


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks
    except OSError:  # it is gone
        return 0
