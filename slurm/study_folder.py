"""A study as a folder: for jobs that train a trial each, or one after the other, and know nothing of each other.

::

    STUDY/study.json        what is asked, the proposals included; see `SubmittedStudy`
    STUDY/optuna.journal    what Optuna knows, where it makes the proposals
    STUDY/job-<id>.jsonl    what a job did, an event a line, on the disk before the job goes on
    STUDY/trial-<n>.log     what the processes of a trial said
    STUDY/jobs.json         the ids of the jobs that were submitted
    STUDY/gathered.json     the run in MLflow, once the study is there

No job needs a server, so none can be lost with one. `slurm.gather` brings all of it into MLflow afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.space import Config
from benchmarks.spec import BenchmarkError, first_line
from hpo.core.study import Study
from hpo.engine import one_trial

STUDY, JOBS, GATHERED, JOURNAL = "study.json", "jobs.json", "gathered.json", "optuna.journal"
FINAL = ("completed", "diverged", "failed")
"""Outcomes that a trial keeps; one that was interrupted is trained again when its job is."""
WITHOUT_A_WORD = "its job ended without a word: it was killed, or its node failed"


@dataclass(frozen=True)
class SubmittedStudy:
    """What a folder's jobs are to do.

    Attributes:
        study: the study; its trials are as many as its budget, or as there are proposals.
        proposals: a configuration a trial; empty where Optuna proposes when a trial begins.
        initial_points: random trials that end before Optuna's model proposes.
        threads: CPU threads of each rank.
        needs_gpus: whether jobs ask for GPUs, and must not train without.
        at_once: tasks at once, or of a batch; 0 for no limit.
        command: the command that submitted it.
    """

    study: Study
    proposals: tuple[Config, ...]
    initial_points: int
    threads: int
    needs_gpus: bool
    at_once: int
    command: str

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.proposals) or self.study.budget

    def write(self, folder: Path) -> None:
        """Write it into its folder."""
        content = {**asdict(self), "study": self.study.to_json()}
        (folder / STUDY).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> SubmittedStudy:
        """The order of a folder.

        Raises:
            BenchmarkError: there is none that this version of the suite has written.
        """
        path = folder / STUDY
        try:
            content = json.loads(path.read_text())
            study = Study.from_json(content["study"])
            return cls(**{**content, "study": study, "proposals": tuple(content["proposals"])})
        except OSError as error:
            raise BenchmarkError(f"{path}: cannot be read ({error.strerror}); give the folder of a study") from None
        except (ValueError, KeyError, TypeError) as error:
            raise BenchmarkError(
                f"{path}: is no study of this version ({type(error).__name__}: {first_line(error)})"
            ) from None


@dataclass
class JobLog:
    """A job's file of events; whoever writes a line brings it to the disk.

    Attributes:
        path: the file, which the processes of trials add their units to.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, job: str) -> JobLog:
        """The record of a job; one that is queued again goes on with it."""
        return cls(folder / f"job-{job}.jsonl")

    def add(self, event: str, **content: Any) -> None:
        """Add an event that has just happened, or did `at` another time."""
        one_trial.add_line(self.path, {"event": event, "at": time.time(), **content})


@dataclass(frozen=True)
class Event:
    """Something that happened in a job.

    Attributes:
        at: when, in seconds since the epoch.
        kind: `reserved` and `released` of the job's devices; `began`, `unit` and `ended` of a trial.
        job: the job.
        trial: the trial; -1 of events of the job's devices.
        content: what else is known.
    """

    at: float
    kind: str
    job: str
    trial: int = -1
    content: dict[str, Any] = field(default_factory=dict)


def events(folder: Path) -> list[Event]:
    """Everything that a study's jobs did, in order of time. What a job that died could not write any more is added."""
    found = [event for path in sorted(folder.glob("job-*.jsonl")) for event in _of_job(path)]
    return sorted(found, key=lambda event: event.at)  # stable: what a job wrote at one time keeps its order


def _of_job(path: Path) -> Iterator[Event]:
    """A job's events, each beginning with its end: of a trial that was left open, of devices that were not released."""
    job, trial, holds, last = path.stem.removeprefix("job-"), -1, False, 0.0
    for content in _lines(path):
        kind, at = content.pop("event", "unit"), float(content.pop("at"))
        if kind in ("began", "reserved", "released") and trial >= 0:
            yield Event(last, "ended", job, trial, {"outcome": "interrupted", "reason": WITHOUT_A_WORD})
            trial = -1
        if kind == "reserved" and holds:  # the job was queued again
            yield Event(last, "released", job)
        holds = kind == "reserved" or (holds and kind != "released")
        trial = content.pop("trial") if kind == "began" else trial
        yield Event(at, kind, job, trial, content)
        trial, last = -1 if kind == "ended" else trial, at
    if trial >= 0:
        yield Event(last, "ended", job, trial, {"outcome": "interrupted", "reason": WITHOUT_A_WORD})
    if holds:
        yield Event(last, "released", job)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record; one that was cut off, by the end of its job or a full disk, is none."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            content: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield content


def finished(folder: Path) -> set[int]:
    """Trials that need no further attempt."""
    return {event.trial for event in events(folder) if event.kind == "ended" and event.content["outcome"] in FINAL}


def last_unit(folder: Path, trial: int) -> dict[str, Any] | None:
    """The latest result of a trial; None before it has one."""
    found = [event.content for event in events(folder) if event.kind == "unit" and event.trial == trial]
    return found[-1] if found else None


def proposal_of(folder: Path, trial: int) -> tuple[Config, int | None] | None:
    """What a trial was begun with, and its number in Optuna's journal; None if it was not."""
    found = [event.content for event in events(folder) if event.kind == "began" and event.trial == trial]
    return (found[-1]["config"], found[-1]["number"]) if found else None


def add_jobs(folder: Path, jobs: Sequence[str]) -> None:
    """Note jobs that were submitted."""
    (folder / JOBS).write_text(json.dumps([*jobs_of(folder), *jobs]) + "\n")


def jobs_of(folder: Path) -> list[str]:
    """The ids of the jobs that were submitted for a study."""
    path = folder / JOBS
    return list(json.loads(path.read_text())) if path.exists() else []
