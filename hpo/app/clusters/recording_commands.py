"""The commands `python -m hpo slurm record ...`: parse and join, no logic of their own."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.files import whole_number
from benchmarks.spec import BenchmarkError
from hpo.app.clusters.slurm_commands import check_start
from hpo.app.request import load_benchmark

if TYPE_CHECKING:
    from slurm.recording.task import PlannedRecording

RECORDING_OPTIONS = ("benchmark", "configs", "seeds", "dense", "hours", "output")
"""Options that the jobs are given as they were."""


def record(parsed: argparse.Namespace) -> int:
    """Submit an array that records a bank."""
    from slurm import arrays, profile, scheduler
    from slurm.recording import array
    from slurm.submit import logs_folder

    file = Path(parsed.cluster)
    cluster, planned = profile.load(file), _planned(parsed)
    check_start(planned.benchmark)
    given = {name: parsed.texts[name] for name in RECORDING_OPTIONS}
    words = tuple(word for name, text in given.items() if text for word in (f"--{name}", text))
    recording = array.ArrayRecording(planned.benchmark, parsed.tasks, words)
    wanted = array.submissions(cluster, file, recording, scheduler.max_array_size())
    if parsed.dry_run:
        for submission in wanted:
            print(shlex.join(["sbatch", *submission.options]), submission.script, sep="\n")
        return 0
    planned.choose_dense()
    planned.listed()  # refused here rather than in each job
    jobs = arrays.submit_all(logs_folder(cluster), array.job_name(cluster, planned.benchmark), wanted)
    print(f"submitted jobs {', '.join(jobs)}; the last one writes {planned.files().bank}")
    return 0


def _planned(parsed: argparse.Namespace) -> PlannedRecording:
    """Return the recording that the options ask for."""
    from slurm.recording.task import PlannedRecording

    benchmark = load_benchmark(parsed.benchmark)
    return PlannedRecording(benchmark, Path(parsed.output), parsed.configs, parsed.dense, parsed.seeds)


def task(parsed: argparse.Namespace) -> int:
    """Run a task of the array."""
    from slurm import profile
    from slurm.processes import Stamps, job_id
    from slurm.recording import task

    part = whole_number(os.environ.get("SLURM_ARRAY_TASK_ID", ""))
    if part is None:
        raise BenchmarkError("SLURM_ARRAY_TASK_ID is not set: a task is run by SLURM; submit it with `slurm record`")
    with Stamps(f"job {job_id()} (part {part} of {parsed.tasks})") as stamps:
        cluster = profile.load(Path(parsed.cluster))
        stamps.status = task.record(_planned(parsed), cluster, part, parsed.tasks, parsed.hours)
    return stamps.status


def gather(parsed: argparse.Namespace) -> int:
    """Run the last job of the array."""
    from slurm.processes import Stamps, job_id
    from slurm.recording import task

    with Stamps(f"job {job_id()} (gathers the bank)") as stamps:
        stamps.status = task.gather(_planned(parsed))
    return stamps.status
