"""Studies without Ray: a job for each trial (an array), or one job for all, one after the other.

The method proposes all trials when the study is submitted: the first ones that the same method and seed train under
Ray, as many as the budget. (Under Ray, further trials take the rest of the budget of a diverged one.) Optuna alone
proposes when a trial begins, through a journal that all tasks share.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.clock import REAL
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import Study
from hpo.search import plan, registry
from slurm import capacity, scheduler, scripts, study_folder
from slurm.profile import Profile
from slurm.scripts import Places
from slurm.study_folder import SubmittedStudy
from slurm.submit import cannot_write, logs_folder

Evaluation = Literal["sequential", "batch", "asynchronous", "hyperqueue"]
"""One trial after the other; batches, each begun when the one before has ended; each as soon as there is room, as a job
of SLURM or as a task of HyperQueue."""

AFTER_PREVIOUS = "--dependency=afterany:{previous}"
AFTER_ALL = "--dependency=afterany:{all}"


@dataclass(frozen=True)
class Submission:
    """One call of sbatch.

    Attributes:
        script: the job script.
        options: of sbatch beside those in the script; `{previous}` stands for the id of the submission before, and
            `{all}` for those of all before.
    """

    script: str
    options: tuple[str, ...] = ()


def prepare(study: Study, evaluation: Evaluation, profile: Profile, at_once: int, command: str) -> SubmittedStudy:
    """Return a study as its jobs read it.

    Args:
        study: as its method made it.
        evaluation: how trials share the time; the study is of its own variant, since it costs differently.
        profile: the cluster.
        at_once: tasks at once, or of a batch; 0 for no limit.
        command: the command that submits it.

    Raises:
        BenchmarkError: the method cannot be run without Ray, or one of its arguments takes Ray.
    """
    from hpo.search import searchers

    marked = with_evaluation(study, evaluation)
    arguments = registry.get(study.method).parse(study.arguments)
    given = (profile.cpus_per_rank, profile.node.gpus > 0, at_once, command, REAL.epoch())
    if registry.traits_of(study.method).shares_proposals_by_journal:
        assert isinstance(arguments, plan.TPEArguments)
        return SubmittedStudy(marked, (), searchers.initial_points(study, arguments), *given)
    return SubmittedStudy(marked, tuple(searchers.proposals(study)), 0, *given)


def with_evaluation(study: Study, evaluation: Evaluation) -> Study:
    """Return a study as a variant of its own: its trials cost otherwise than under Ray.

    Raises:
        BenchmarkError: one of its arguments takes Ray.
    """
    if study.gpu_hours is not None or study.arguments.get("concurrency"):
        raise BenchmarkError(
            "gpu-hours and concurrency take Ray: jobs know nothing of each other; use at-once or batch"
        )
    return replace(
        study,
        arguments={**study.arguments, "evaluation": evaluation},
        variant=f"{study.variant} evaluation={evaluation}".strip(),
    )


@contextmanager
def new_folder(profile: Profile, name: str, submitted: SubmittedStudy) -> Iterator[Path]:
    """Make a folder for a study, and delete it again if its jobs cannot be submitted.

    Raises:
        BenchmarkError: it cannot be written, or earlier studies, with which Optuna is to begin, cannot be read.
    """
    logs = logs_folder(profile)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=logs))
    except OSError as error:
        raise cannot_write(logs, error) from None
    try:
        write(folder, submitted)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write(folder: Path, submitted: SubmittedStudy) -> None:
    """Write the files that a study's jobs read."""
    from hpo.search import journal

    submitted.write(folder)
    if not submitted.proposals:
        own = {key: value for key, value in submitted.study.arguments.items() if key != "evaluation"}
        arguments = registry.get(submitted.study.method).parse(own)
        assert isinstance(arguments, plan.TPEArguments)
        journal.begin(folder / study_folder.JOURNAL, submitted.study, arguments)


