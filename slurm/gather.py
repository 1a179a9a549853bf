"""A study's folder brought into MLflow, in the layout of a study that Ray ran: by the same events, books and tracker.

Reserved is the time for which the jobs held devices, from the start of each one's script to its last trial's end. A
job's time outside of its trials is idle, the start of its own Python included; an attempt that was trained again is
failed. A study comes into MLflow once, when no trial is missing, or when the user stores it without.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import SoftFileLease, Timeout

from benchmarks.spec import BenchmarkError
from hpo.cluster.devices import CPU
from hpo.core import events as core
from hpo.core.books import Books, entered, outcome_of
from hpo.core.ledger import Shares
from hpo.core.results import why_nothing_found
from hpo.store import runs, sharing
from hpo.store.files import trials_csv
from hpo.store.queries import states
from hpo.store.tracker import Tracker
from hpo.terminal import errors
from hpo.terminal.console import open_console
from hpo.terminal.tables import print_report, tokens_table
from slurm import stores, study_folder
from slurm.processes import say
from slurm.profile import Profile
from slurm.study_folder import SubmittedStudy

TAG = "hpo.slurm_study"
"""The name of the folder that a study was gathered from."""
ENDED = ("FINISHED", "KILLED")
"""States of a run that has all of its study. One that is FAILED may lack a part: gathering writes the run again."""
LEASE = "gather.lease"


@dataclass(frozen=True)
class Gathered:
    """A study that is in MLflow now.

    Attributes:
        run_id: its run.
        results: its trials and device time.
        shares: its ledger.
        accelerator: the kind of device that its device-hours are hours of.
        missing: trials that have no result.
        best: the content of `best_config.json`; None without a sound trial.
        reason: the reason why the study is FAILED, since every trial failed; else empty.
    """

    run_id: str
    results: Books
    shares: Shares
    accelerator: str
    missing: int
    best: dict[str, object] | None
    reason: str


def gather(folder: Path, incomplete: bool = False) -> Gathered:
    """Store a study; it is FAILED if every trial failed.

    Args:
        folder: the study's, none of its jobs running.
        incomplete: also if trials are missing; the study is then KILLED, as one that was ended early.

    Raises:
        BenchmarkError: trials are missing, it is in MLflow already, or the store cannot be used; the folder keeps all.
    """
    with _alone(folder):
        submitted, told = SubmittedStudy.read(folder), study_folder.told(folder)
        missing = submitted.trials - len(study_folder.finished(folder))
        if not told.events or (missing and not incomplete):
            raise BenchmarkError(f"{folder}: {missing} of {submitted.trials} trials have no result")
        if is_gathered(folder):
            raise BenchmarkError(f"{folder}: is in the store already")
        for lost in told.torn:
            say(lost)
        kinds = {event.accelerator for event in told.events if isinstance(event, core.Reserved)}
        accelerator = " + ".join(sorted(kinds))  # hours on different ones compare with no other study
        books = Books(submitted.study.benchmark)
        events = list(entered(_settled(submitted, told.events, books), books))
        tracker = _tracker(submitted, folder, accelerator)
        tracker.began_at = submitted.began_at + told.events[0].at
        reason = "" if missing else why_nothing_found(books.rows)
        status = "KILLED" if missing else "FAILED" if reason else "FINISHED"
        tracker.tell_whole(events, accelerator != CPU, status)
        (folder / study_folder.GATHERED).write_text(json.dumps({"run_id": tracker.run_id}) + "\n")
    incumbent = books.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Gathered(tracker.run_id, books, books.shares(), accelerator, missing, best, reason)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes, on any node, from gathering a study at the same time.

    Raises:
        BenchmarkError: another one gathers it.
    """
    try:
        with SoftFileLease(folder / LEASE, lease_duration=sharing.LEASE_SECONDS, timeout=sharing.PATIENCE_SECONDS):
            yield
    except Timeout:
        raise BenchmarkError(f"{folder}: another job gathers it; if none runs, delete {LEASE} there") from None


