"""The commands `python -m hpo hq ...`: parse and join, no logic of their own."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from benchmarks.spec import BenchmarkError
from hpo.app import request
from hpo.app.clusters.slurm_commands import check_start
from hpo.app.parser import parse
from hpo.core.wording import counted


def submit(parsed: argparse.Namespace) -> int:
    """Run a study, its trials as tasks of HyperQueue: here, or as a job of SLURM."""
    from slurm.hq import study

    wanted = request.study_of(parse(["run", parsed.what, *parsed.options], parsed.parser))
    study.require(wanted.benchmark)
    if not parsed.cluster:
        study.require_cores(wanted.benchmark)
    check_start(wanted.benchmark)
    workers = _workers(parsed)
    words = ["python", "-m", "hpo", *parsed.command.verb.split(), parsed.what, "--workers", str(workers)]
    command = shlex.join([*words, "--per-task", str(parsed.per_task), *parsed.options])
    submitted = study.prepare(wanted, workers, _threads(parsed), command)
    folder = study.new_folder(_output(parsed), submitted)
    print(f"{counted(submitted.trials, 'trial')}, {workers} at once; the study is in {folder}", flush=True)
    return _go(parsed, folder, workers)


def resume(parsed: argparse.Namespace) -> int:
    """Train the trials of a study that have no result, and store it."""
    from slurm.hq import study
    from slurm.study_folder import SubmittedStudy

    folder = Path(parsed.study).resolve()
    submitted = SubmittedStudy.read(folder)
    study.require(submitted.study.benchmark)
    return _go(parsed, folder, _workers(parsed))


def _go(parsed: argparse.Namespace, folder: Path, workers: int) -> int:
    if parsed.cluster:
        return _submit_job(parsed, folder, workers)
    from slurm.hq import ending, study
    from slurm.study_folder import SubmittedStudy

    study.require_cores(SubmittedStudy.read(folder).study.benchmark)
    return ending.train_and_store(folder, workers, parsed.per_task)


def job(parsed: argparse.Namespace) -> int:
    """Run a study's job of SLURM."""
    from slurm import profile, stores
    from slurm.hq import ending
    from slurm.processes import Stamps, job_id

    cluster, folder = profile.load(Path(parsed.cluster)), Path(parsed.study)
    with Stamps(f"job {job_id()} ({folder.name})") as stamps, stores.opened(cluster):
        stamps.status = ending.train_and_store(folder, parsed.workers, parsed.per_task)
    return stamps.status


def _workers(parsed: argparse.Namespace) -> int:
    """Return the number of trials at once: as asked, or one for each core, or for each share of a node's."""
    if parsed.per_task < 1:
        raise BenchmarkError(f"per_task is {parsed.per_task}, but must be >= 1 (--per-task)")
    if parsed.workers is not None:
        if parsed.workers < 1:
            raise BenchmarkError(f"workers is {parsed.workers}, but must be >= 1 (--workers)")
        return int(parsed.workers)
    if parsed.cluster:
        from slurm import profile

        cluster = profile.load(Path(parsed.cluster))
        return max(1, cluster.node.cpus // cluster.cpus_per_rank)
    return len(os.sched_getaffinity(0))


def _threads(parsed: argparse.Namespace) -> int:
    if not parsed.cluster:
        return 1
    from slurm import profile

    return profile.load(Path(parsed.cluster)).cpus_per_rank


def _output(parsed: argparse.Namespace) -> Path:
    if not parsed.cluster:
        return Path(parsed.output)
    from slurm import profile, submit

    return submit.logs_folder(profile.load(Path(parsed.cluster)))


def _submit_job(parsed: argparse.Namespace, folder: Path, workers: int) -> int:
    """Submit one job of a whole node, in which the study runs."""
    from slurm import profile, scheduler, scripts, study_folder, submit

    file = Path(parsed.cluster)
    cluster, name = profile.load(file), folder.name
    words = ["hq", "job", "--cluster", str(file.resolve()), "--workers", str(workers)]
    words += ["--per-task", str(parsed.per_task), str(folder)]
    script = folder / "job.sbatch"
    script.write_text(scripts.node(cluster, name, words, scripts.Places.here(Path.cwd())))
    number = scheduler.submit(script, Path.cwd())
    study_folder.add_jobs(folder, [number])
    print(f"submitted job {number}; watch it: {submit.watching(cluster, name, number)}")
    return 0
