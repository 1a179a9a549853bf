"""An array whose tasks record a bank together, and the job after it that gathers their logs.

Training number k of the recording's list belongs to task k modulo the number of tasks, so tasks need not speak with
each other. Each skips what any log or the bank has already: the same submission again records the missing ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from slurm import arrays, scheduler, scripts
from slurm.arrays import AFTER_PREVIOUS, Submission
from slurm.profile import Profile
from slurm.scripts import Places


@dataclass(frozen=True)
class ArrayRecording:
    """A recording that is submitted.

    Attributes:
        benchmark: the benchmark that is recorded.
        tasks: of the array.
        options: words of the recording itself, such as `--configs 400`.
    """

    benchmark: Benchmark
    tasks: int
    options: tuple[str, ...]


def submissions(
    profile: Profile, file: Path, recording: ArrayRecording, max_array_size: int = scheduler.DEFAULT_MAX_ARRAY_SIZE
) -> list[Submission]:
    """Return the jobs to submit, in this order: the array, then the job that gathers.

    Args:
        profile: the cluster.
        file: the profile's file.
        recording: the recording.
        max_array_size: the cluster's MaxArraySize.

    Raises:
        BenchmarkError: a number of tasks that is out of range, or a training that no node holds.
    """
    if not 1 <= recording.tasks <= max_array_size:
        raise BenchmarkError(
            f"tasks is {recording.tasks}, but must be from 1 to {max_array_size}, the cluster's MaxArraySize"
        )
    benchmark, places = recording.benchmark, Places.here(Path.cwd())
    arrays.require_whole_gpus(benchmark)
    arrays.require_one_node(profile, benchmark.ranks_per_trial)
    words = ["--cluster", str(file.resolve()), "--tasks", str(recording.tasks), *recording.options]
    name = job_name(profile, benchmark)
    ranks = benchmark.ranks_per_trial
    task = scripts.trials(profile, name, ["slurm", "record-task", *words], places, ranks, is_array=True)
    gathering = scripts.head(profile, f"{name}-gather", ["slurm", "record-gather", *words], places)
    return [
        Submission(task, (f"--array=0-{recording.tasks - 1}",)),
        Submission(gathering, (AFTER_PREVIOUS,)),
    ]


def job_name(profile: Profile, benchmark: Benchmark) -> str:
    """Name the jobs of a recording."""
    return f"{profile.job_name}-record-{benchmark.name}"
