"""A study as a folder: for jobs that each train one trial, or one after the other, and know nothing of each other.

::

    STUDY/study.json        the study and its proposals; see `SubmittedStudy`
    STUDY/optuna.journal    Optuna's results so far, where it makes the proposals
    STUDY/job-<id>.jsonl    the events of a job (`hpo.core.events`), each on the disk before the job goes on
    STUDY/job-<id>.slot-<n>.jsonl  those of the trials on one core of a job that trains several at once
    STUDY/trial-<n>.log     the output of a trial's processes
    STUDY/jobs.json         the ids of the jobs that were submitted
    STUDY/gathered.json     the run in MLflow, once the study is there

No job needs a server, so none can be lost with one. `slurm.gather` brings all of it into MLflow afterwards.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeGuard

from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.space import Config
from benchmarks.spec import BenchmarkError, first_line
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study

STUDY, JOBS, GATHERED, JOURNAL = "study.json", "jobs.json", "gathered.json", "optuna.journal"
SLOT = ".slot-"
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
        began_at: when it was submitted, in seconds since the epoch: second 0 of its jobs' events.
    """

    study: Study
    proposals: tuple[Config, ...]
    initial_points: int
    threads: int
    needs_gpus: bool
    at_once: int
    command: str
    began_at: float

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


def log_of(folder: Path, job: str, slot: str = "") -> Path:
    """Return the log of a job, which the processes of its trials append their units to; one queued again continues it.

    A job and its trials write to it in turn, see `event_log.append`.

    Args:
        folder: the study's.
        job: the job's id.
        slot: place of a trial among those that the job trains at once; each place has a log of its own.
    """
    return folder / f"job-{job}{SLOT if slot else ''}{slot}.jsonl"


@dataclass(frozen=True)
class Told:
    """All that a study's jobs have told.

    Attributes:
        events: in order of time, with the ends that a job that died could not write. A trial's id is its number. One
            that was begun several times is proposed several times; it ends with the last time.
        torn: a sentence for each line that was left out, since the end of its job or a full disk cut it off.
    """

    events: tuple[core.Event, ...]
    torn: tuple[str, ...]


def told(folder: Path) -> Told:
    """Read the logs of a study's jobs.

    Raises:
        BenchmarkError: a line is no event of this version.
    """
    logs = {path: event_log.read(path) for path in sorted(folder.glob("job-*.jsonl"))}
    last: dict[str, float] = {}
    for path, (events, _) in logs.items():
        last[_job_of(path)] = max([last.get(_job_of(path), 0.0), *(event.at for event in events)])
    found = [
        (path, event)
        for path, (events, _) in logs.items()
        for event in _ended_for_it(events, _job_of(path), last[_job_of(path)])
    ]
    ordered = sorted(found, key=lambda of_log: of_log[1].at)  # stable: as its job told them
    return Told(tuple(_in_turn(ordered)), tuple(lost for _, lost in logs.values() if lost))


def _job_of(log: Path) -> str:
    """Return the id of the job that wrote a log."""
    return log.stem.removeprefix("job-").partition(SLOT)[0]


def events(folder: Path) -> tuple[core.Event, ...]:
    """Return the events of a study, see `told`."""
    return told(folder).events


def _ended_for_it(told_by_job: Sequence[core.Event], job: str, job_until: float) -> Iterator[core.Event]:
    """Yield the events of a log, and an end for each trial left open and for devices that were not released.

    Args:
        told_by_job: the log's events.
        job: the job's id.
        job_until: time of the last event in all logs of the job.
    """
    trial, holds, last = "", False, 0.0
    for event in told_by_job:
        if isinstance(event, core.Proposed | core.Reserved | core.Released) and trial:
            yield core.Ended(last, trial, "interrupted", WITHOUT_A_WORD)
            trial = ""
        if isinstance(event, core.Reserved) and holds:  # the job was queued again
            yield core.Released(last, job)
        holds = isinstance(event, core.Reserved) or (holds and not isinstance(event, core.Released))
        yield event
        if isinstance(event, core.Proposed):
            trial = event.trial
        trial, last = "" if isinstance(event, core.Ended) else trial, event.at
    if trial:
        yield core.Ended(last, trial, "interrupted", WITHOUT_A_WORD)
    if holds:
        yield core.Released(job_until, job)


def _in_turn(found: Iterable[tuple[Path, core.Event]]) -> Iterator[core.Event]:
    """Yield events so that an attempt at a trial begins after the end of the one before it.

    By the clocks of two nodes it may begin a moment before. Its events until that end are moved there.

    Args:
        found: the events in order of time, each with its log.
    """
    writers, waiting, left = dict[str, Path](), dict[str, list[tuple[Path, core.Event]]](), deque(found)
    while left:
        log, event = left.popleft()
        trial = getattr(event, "trial", "")
        if writers.get(trial, log) != log:
            waiting.setdefault(trial, []).append((log, event))
            continue
        yield event
        if isinstance(event, core.Proposed):
            writers[trial] = log
        elif isinstance(event, core.Ended):
            writers.pop(trial, None)
            left.extendleft((other, replace(late, at=event.at)) for other, late in reversed(waiting.pop(trial, [])))


def finished(folder: Path) -> set[int]:
    """Return the trials that need no further attempt."""
    skipped = {int(event.of_trial) for event in events(folder) if isinstance(event, core.Skipped)}
    return skipped | {int(event.trial) for event in events(folder) if is_final(event)}


def is_final(event: core.Event) -> TypeGuard[core.Ended]:
    """Tell whether a trial ended with an outcome that it keeps."""
    return isinstance(event, core.Ended) and event.outcome in FINAL


def feasibility(folder: Path, study: Study) -> Feasibility:
    """Return the knowledge of a study's jobs so far about the configurations that fit into memory."""
    known, configs = Feasibility(study), dict[str, Config]()
    for event in events(folder):
        if isinstance(event, core.Proposed):
            configs[event.trial] = event.schedule[0][1]
        elif isinstance(event, core.Unit):
            known.prove(event.trial, configs[event.trial])
        elif is_final(event) and event.reason.startswith(OUT_OF_MEMORY):
            known.lose(event.trial, configs[event.trial])
    return known


def last_unit(folder: Path, trial: int) -> core.Unit | None:
    """Return the latest result of a trial; None before it has one."""
    found = [event for event in events(folder) if isinstance(event, core.Unit) and event.trial == str(trial)]
    return found[-1] if found else None


def proposal_of(folder: Path, trial: int) -> core.Proposed | None:
    """Return the event of a trial's creation, with its complete configuration; None before it began."""
    found = [event for event in events(folder) if isinstance(event, core.Proposed) and event.trial == str(trial)]
    return found[-1] if found else None


def add_jobs(folder: Path, jobs: Sequence[str]) -> None:
    """Note jobs that were submitted."""
    (folder / JOBS).write_text(json.dumps([*jobs_of(folder), *jobs]) + "\n")


def jobs_of(folder: Path) -> list[str]:
    """Return the ids of the jobs that were submitted for a study."""
    path = folder / JOBS
    return list(json.loads(path.read_text())) if path.exists() else []
