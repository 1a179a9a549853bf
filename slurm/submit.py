"""Submitting a study: checked here on the login node, so that no job waits in the queue to fail on a typing error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.spec import BenchmarkError
from slurm import scheduler, scripts
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
    return scripts.head(profile, job_name(command), words, Places.here(work))


def worker_script(profile: Profile, name: str, connection: Path, work: Path) -> str:
    """Return the script of a head job's worker jobs.

    Args:
        profile: the cluster.
        name: of the head job.
        connection: the head job's connection file.
        work: the folder that the job works in.
    """
    command = ["slurm", "worker", "--connection", str(connection)]
    command += ["--cpus", str(profile.node.cpus - profile.cpus_for_ray), "--gpus", str(profile.node.gpus)]
    return scripts.worker(profile, f"{name}-worker", command, Places.here(work))


def logs_folder(profile: Profile) -> Path:
    """The folder of the logs, made if need be.

    Raises:
        BenchmarkError: it cannot be made.
    """
    logs = Path(profile.logs)
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(logs, error) from None
    return logs


def cannot_write(path: Path, error: OSError) -> BenchmarkError:
    """What to say where a file or folder among the logs cannot be written."""
    return BenchmarkError(f"{path}: cannot be written ({error.strerror}); `logs` in the profile says where")


def submit(profile: Profile, script: str, name: str) -> str:
    """Write a script to the logs' folder and submit it; returns the job's id.

    Raises:
        BenchmarkError: SLURM refused, or the folder cannot be written.
    """
    path = logs_folder(profile) / f"{name}.sbatch"
    try:
        path.write_text(script)
    except OSError as error:
        raise cannot_write(path, error) from None
    return scheduler.submit(path, Path.cwd())
