"""A study's folder brought into MLflow, in the layout of a study that Ray ran: by the same events, books and tracker.

Reserved is the time for which the jobs held devices, from the start of each one's script to its last trial's end. A
job's time outside of its trials is idle, the start of its own Python included; an attempt that was trained again is
failed. A study comes into MLflow once, when no trial is missing, or when the user stores it without.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.spec import BenchmarkError
from benchmarks.tasks.task import TokenStatistics
from hpo.cluster.devices import CPU
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.books import Books, outcome_of
from hpo.core.ledger import Shares
from hpo.core.results import TOKENS
from hpo.core.study import is_diverged, objective
from hpo.store import runs
from hpo.store.files import trials_csv
from hpo.store.queries import stored_runs
from hpo.store.tracker import Tracker
from hpo.terminal.console import open_console
from hpo.terminal.tables import print_report, tokens_table
from slurm import stores, study_folder
from slurm.processes import say
from slurm.profile import Profile
from slurm.study_folder import Event, SubmittedStudy

TAG = "hpo.slurm_study"
"""The name of the folder that a study was gathered from."""


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
    """

    run_id: str
    results: Books
    shares: Shares
    accelerator: str
    missing: int
    best: dict[str, object] | None


def gather(folder: Path, incomplete: bool = False) -> Gathered:
    """Store a study.

    Args:
        folder: the study's, none of its jobs running.
        incomplete: also if trials are missing; the study is then KILLED, as one that was ended early.

    Raises:
        BenchmarkError: trials are missing, it is in MLflow already, or the store cannot be used; the folder keeps all.
    """
    submitted, events = SubmittedStudy.read(folder), study_folder.events(folder)
    missing = submitted.trials - len(study_folder.finished(folder))
    if not events or (missing and not incomplete):
        raise BenchmarkError(f"{folder}: {missing} of {submitted.trials} trials have no result")
    if is_gathered(folder):
        raise BenchmarkError(f"{folder}: is in the store already")
    kinds = {event.content["accelerator"] for event in events if event.kind == "reserved"}
    accelerator = " + ".join(sorted(kinds))  # hours on different ones compare with no other study
    origin = {**runs.versions(), TAG: folder.name}
    tracker = Tracker(submitted.study, accelerator, submitted.command, origin)
    tracker.began_at = events[0].at
    try:
        books, told = Books(submitted.study.benchmark), []
        for event in _told(submitted, events, books):
            books.apply(event)
            tracker.tell(event, books)
            told.append(event)
        tracker.finish(books, event_log.text_of(told), accelerator != CPU, "KILLED" if missing else "FINISHED")
    except BaseException:
        tracker.abandon()
        raise
    (folder / study_folder.GATHERED).write_text(json.dumps({"run_id": tracker.run_id}) + "\n")
    incumbent = books.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Gathered(tracker.run_id, books, books.shares(), accelerator, missing, best)


def is_gathered(folder: Path) -> bool:
    """Tell whether a study is in MLflow, by its own word or by the store's."""
    if (folder / study_folder.GATHERED).exists():
        return True
    experiment = SubmittedStudy.read(folder).study.benchmark.name
    found = stored_runs(experiment, f"tags.`{TAG}` = '{folder.name}'")
    return any(run.info.status in ("FINISHED", "KILLED") for run in found)


def _told(submitted: SubmittedStudy, happened: Sequence[Event], books: Books) -> Iterator[core.Event]:
    """Yield the events of a study from those of its jobs.

    Args:
        submitted: the study.
        happened: its jobs' events, in order of time.
        books: the study's, which each yielded event enters before the next one is asked for.
    """
    last_attempts = {event.trial: event.at for event in happened if event.kind == "began"}
    for event in happened:
        now, trial = event.at - happened[0].at, str(event.trial)
        if event.kind == "reserved":
            yield core.Reserved(now, event.content["devices"], event.job)
        elif event.kind == "released":
            yield core.Released(now, event.job)
        elif event.kind == "began":
            if trial not in books:
                yield core.proposed(submitted.study, trial, event.trial, event.content["config"], now)
            yield core.Began(now, trial, submitted.study.benchmark.ranks_per_trial)
        elif event.kind == "unit":
            yield core.unit(submitted.study, trial, _result(submitted, event), now)
        elif event.kind == "skipped":
            yield core.Skipped(now, books.skipped + 1)
        else:
            is_tried_again = event.at < last_attempts[event.trial]
            yield from _end(submitted, event, now, books, is_tried_again)


def _result(submitted: SubmittedStudy, event: Event) -> dict[str, object]:
    """Return a unit's result as a trial under Ray reports it."""
    metrics, benchmark = event.content, submitted.study.benchmark
    tokens = [TokenStatistics(**split) for split in metrics.get(TOKENS, [])]
    judged = {"objective": objective(benchmark, metrics), "diverged": is_diverged(benchmark, metrics)}
    return {**metrics, **judged, TOKENS: tokens}


def _end(
    submitted: SubmittedStudy, event: Event, now: float, books: Books, is_tried_again: bool
) -> Iterator[core.Event]:
    """Yield the events of the end of an attempt."""
    trial, outcome, reason = str(event.trial), event.content["outcome"], event.content["reason"]
    if outcome == "failed" or (outcome == "interrupted" and is_tried_again):
        yield core.Failed(now, trial, reason)
    if outcome == "interrupted" and is_tried_again:
        return
    if outcome in ("completed", "diverged"):
        outcome, reason = outcome_of(submitted.study, books[trial], budget_spent=False)
    yield core.Ended(now, trial, outcome, reason)


# ---- as a job


def gather_into_store(folder: Path, profile: Profile, file: Path, incomplete: bool = False) -> None:
    """Gather a study into the cluster's store, write its table beside its folder, and print its report.

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
    (folder / stores.FILE).unlink(missing_ok=True)  # of an attempt that did not reach its end
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with stores.served(profile, folder) as tracking_uri:
            os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
            found = gather(folder, incomplete)
    except BenchmarkError as error:
        again = shlex.join(["python", "-m", "hpo", "slurm", "collect", "--cluster", str(file)])
        raise BenchmarkError(f"{error}; nothing is lost, all results are in {folder}; to try again: {again}") from None
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
    table = folder.with_suffix(".csv")
    table.write_text(trials_csv(submitted.study.benchmark, found.results.rows))
    console = open_console()
    if found.results.tokens:
        console.print(tokens_table(found.results.tokens, submitted.study.benchmark.task))
    print_report(console, submitted.study, found.results, found.shares, found.accelerator, found.best)
    say(f"{len(found.results.rows)} trials in {table}")


def _how_to_go_on(folder: Path, file: Path) -> str:
    hpo = ["python", "-m", "hpo", "slurm"]
    resume = shlex.join([*hpo, "resume", "--cluster", str(file), str(folder)])
    collect = shlex.join([*hpo, "collect", "--cluster", str(file), "--incomplete"])
    return f"to train them: {resume}; to store the study without them: {collect}"