def submissions(
    profile: Profile,
    file: Path,
    name: str,
    folder: Path,
    submitted: SubmittedStudy,
    trials: Sequence[int],
    max_array_size: int = scheduler.DEFAULT_MAX_ARRAY_SIZE,
) -> list[Submission]:
    """Return the jobs to submit, in this order: the trials, and for an array the job that gathers them.

    Args:
        profile: the cluster.
        file: the profile's file.
        name: of the jobs.
        folder: the study's.
        submitted: the study.
        trials: numbers of those to train, in ascending order.
        max_array_size: the cluster's MaxArraySize.

    Raises:
        BenchmarkError: the cluster takes no arrays, or a trial's memory is not known.
    """
    ranks, places = submitted.study.benchmark.ranks_per_trial, Places.here(Path.cwd())
    evaluation, at_once = submitted.study.arguments["evaluation"], submitted.at_once
    cluster = ["--cluster", str(file.resolve()), str(folder)]
    if evaluation == "sequential":
        return [Submission(scripts.trials(profile, name, ["slurm", "serial-job", *cluster], places, ranks, False))]
    size = at_once if at_once and evaluation == "batch" else len(trials)
    limit = f"%{at_once}" if at_once and evaluation == "asynchronous" else ""
    found: list[Submission] = []
    for first, indices in _arrays(trials, size, max_array_size):
        variables = {scripts.FIRST_TRIAL: str(first)} if first else {}
        task = scripts.trials(profile, name, ["slurm", "task", str(folder)], places, ranks, True, variables)
        after = (AFTER_PREVIOUS,) if found and at_once else ()
        found.append(Submission(task, (f"--array={ranges(indices)}{limit}", *after)))
    gathering = scripts.head(profile, f"{name}-gather", ["slurm", "gather-job", *cluster], places)
    return [*found, Submission(gathering, (AFTER_PREVIOUS if at_once or len(found) == 1 else AFTER_ALL,))]


def _arrays(trials: Sequence[int], size: int, max_array_size: int) -> Iterator[tuple[int, list[int]]]:
    """Yield each array as the trial of its task 0, and its tasks' indices.

    Args:
        trials: numbers of the trials, in ascending order.
        size: tasks of an array at most.
        max_array_size: the cluster's MaxArraySize, which all indices must be below.

    Raises:
        BenchmarkError: the cluster takes no arrays.
    """
    if max_array_size < 2:
        raise BenchmarkError(
            f"this cluster takes no arrays: its MaxArraySize is {max_array_size} (scontrol show config); "
            "`slurm serial` trains the same trials in one job"
        )
    for start in range(0, len(trials), size):
        batch = trials[start : start + size]
        for block in dict.fromkeys(trial // max_array_size for trial in batch):
            first = block * max_array_size
            yield first, [trial - first for trial in batch if trial // max_array_size == block]


def ranges(indices: Sequence[int]) -> str:
    """Return ascending numbers as SLURM writes them, such as 0-3,7."""
    text, start = [], 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            first, last = indices[start], indices[end - 1]
            text.append(str(first) if first == last else f"{first}-{last}")
            start = end
    return ",".join(text)


def submit(folder: Path, name: str, wanted: Sequence[Submission]) -> list[str]:
    """Submit all of it, and note the jobs in the study's folder; return their ids.

    Raises:
        BenchmarkError: SLURM refused; the jobs that were submitted before are cancelled.
    """
    jobs = submit_all(folder, name, wanted)
    study_folder.add_jobs(folder, jobs)
    return jobs


def submit_all(folder: Path, name: str, wanted: Sequence[Submission]) -> list[str]:
    """Submit all of it; return the jobs' ids.

    Args:
        folder: gets the scripts.
        name: of the scripts, which a number follows.
        wanted: in this order; options may name the job before, or all before.

    Raises:
        BenchmarkError: SLURM refused; the jobs that were submitted before are cancelled.
    """
    jobs: list[str] = []
    try:
        for number, submission in enumerate(wanted):
            script = folder / f"{name}-{number}.sbatch"
            script.write_text(submission.script)
            known = {"previous": jobs[-1] if jobs else "", "all": ":".join(jobs)}
            options = [option.format(**known) for option in submission.options]
            jobs.append(scheduler.submit(script, Path.cwd(), options))
    except BaseException:
        scheduler.cancel(jobs)
        raise
    return jobs


def require_whole_gpus(benchmark: Benchmark) -> None:
    """Refuse trials that share GPUs: jobs of their own get whole ones.

    Raises:
        BenchmarkError: such trials.
    """
    if benchmark.trials_per_gpu > 1:
        raise BenchmarkError(
            f"trials_per_gpu is {benchmark.trials_per_gpu}, but each trial without Ray is a job of its own with whole "
            "GPUs; set it to 1, or run the study with `slurm submit`"
        )


def require_one_node(profile: Profile, ranks: int) -> None:
    """Refuse trials that no single node holds.

    Raises:
        BenchmarkError: such a trial.
    """
    fits = capacity.without_ray(profile, ranks)
    if not fits.trials_node:
        raise BenchmarkError(
            f"a trial without Ray runs on one node, and none fits on one: {capacity.sentence(fits)}; "
            "`slurm submit` runs trials across nodes"
        )
