"""HyperQueue's server and worker on this machine, and the tasks of a study; a process of `slurm.hq.study`.

    python -m slurm.hq.server FOLDER JOB WORKERS PER_TASK

Tasks get the words of their command as a list: no shell reads them.

The server takes a worker for lost if it hears nothing from it for a while, as after a pause of the whole machine; then
its tasks wait for ever, although the worker is a thread of the same process. So a new one is started.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.clock import REAL
from benchmarks.parent import end_with_parent
from hpo.core.wording import counted
from slurm import study_folder
from slurm.hq import isolation
from slurm.hq.task import LAST_ROUND
from slurm.processes import say
from slurm.study_folder import SubmittedStudy

SAID_EVERY_SECONDS = 10.0
IDLE_CALLS = 15
"""Seconds without a task's process, while tasks are left, after which the worker must be lost."""
STDOUT = 1


def main(words: Sequence[str]) -> int:
    """Train the trials of a study that have no result; return 0 if all have one then."""
    end_with_parent(signal.SIGKILL)
    isolation.enter()
    folder, job, workers, per_task = Path(words[0]), words[1], int(words[2]), int(words[3])
    submitted = SubmittedStudy.read(folder)
    missing = _missing(folder, submitted)
    with _started(folder, workers) as cluster:
        for number, size in ((1, per_task), (LAST_ROUND, 1)):
            before, failed = missing, _train(cluster, workers, folder, job, number, _shared_out(missing, size))
            missing = _missing(folder, submitted)
            if failed:
                say(f"{counted(len(failed), 'task')} failed: {failed[0]}")
            if not missing or missing == before:
                break  # no task has come as far as a trial: the second round would end alike
    return 1 if missing else 0


def _missing(folder: Path, submitted: SubmittedStudy) -> list[int]:
    done = study_folder.finished(folder)
    return [trial for trial in range(submitted.trials) if trial not in done]


def _shared_out(trials: Sequence[int], size: int) -> list[Sequence[int]]:
    """Share out trials to tasks of so many."""
    return [trials[start : start + size] for start in range(0, len(trials), size)]


@contextmanager
def _started(folder: Path, workers: int) -> Iterator[LocalCluster]:
    """Start the server and its worker; both end with the block."""
    with tempfile.TemporaryDirectory(prefix="server-") as directory:  # the path must be absolute, its mode is 0700
        with _stdout_into(folder / "hyperqueue.log"):
            cluster = LocalCluster(directory, WorkerConfig(cores=workers))
        with cluster:
            yield cluster


@contextmanager
def _stdout_into(path: Path) -> Iterator[None]:
    """Send all that is written to stdout, by libraries in Rust too, into a file."""
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    with path.open("a") as file:
        os.dup2(file.fileno(), STDOUT)
    try:
        yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


def _train(
    cluster: LocalCluster, workers: int, folder: Path, job: str, number: int, tasks: Sequence[Sequence[int]]
) -> list[str]:
    """Let tasks run to their ends; return a sentence for each that failed."""
    wanted = Job(max_fails=None, name=folder.name)
    logs = [folder / f"task-{job}-{number}-{place}.log" for place in range(len(tasks))]
    for trials, log in zip(tasks, logs, strict=True):
        words = [sys.executable, "-m", "slurm.hq.task", os.getcwd(), str(log), str(folder), job, str(number)]
        no_file: Any = None  # else HyperQueue makes two for each task
        wanted.program([*words, *map(str, trials)], cwd="/", stdout=no_file, stderr=no_file)
    client = cluster.client()
    submitted = client.submit(wanted)
    while True:
        try:
            has_failed = client.connection.wait_for_jobs([submitted.id], _Progress())
            break
        except _WorkerLost:
            say("HyperQueue has lost its worker, as after a pause of this machine; another one takes over")
            cluster.start_worker(WorkerConfig(cores=workers))
    if not has_failed:
        return []
    failed = client.get_failed_tasks(submitted)
    return [f"{context.error} {_last_line(logs[place])}".strip() for place, context in sorted(failed.items())]


class _WorkerLost(Exception):  # noqa: N818 - not an error: it is mended
    """Tasks wait, and no worker starts one."""


class _Progress:
    """Says now and then how many tasks have ended; HyperQueue's client calls it each second."""

    def __init__(self) -> None:
        self._said_at, self._idle_calls = REAL.now(), 0

    def __call__(self, jobs: Mapping[int, Mapping[str, Any]]) -> None:
        """Take in the numbers of tasks.

        Raises:
            _WorkerLost: for a while no task has had a process.
        """
        self._idle_calls = 0 if psutil.Process().children() else self._idle_calls + 1
        if self._idle_calls > IDLE_CALLS:
            raise _WorkerLost
        if REAL.now() - self._said_at < SAID_EVERY_SECONDS:
            return
        self._said_at = REAL.now()
        for counts in jobs.values():
            say(f"{counts['finished'] + counts['failed']} of {counts['total']} tasks have ended")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return f"It says: {said[-1]} (all of it: {log})" if said else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
