"""Submitting a study: checked here on the login node, so that no job waits in the queue to fail on a typing error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.spec import BenchmarkError
from slurm import scheduler, scripts
from slurm.head import PROJECT
from slurm.profile import Profile
from slurm.scripts import Places


def job_name(command: Sequence[str]) -> str:
    """The name of a head job: `hpo-` and the method, or the verb where there is no one method."""
    return f"hpo-{command[1] if command[0] == 'run' else command[0]}"


def head_script(profile: Profile, file: Path, command: Sequence[str], work: Path) -> str:
    """The head job's script.

    Args:
        profile: the cluster.
        file: the profile's file, which the job reads again.
        command: arguments of `python -m hpo`, such as `run asha --benchmark nano`.
        work: the folder that relative paths in the command are relative to.
    """
    words = ["slurm", "head", "--cluster", str(file.resolve()), "--", *command]
    return scripts.head(profile, job_name(command), words, Places(PROJECT, work, sys.executable))


def submit(profile: Profile, script: str, name: str) -> str:
    """Write a script to the logs' folder and submit it; returns the job's id.

    Raises:
        BenchmarkError: SLURM refused, or the folder cannot be written.
    """
    logs = Path(profile.logs)
    path = logs / f"{name}.sbatch"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
    except OSError as error:
        raise BenchmarkError(
            f"{path}: cannot be written ({error.strerror}); `logs` in the profile says where"
        ) from None
    return scheduler.submit(path, Path.cwd())
