"""A study's folder brought into MLflow, in the layout of a study that Ray ran: by the same tracker, results and ledger.

Reserved is the time for which the jobs held devices, from the start of each one's script to its last trial's end. A
job's time outside of its trials is idle, the start of its own Python included; an attempt that was trained again is
failed. A study comes into MLflow once, when no trial is missing, or when the user stores it without.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.spec import BenchmarkError
from benchmarks.tasks.task import TokenStatistics
from hpo.cluster.devices import CPU
from hpo.core.ledger import MEASURED, Ledger, Shares
from hpo.core.results import TOKENS, Results
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
        results: its trials.
        shares: its ledger.
        accelerator: the kind of device that its device-hours are hours of.
        missing: trials that have no result.
        best: the content of `best_config.json`; None without a sound trial.
    """

    run_id: str
    results: Results
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
        replay = _Replay(submitted, tracker, events)
        status = "KILLED" if missing else "FINISHED"
        tracker.finish(replay.results, replay.shares, replay.units, replay.wall_seconds, accelerator != CPU, status)
    except BaseException:
        tracker.abandon()
        raise
    (folder / study_folder.GATHERED).write_text(json.dumps({"run_id": tracker.run_id}) + "\n")
    incumbent = replay.results.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Gathered(tracker.run_id, replay.results, replay.shares, accelerator, missing, best)


def is_gathered(folder: Path) -> bool:
    """Tell whether a study is in MLflow, by its own word or by the store's."""
    if (folder / study_folder.GATHERED).exists():
        return True
    experiment = SubmittedStudy.read(folder).study.benchmark.name
    found = stored_runs(experiment, f"tags.`{TAG}` = '{folder.name}'")
    return any(run.info.status in ("FINISHED", "KILLED") for run in found)


class _Replay:
    """Lets everything that the jobs did happen again, to the books of a study.

    Attributes:
        results: the trials.
        shares: the closed ledger.
        units: resource units spent, those of failed attempts included.
        wall_seconds: from the first device that a job held to the last.
    """

    def __init__(self, submitted: SubmittedStudy, tracker: Tracker, events: list[Event]) -> None:
        self._submitted, self._tracker = submitted, tracker
        self.results, self.units = Results(submitted.study), 0
        self._ledger = Ledger(0, submitted.study.benchmark.ranks_per_trial)
        self._held: dict[str, int] = {}
        self._attempts = {event.trial: event for event in events if event.kind == "began"}  # the last of each
        for event in events:
            happen: Callable[[Event, float], None] = getattr(self, f"_on_{event.kind}")
            happen(event, event.at - events[0].at)
        self.wall_seconds = events[-1].at - events[0].at
        self.shares = self._ledger.shares(self.wall_seconds)

    def _on_reserved(self, event: Event, now: float) -> None:
        self._held[event.job] = event.content["devices"]
        self._ledger.resize(sum(self._held.values()), now)

    def _on_released(self, event: Event, now: float) -> None:
        self._held.pop(event.job, None)
        self._ledger.resize(sum(self._held.values()), now)

    def _on_began(self, event: Event, now: float) -> None:
        name = str(event.trial)
        if name not in self.results:
            row = self.results.add(name, event.content["config"], now)
            row.number = event.trial  # whichever began first
            self._tracker.start_trial(row)
        self._ledger.start(name, now)

    def _on_unit(self, event: Event, now: float) -> None:
        name, metrics, benchmark = str(event.trial), event.content, self._submitted.study.benchmark
        seconds = {part: float(metrics[f"{part}_seconds"]) for part in MEASURED}
        used = self._ledger.report(name, seconds, now)
        told: dict[str, Any] = {"objective": objective(benchmark, metrics), "diverged": is_diverged(benchmark, metrics)}
        told[TOKENS] = [TokenStatistics(**split) for split in metrics.get(TOKENS, [])]
        self._tracker.report_trial(self.results.report(name, {**metrics, **told}, used, now))
        self.units += 1

    def _on_skipped(self, event: Event, now: float) -> None:
        self.results.skipped += 1

    def _on_ended(self, event: Event, now: float) -> None:
        name, outcome, reason = str(event.trial), event.content["outcome"], event.content["reason"]
        if outcome == "failed":
            lost = self._ledger.fail(name, now)
            row = self.results.fail(name, now, reason)
        elif outcome == "interrupted" and event.at < self._attempts[event.trial].at:  # it was trained again
            self.results[name].device_seconds += self._ledger.fail(name, now)
            return
        elif outcome == "interrupted":
            self._ledger.end(name)
            row, lost = self.results[name], 0.0
            row.outcome, row.ended_seconds, row.reason = "interrupted", now, reason
        else:
            self._ledger.end(name)
            row, lost = self.results.end(name, now, budget_spent=False), 0.0
        row.device_seconds += lost
        self._tracker.end_trial(row)


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