def _tracker(submitted: SubmittedStudy, folder: Path, accelerator: str) -> Tracker:
    """Return the writer of a study: of the run that a gathering which broke off has left, or else of a new one."""
    origin = {**runs.versions(), TAG: folder.name}
    left = next((run_id for run_id, state in _stored(folder, submitted).items() if state not in ENDED), None)
    return Tracker(submitted.study, accelerator, submitted.command, origin, left)


def is_gathered(folder: Path) -> bool:
    """Tell whether a study is in MLflow, by its own word or by the store's."""
    if (folder / study_folder.GATHERED).exists():
        return True
    return any(state in ENDED for state in _stored(folder, SubmittedStudy.read(folder)).values())


def _stored(folder: Path, submitted: SubmittedStudy) -> dict[str, str]:
    """Return the states of the runs that a study has in the store."""
    return states(submitted.study.benchmark.name, f"tags.`{TAG}` = '{folder.name}'")


def _settled(submitted: SubmittedStudy, told: Sequence[core.Event], books: Books) -> Iterator[core.Event]:
    """Yield the events of a study from those of its jobs, which know nothing of each other.

    Time begins with the first device. A trial is proposed once: an attempt of which only a later one tells the end has
    failed.

    Args:
        submitted: the study.
        told: its jobs' events, in order of time.
        books: the study's, which each yielded event enters before the next one is asked for.
    """
    last = {event.trial: place for place, event in enumerate(told) if isinstance(event, core.Proposed)}
    for place, event in enumerate(told):
        event = replace(event, at=event.at - told[0].at)
        if isinstance(event, core.Proposed) and event.trial in books:
            continue
        if isinstance(event, core.Skipped):
            event = replace(event, proposals=books.skipped + 1)
        elif isinstance(event, core.Ended) and event.outcome == "interrupted" and place < last[event.trial]:
            event = core.Failed(event.at, event.trial, event.reason)
        elif isinstance(event, core.Ended) and event.outcome in ("completed", "diverged"):
            outcome, reason = outcome_of(submitted.study, books[event.trial], budget_spent=False)
            event = replace(event, outcome=outcome, reason=reason)
        yield event


# ---- as a job


def gather_into_store(folder: Path, profile: Profile, file: Path, incomplete: bool = False) -> int:
    """Gather a study into the cluster's store, write its table, and print its report; return the exit status.

    Args:
        folder: the study's.
        profile: the cluster.
        file: the profile's file.
        incomplete: see `gather`.

    Raises:
        BenchmarkError: see `gather`; the message says how to go on.
    """
    submitted = SubmittedStudy.read(folder)
    missing = submitted.trials - len(study_folder.finished(folder))
    if missing and not incomplete:
        raise BenchmarkError(
            f"{folder}: {missing} of {submitted.trials} trials have no result; {_how_to_go_on(folder, file)}"
        )
    try:
        with stores.opened(profile):
            found = gather(folder, incomplete)
    except BenchmarkError as error:
        again = shlex.join(["python", "-m", "hpo", "slurm", "collect", "--cluster", str(file)])
        raise BenchmarkError(f"{error}; nothing is lost, all results are in {folder}; to try again: {again}") from None
    table = folder.with_suffix(".csv")
    table.write_text(trials_csv(submitted.study.benchmark, found.results.rows))
    console = open_console()
    if found.results.tokens:
        console.print(tokens_table(found.results.tokens, submitted.study.benchmark.task))
    print_report(console, submitted.study, found.results, found.shares, found.accelerator, found.best)
    say(f"{len(found.results.rows)} trials in {table}")
    if found.reason:
        errors.show_nothing_found(found.reason)
    return 1 if found.reason else 0


def _how_to_go_on(folder: Path, file: Path) -> str:
    hpo = ["python", "-m", "hpo", "slurm"]
    resume = shlex.join([*hpo, "resume", "--cluster", str(file), str(folder)])
    collect = shlex.join([*hpo, "collect", "--cluster", str(file), "--incomplete"])
    return f"to train them: {resume}; to store the study without them: {collect}"
