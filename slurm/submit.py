"""Submitting a study: checked here on the login node, so that no job waits in the queue to fail on a typing error."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.spec import BenchmarkError
from slurm import scheduler, scripts
from slurm.profile import Profile
from slurm.scripts import Places


def job_name(profile: Profile, command: Sequence[str]) -> str:
    """Return the name of a study's jobs: the profile's beginning and the method, or the verb without a method."""
    return f"{profile.job_name}-{command[1] if command[0] == 'run' else command[0]}"


def head_script(profile: Profile, file: Path, command: Sequence[str], work: Path) -> str:
    """Return the head job's script.

    Args:
        profile: the cluster.
        file: the profile's file, which the job reads again.
        command: arguments of `python -m hpo`, such as `run asha --benchmark nano`.
        work: the folder that relative paths in the command are relative to.
    """
    words = ["slurm", "head", "--cluster", str(file.resolve()), "--", *command]
    write = scripts.one_job if profile.layout == "one_job" else scripts.head
    return write(profile, job_name(profile, command), words, Places.here(work))


def worker_script(profile: Profile, name: str, connection: Path, work: Path) -> str:
    """Return the script of a head job's worker jobs.

    Args:
        profile: the cluster.
        name: of the head job.
        connection: the head job's connection file.
        work: the folder that the job works in.
    """
    return scripts.worker(profile, f"{name}-worker", worker_command(profile, connection), Places.here(work))


def worker_command(profile: Profile, connection: Path) -> list[str]:
    """Return the arguments of `python -m hpo` that a worker runs.

    Args:
        profile: the cluster.
        connection: the head job's connection file.
    """
    command = ["slurm", "worker", "--connection", str(connection)]
    return [*command, "--cpus", str(profile.node.cpus - profile.cpus_for_ray), "--gpus", str(profile.node.gpus)]


def watching(profile: Profile, name: str, job: str) -> str:
    """Return the command that shows the log of a job as it grows.

    Args:
        profile: the cluster.
        name: of the job.
        job: SLURM's id of the job.
    """
    return shlex.join(["tail", "-F", f"{profile.logs}/{name}-{job}.out"])


def connection_file(profile: Profile, name: str, job: str) -> Path:
    """Return the path of a head job's connection file, in a folder of the job's own.

    Args:
        profile: the cluster.
        name: of the head job.
        job: SLURM's id of the head job.
    """
    return Path(profile.logs) / f"{name}-{job}" / "connection.json"


def logs_folder(profile: Profile) -> Path:
    """Return the folder of the logs, made if need be.

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
    """Explain that a file or folder among the logs cannot be written."""
    return BenchmarkError(f"{path}: cannot be written ({error.strerror}); `logs` in the profile says where")


def submit(profile: Profile, name: str, script: str, worker: str) -> str:
    """Write a head job's script to the logs' folder and submit it; return the job's id.

    Args:
        profile: the cluster.
        name: of the job.
        script: the head job's.
        worker: the script of its worker jobs, which SLURM is asked to check now: refused later, they would leave the
            head job waiting; empty where it has none.

    Raises:
        BenchmarkError: SLURM refused, or the folder cannot be written.
    """
    logs = logs_folder(profile)
    path, workers = logs / f"{name}.sbatch", logs / f"{name}-worker.sbatch"
    try:
        path.write_text(script)
        workers.write_text(worker)
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        _test(path, "head job")
        if worker:
            _test(workers, "worker jobs")
    finally:
        workers.unlink()  # the head job writes its own, which names its connection file
    return scheduler.submit(path, Path.cwd())


def _test(script: Path, jobs: str) -> None:
    try:
        doubt = scheduler.test(script, Path.cwd())
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}; so it says of the {jobs}, and nothing was submitted") from None
    if doubt:
        print(f"warning: as the cluster is now, the {jobs} will wait: {doubt}", file=sys.stderr)
