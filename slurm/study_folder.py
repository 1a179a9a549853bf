"""A study as a folder: for jobs that each train one trial, or one after the other, and know nothing of each other.

::

    STUDY/study.json        the study and its proposals; see `SubmittedStudy`
    STUDY/optuna.journal    Optuna's results so far, where it makes the proposals
    STUDY/job-<id>.jsonl    the events of a job, one per line, on the disk before the job goes on
    STUDY/trial-<n>.log     the output of a trial's processes
    STUDY/jobs.json         the ids of the jobs that were submitted
    STUDY/gathered.json     the run in MLflow, once the study is there

No job needs a server, so none can be lost with one. `slurm.gather` brings all of it into MLflow afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clock import REAL
from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.space import Config
from benchmarks.spec import BenchmarkError, first_line
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study
from hpo.engine import one_trial

STUDY, JOBS, GATHERED, JOURNAL = "study.json", "jobs.json", "gathered.json", "optuna.journal"
FINAL = ("completed", "diverged", "failed")
"""Outcomes that a trial keeps; one that was interrupted is trained again when its job is."""
WITHOUT_A_WORD = "its job ended without a word: it was killed, or its node failed"


@dataclass(frozen=True)
class SubmittedStudy:
    """A study as it was submitted, for the jobs that train its trials.

    Attributes:
        study: the study; its trials are as many as its budget, or as there are proposals.
        proposals: one configuration per trial; empty where Optuna proposes when a trial begins.
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
        """Read the study of a folder.

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
    """A job's file of events; each line is brought to the disk as it is written.

    Attributes:
        path: the file, which the processes of trials add their units to.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, job: str) -> JobLog:
        """Return the log of a job; one that is queued again goes on with it."""
        return cls(folder / f"job-{job}.jsonl")

    def add(self, event: str, **content: Any) -> None:
        """Add an event that has just happened, or did `at` another time."""
        one_trial.add_line(self.path, {"event": event, "at": REAL.epoch(), **content})


@dataclass(frozen=True)
class Event:
    """Something that happened in a job.

    Attributes:
        at: when, in seconds since the epoch.
        kind: `reserved` and `released` of the job's devices; `began`, `unit` and `ended` of a trial; `skipped` of one
            that is not trained.
        job: the job.
        trial: the trial; -1 of events of the job's devices.
        content: the rest of the event.
    """

    at: float
    kind: str
    job: str
    trial: int = -1
    content: dict[str, Any] = field(default_factory=dict)


def events(folder: Path) -> list[Event]:
    """List everything that a study's jobs did, in order of time, with the ends that a job that died could not write."""
    found = [event for path in sorted(folder.glob("job-*.jsonl")) for event in _of_job(path)]
    return sorted(found, key=lambda event: event.at)  # stable: events of one job at one time keep their order


def _of_job(path: Path) -> Iterator[Event]:
    """Yield a job's events, and an end for each trial left open and for devices that were not released."""
    job, trial, holds, last = path.stem.removeprefix("job-"), -1, False, 0.0
    for content in _lines(path):
        kind, at = content.pop("event", "unit"), float(content.pop("at"))
        if kind in ("began", "reserved", "released") and trial >= 0:
            yield Event(last, "ended", job, trial, {"outcome": "interrupted", "reason": WITHOUT_A_WORD})
            trial = -1
        if kind == "reserved" and holds:  # the job was queued again
            yield Event(last, "released", job)
        holds = kind == "reserved" or (holds and kind != "released")
        trial = content.pop("trial") if kind in ("began", "skipped") else trial
        yield Event(at, kind, job, trial, content)
        trial, last = -1 if kind in ("ended", "skipped") else trial, at
    if trial >= 0:
        yield Event(last, "ended", job, trial, {"outcome": "interrupted", "reason": WITHOUT_A_WORD})
    if holds:
        yield Event(last, "released", job)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log; one that was cut off, by the end of its job or a full disk, is left out."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            content: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield content


def finished(folder: Path) -> set[int]:
    """Return the trials that need no further attempt."""
    return {event.trial for event in events(folder) if event.kind == "skipped" or _is_final(event)}


def _is_final(event: Event) -> bool:
    return event.kind == "ended" and event.content["outcome"] in FINAL


def feasibility(folder: Path, study: Study) -> Feasibility:
    """Return the knowledge of a study's jobs so far about the configurations that fit into memory."""
    known, configs = Feasibility(study), dict[int, Config]()
    for event in events(folder):
        if event.kind == "began":
            configs[event.trial] = event.content["config"]
        elif event.kind == "unit":
            known.prove(str(event.trial), configs[event.trial])
        elif _is_final(event) and event.content["reason"].startswith(OUT_OF_MEMORY):
            known.lose(str(event.trial), configs[event.trial])
    return known


def last_unit(folder: Path, trial: int) -> dict[str, Any] | None:
    """Return the latest result of a trial; None before it has one."""
    found = [event.content for event in events(folder) if event.kind == "unit" and event.trial == trial]
    return found[-1] if found else None


def proposal_of(folder: Path, trial: int) -> tuple[Config, int | None] | None:
    """Return the configuration that a trial began with, and its number in Optuna's journal; None before it began."""
    found = [event.content for event in events(folder) if event.kind == "began" and event.trial == trial]
    return (found[-1]["config"], found[-1]["number"]) if found else None


def add_jobs(folder: Path, jobs: Sequence[str]) -> None:
    """Note jobs that were submitted."""
    (folder / JOBS).write_text(json.dumps([*jobs_of(folder), *jobs]) + "\n")


def jobs_of(folder: Path) -> list[str]:
    """Return the ids of the jobs that were submitted for a study."""
    path = folder / JOBS
    return list(json.loads(path.read_text())) if path.exists() else []
