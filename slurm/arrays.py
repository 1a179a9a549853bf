"""Studies without Ray: a job for each trial (an array), or one job for all, one after the other.

What a trial trains is settled when it is submitted, by the method itself: the first trials that the same method and
seed train under Ray, as many as the budget. (There, what a diverged trial leaves of the budget goes to further ones.)
Optuna alone proposes when a trial begins, through a journal that all tasks share.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search import plan, registry
from slurm import capacity, scheduler, scripts, study_folder
from slurm.profile import Profile
from slurm.scripts import Places
from slurm.study_folder import SubmittedStudy
from slurm.submit import cannot_write, logs_folder

Evaluation = Literal["sequential", "batch", "asynchronous"]
"""One trial after the other; batches, each begun when the one before has ended; each as soon as there is room."""


@dataclass(frozen=True)
class Submission:
    """One call of sbatch.

    Attributes:
        script: the job script.
        options: of sbatch beside those in the script; `{previous}` stands for the id of the submission before.
    """

    script: str
    options: tuple[str, ...] = ()


def prepare(study: Study, evaluation: Evaluation, profile: Profile, at_once: int, command: str) -> SubmittedStudy:
    """What the jobs of a study are to do.

    Args:
        study: as its method made it.
        evaluation: how trials share the time; the study is of its own variant, since it costs differently.
        profile: the cluster.
        at_once: tasks at once, or of a batch; 0 for no limit.
        command: the command that submits it.

    Raises:
        BenchmarkError: the method cannot be run without Ray, or was asked for what takes Ray.
    """
    from hpo.search import searchers

    if study.gpu_hours is not None or study.arguments.get("concurrency"):
        raise BenchmarkError(
            "gpu-hours and concurrency take Ray: jobs know nothing of each other; use at-once or batch"
        )
    arguments = registry.get(study.method).parse(study.arguments)
    marked = replace(
        study,
        arguments={**study.arguments, "evaluation": evaluation},
        variant=f"{study.variant} evaluation={evaluation}".strip(),
    )
    given = (profile.cpus_per_rank, profile.node.gpus > 0, at_once, command)
    if study.method == "optuna":
        assert isinstance(arguments, plan.TPEArguments)
        return SubmittedStudy(marked, (), searchers.initial_points(study, arguments), *given)
    return SubmittedStudy(marked, tuple(searchers.proposals(study)), 0, *given)


@contextmanager
def new_folder(profile: Profile, name: str, submitted: SubmittedStudy) -> Iterator[Path]:
    """A folder for a study; gone again where its jobs could not be submitted.

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
    """Write what a study's jobs read."""
    from hpo.search import journal

    submitted.write(folder)
    if not submitted.proposals:
        own = {key: value for key, value in submitted.study.arguments.items() if key != "evaluation"}
        arguments = registry.get(submitted.study.method).parse(own)
        assert isinstance(arguments, plan.TPEArguments)
        journal.begin(folder / study_folder.JOURNAL, submitted.study, arguments)


def submissions(
    profile: Profile, file: Path, name: str, folder: Path, submitted: SubmittedStudy, trials: Sequence[int]
) -> list[Submission]:
    """What to submit, in this order: the trials, and for an array the job that gathers them.

    Args:
        profile: the cluster.
        file: the profile's file.
        name: of the jobs.
        folder: the study's.
        submitted: what its jobs do.
        trials: numbers of those to train.
    """
    ranks, places = submitted.study.benchmark.ranks_per_trial, Places.here(Path.cwd())
    evaluation, at_once = submitted.study.arguments["evaluation"], submitted.at_once
    cluster = ["--cluster", str(file.resolve()), str(folder)]
    if evaluation == "sequential":
        return [Submission(scripts.trials(profile, name, ["slurm", "serial-job", *cluster], places, ranks, False))]
    task = scripts.trials(profile, name, ["slurm", "task", str(folder)], places, ranks, True)
    size = at_once if at_once and evaluation == "batch" else len(trials)
    batches = [trials[first : first + size] for first in range(0, len(trials), size)]
    limit = f"%{at_once}" if at_once and evaluation == "asynchronous" else ""
    after = ("--dependency=afterany:{previous}",)
    found = [
        Submission(task, (f"--array={','.join(map(str, batch))}{limit}", *(after if number else ())))
        for number, batch in enumerate(batches)
    ]
    gathering = scripts.head(profile, f"{name}-gather", ["slurm", "gather-job", *cluster], places)
    return [*found, Submission(gathering, after)]


def submit(folder: Path, name: str, wanted: Sequence[Submission]) -> list[str]:
    """Submit all of it; returns the jobs' ids.

    Raises:
        BenchmarkError: SLURM refused; what was submitted before is cancelled.
    """
    jobs: list[str] = []
    try:
        for number, submission in enumerate(wanted):
            script = folder / f"{name}-{number}.sbatch"
            script.write_text(submission.script)
            options = [option.format(previous=jobs[-1] if jobs else "") for option in submission.options]
            jobs.append(scheduler.submit(script, Path.cwd(), options))
    except BaseException:
        scheduler.cancel(jobs)
        raise
    study_folder.add_jobs(folder, jobs)
    return jobs


def require_one_node(profile: Profile, ranks: int) -> None:
    """Refuse trials that no single node holds.

    Raises:
        BenchmarkError: such a trial.
    """
    fits = capacity.of(profile.model_copy(update={"cpus_for_ray": 0}), ranks)
    if not fits.trials_node:
        raise BenchmarkError(
            f"a trial without Ray runs on one node, and none fits on one: {capacity.sentence(fits)}; "
            "`slurm submit` runs trials across nodes"
        )
