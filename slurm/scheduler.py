"""SLURM's own commands: sbatch, squeue, scancel, scontrol. Their refusals are passed on in their words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import REAL, Clock
from benchmarks.spec import BenchmarkError

GONE = "GONE"
"""State of a job that SLURM has forgotten; not one of its own words."""
ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL", GONE),
}
"""States that a job does not leave (https://slurm.schedmd.com/squeue.html#lbAG)."""
ANSWER_SECONDS = 60
DEFAULT_MAX_ARRAY_SIZE = 1001
"""https://slurm.schedmd.com/slurm.conf.html#OPT_MaxArraySize."""
SQUEUE_SECONDS = 10.0
"""The least time between two calls of squeue in a wait: slurmctld answers all users of a cluster, one by one."""
MAX_SQUEUE_SECONDS = 60.0
"""The time between two calls where jobs have waited in the queue for long."""
WAITED_SHARE = 0.1
"""A job that has waited for so long is asked after again when this share of it has passed once more."""


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it.

    Attributes:
        state: SLURM's word, such as PENDING or RUNNING.
        reason: why it waits, such as Resources or Priority; empty if it does not.
    """

    state: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


def submit(script: Path, folder: Path, options: Sequence[str] = ()) -> str:
    """Submit a job script; returns the job's id.

    Args:
        script: the file.
        folder: the directory that it is submitted from.
        options: of sbatch, beside those in the script, such as `--array=0-3`.

    Raises:
        BenchmarkError: there is no SLURM here, or it refused; the message is SLURM's.
    """
    printed = _run(["sbatch", "--parsable", *options, str(script)], folder)
    return printed.strip().split(";")[0]  # on federated clusters the cluster's name follows


def test(script: Path, folder: Path) -> str:
    """Let SLURM check a job script; return why its job could not start at any time, or an empty text.

    `sbatch --test-only` also refuses a job that sbatch would queue until its nodes are back from maintenance. So where
    it refuses, the script is submitted on hold and cancelled: that answer counts.

    Args:
        script: the file.
        folder: the directory that it would be submitted from.

    Raises:
        BenchmarkError: there is no SLURM here, or it would not queue the job; the message is SLURM's.
    """
    try:
        _run(["sbatch", "--test-only", str(script)], folder)
    except BenchmarkError as error:
        cancel([submit(script, folder, ["--hold"])])
        return str(error)
    return ""


def max_array_size() -> int:
    """Return the cluster's MaxArraySize, which all indices of an array are below; SLURM's default without a cluster."""
    try:
        printed = _run(["scontrol", "show", "config"], None)
    except BenchmarkError:  # the scripts can be printed anywhere
        printed = ""
    found = re.search(r"(?m)^MaxArraySize\s*=\s*(\d+)", printed)
    return int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE


def jobs(ids: Sequence[str]) -> dict[str, Job]:
    """Return the state of jobs. SLURM forgets a job some minutes after its end: then it is GONE."""
    found = {job: Job(GONE) for job in ids}
    if not ids:
        return found
    for line in _squeue("--states=all", "--format=%A|%T|%r"):
        number, state, reason = line.strip().split("|")
        if number in found:
            found[number] = Job(state, "" if reason == "None" else reason)
    return found


def unfinished(ids: Sequence[str]) -> list[str]:
    """Return the jobs among these, arrays included, that wait or run."""
    queued = {line.strip() for line in _squeue("--format=%F")} if ids else set()
    return [job for job in ids if job in queued]


def _squeue(*options: str) -> list[str]:
    """Ask for this user's jobs, and no others: a cluster's whole queue is long."""
    return _run(["squeue", "--noheader", f"--user={os.getuid()}", *options], None).splitlines()


class QueueWatch:
    """The state of jobs, asked for as rarely as a wait allows.

    Args:
        clock: tells how long ago squeue was asked.
    """

    def __init__(self, clock: Clock = REAL) -> None:
        self._clock, self._found = clock, dict[str, Job]()
        self._asked, self._changed = -float("inf"), clock.now()

    @property
    def seconds(self) -> float:
        """Seconds between two calls of squeue now; they grow as long as all jobs wait in the queue."""
        waited = (
            self._clock.now() - self._changed if {job.state for job in self._found.values()} == {"PENDING"} else 0.0
        )
        return min(MAX_SQUEUE_SECONDS, max(SQUEUE_SECONDS, WAITED_SHARE * waited))

    def look(self, ids: Sequence[str]) -> dict[str, Job]:
        """Return the state of jobs, as squeue showed them not long ago; PENDING of one that was submitted since.

        Raises:
            BenchmarkError: squeue refused.
        """
        now = self._clock.now()
        if now - self._asked >= self.seconds:
            self._asked = now
            found = jobs(ids)
            if {job: seen.state for job, seen in found.items()} != {job: s.state for job, s in self._found.items()}:
                self._changed = now
            self._found = found
        return {job: self._found.get(job, Job("PENDING")) for job in ids}


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are left alone."""
    if ids:
        subprocess.run(["scancel", *ids], capture_output=True, check=False, timeout=ANSWER_SECONDS)


def requeue(job: str) -> None:
    """Queue a running job again, this one too.

    Raises:
        BenchmarkError: SLURM refused.
    """
    _run(["scontrol", "requeue", job], None, is_ended_by_success=True)


def _run(command: Sequence[str], folder: Path | None, is_ended_by_success: bool = False) -> str:
    """Return the output of a command of SLURM.

    Args:
        command: its words.
        folder: where to run it; None for here.
        is_ended_by_success: whether SLURM ends the command with the job, by a signal, because it did as it was told.

    Raises:
        BenchmarkError: there is no such command, it refused, or it does not answer.
    """
    if shutil.which(command[0]) is None:
        raise BenchmarkError(
            f"{command[0]}: no such command; this takes a machine that has SLURM, such as a login node"
        )
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(
            f"{command[0]} did not answer within {ANSWER_SECONDS} s; is slurmctld up? (scontrol ping)"
        ) from None
    if done.returncode < 0 and is_ended_by_success:
        return done.stdout
    if done.returncode:
        said = re.sub(rf"(?m)^{command[0]}: (error: )?", "", done.stderr).strip() or f"exit status {done.returncode}"
        raise BenchmarkError(f"{command[0]} refused: {' '.join(said.split())}")
    return done.stdout
