"""SLURM's own commands: sbatch, squeue, scancel, scontrol. What they refuse is passed on in their words."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.spec import BenchmarkError

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "GONE"}
"""States that a job does not leave; GONE is ours, for a job that SLURM has forgotten."""
ANSWER_SECONDS = 60


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


def jobs(ids: Sequence[str]) -> dict[str, Job]:
    """The state of jobs. SLURM forgets a job some minutes after its end: then it is GONE."""
    found = {job: Job("GONE") for job in ids}
    if not ids:
        return found
    for line in _run(["squeue", "--noheader", "--states=all", "--format=%A|%T|%r"], None).splitlines():
        number, state, reason = line.strip().split("|")
        if number in found:
            found[number] = Job(state, "" if reason == "None" else reason)
    return found


def unfinished(ids: Sequence[str]) -> list[str]:
    """Those of these jobs, arrays among them, that wait or run."""
    queued = set(_run(["squeue", "--noheader", "--format=%F"], None).split()) if ids else set()
    return [job for job in ids if job in queued]


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are left alone."""
    if ids:
        subprocess.run(["scancel", *ids], capture_output=True, check=False, timeout=ANSWER_SECONDS)


def requeue(job: str) -> None:
    """Queue a running job again, this one too.

    Raises:
        BenchmarkError: SLURM refused.
    """
    _run(["scontrol", "requeue", job], None)


def _run(command: Sequence[str], folder: Path | None) -> str:
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
    if done.returncode:
        said = re.sub(rf"(?m)^{command[0]}: (error: )?", "", done.stderr).strip() or f"exit status {done.returncode}"
        raise BenchmarkError(f"{command[0]} refused: {' '.join(said.split())}")
    return done.stdout
