"""The only driver of Ray Tune: runs a study to its end and keeps every result on the way.

Tune proposes, schedules and retries; this file hands each of its events to the ledger, to MLflow and to the
live view, and holds the study to its budget.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.result import DONE, SHOULD_CHECKPOINT
from rich.console import Console

from benchmarks.identity import digest
from benchmarks.spec import BenchmarkError, first_line
from hpo import methods
from hpo.cluster.devices import Allotment, Devices, allot, detect
from hpo.cluster.ray import Cluster, count_devices, ray_cluster, resources
from hpo.core.budget import INTERRUPTED, Interruption, is_interruption
from hpo.core.ledger import MEASURED, Shares
from hpo.core.results import Results
from hpo.core.study import Study
from hpo.engine.progress import Place, Progress, print_report
from hpo.engine.signals import GracefulSignals
from hpo.engine.snapshot import State
from hpo.engine.study_folder import Asked, Unfinished
from hpo.engine.trial import TrialActor
from hpo.store.tracker import Tracker
from hpo.terminal.console import print_line

MAX_RETRIES = 1
RAY_GUESSES = " Some common causes include"
"""What Ray says of a process that died ends with a paragraph of what may have happened elsewhere."""
SECONDS_PER_COUNT = 5.0


@dataclass(frozen=True)
class Finished:
    """A study that has ended.

    Attributes:
        run_id: its run in MLflow.
        results: its trials.
        shares: its ledger.
        accelerator: what its device-hours are hours of.
        best: the content of `best_config.json`; None without a sound trial.
        reached_end: whether it ended by budget or by running out of proposals, not by an interruption.
        reason: why it did not reach its end.
        is_kept: whether it can go on with `resume`.
        is_delivered: whether the store has all of it; if not, it is kept for `sync`.
    """

    run_id: str
    results: Results
    shares: Shares
    accelerator: str
    best: dict[str, Any] | None
    reached_end: bool
    reason: str = ""
    is_kept: bool = False
    is_delivered: bool = True


def run(study: Study, command: str, console: Console) -> Finished:
    """Run one study on a Ray of its own, store it and report it.

    Args:
        study: what to run.
        command: the command that reproduces it, for the record.
        console: where the live view and the report go.

    Raises:
        BenchmarkError: something the user gave cannot be used; nothing has been started.
    """
    finished = execute(study, command, console)
    report(console, study, finished)
    return finished


def resume(run_id: str, console: Console) -> Finished:
    """Go on with a study that was interrupted, and report it.

    Args:
        run_id: its run in MLflow.
        console: where the live view and the report go.

    Raises:
        BenchmarkError: it cannot go on here; what is kept of it stays as it is.
    """
    asked = Unfinished(run_id).asked()
    finished = execute(asked.study, asked.command, console, run_id=run_id)
    report(console, asked.study, finished)
    return finished


def report(console: Console, study: Study, finished: Finished) -> None:
    """Print what a study found, what it cost, and its best trial."""
    print_report(console, study, finished.results, finished.shares, finished.accelerator, finished.best)


def execute(
    study: Study,
    command: str,
    console: Console,
    cluster: Cluster | None = None,
    place: Place | None = None,
    plan: methods.Plan | None = None,
    run_id: str | None = None,
) -> Finished:
    """Run one study and store it.

    Args:
        study: what to run.
        command: the command that reproduces it, for the record.
        console: where the live view goes.
        cluster: where to run it; by default a Ray of its own, ended with the study.
        place: its place in a suite, for the live view.
        plan: how to search; by default as the study's method does.
        run_id: of an unfinished study, to go on with it.

    Raises:
        BenchmarkError: something the user gave cannot be used; nothing has been started.
    """
    devices = detect()
    plan = plan or methods.get(study.method).make_plan(study)
    allotment = allot(devices, study.benchmark.ranks_per_trial, plan.concurrency)
    with _opened(study, command, devices, run_id) as (tracker, unfinished):
        with nullcontext(cluster) if cluster else ray_cluster(devices) as where:
            state, reported = _take_up(unfinished, study, plan, allotment)
            if run_id is not None:
                tracker.reopen()
                tracker.take_up(state.results)
            log = _StudyLog(study, state, tracker, devices, allotment, console, place, unfinished, where)
            with where.holding(devices, allotment), log.signals, log.progress:
                reason = _fit(study, plan, _trainable(study, allotment, where, unfinished, reported), log)
            shares, wall_seconds = log.close()
            where.reclaim()
        is_kept = is_interruption(reason) and study.kind == "study"  # `confirm` trains what is missing
        is_delivered = True
        try:
            log.store(shares, wall_seconds, devices.gpu_name is not None, reason)
        except BenchmarkError as error:  # the results are shown all the same
            if unfinished.fault:  # there may be room by now
                unfinished.write(state)
            reason, is_delivered = "; ".join(filter(None, (reason, str(error), unfinished.fault))), False
        if is_delivered and not is_kept:
            unfinished.remove()
    incumbent = log.results.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Finished(
        tracker.run_id, log.results, shares, devices.accelerator, best, not reason, reason, is_kept, is_delivered
    )


@contextmanager
def _opened(study: Study, command: str, devices: Devices, run_id: str | None) -> Iterator[tuple[Tracker, Unfinished]]:
    """Run and folder of a study, new ones or those of an unfinished one; no other driver has them meanwhile."""
    if run_id is not None:
        unfinished = Unfinished(run_id)
        with unfinished.held():
            _require_same(unfinished.asked(), study, devices)
            tracker = Tracker(study, devices.accelerator, command, run_id=run_id)
            with _abandoning(tracker, unfinished):
                yield tracker, unfinished
        return
    tracker = Tracker(study, devices.accelerator, command)
    unfinished = Unfinished(tracker.run_id)
    with _abandoning(tracker, unfinished), unfinished.held():
        unfinished.begin(Asked(study, command, devices.accelerator, tracker.benchmark_digest))
        yield tracker, unfinished


def _require_same(asked: Asked, study: Study, devices: Devices) -> None:
    """Make sure that a study goes on with what it began with.

    Raises:
        BenchmarkError: model or data have changed, or devices are others, whose hours could not be added up.
    """
    if (here := digest(study.benchmark)) != asked.benchmark_digest:
        raise BenchmarkError(
            f"model, data or packages of benchmark {study.benchmark.name} are not what the study began with (digest "
            f"{asked.benchmark_digest}, here {here}); restore them, or run the study again"
        )
    if devices.accelerator != asked.accelerator:
        raise BenchmarkError(
            f"the study began on {asked.accelerator}, and this is {devices.accelerator}, whose hours cannot be added "
            "up; resume it there, or run it again here"
        )


@contextmanager
def _abandoning(tracker: Tracker, unfinished: Unfinished) -> Iterator[None]:
    """Leave no study behind that looks as if it still ran, and nothing of one that has not begun."""
    try:
        yield
    except BaseException:
        tracker.abandon()
        if not unfinished.has_state:
            unfinished.remove()
        raise


def _take_up(
    unfinished: Unfinished, study: Study, plan: methods.Plan, allotment: Allotment
) -> tuple[State, dict[str, int]]:
    """Where the study stands, and the units that each of its live trials has reported, by Tune's trial id."""
    state = unfinished.read()
    if state is None:
        return State.begin(study, plan, allotment), {}
    return state, state.go_on(study, plan, allotment, unfinished.seconds)


def _trainable(
    study: Study, allotment: Allotment, where: Cluster, unfinished: Unfinished, reported: dict[str, int]
) -> type:
    """The actor of a trial, with what it is given and the devices it takes; see `_take_up` for what was reported."""
    trainable = tune.with_parameters(
        TrialActor,
        study=study,
        cpus_per_rank=allotment.cpus_per_rank,
        gpus_per_rank=allotment.gpus_per_rank,
        pool=where.pool,
        reported=reported,
        home=unfinished.folder,
    )
    actor: type = tune.with_resources(trainable, resources(allotment))
    return actor


def _fit(study: Study, plan: methods.Plan, trainable: type, log: _StudyLog) -> str:
    """Let Tune run the study; returns why it did not reach its end, or an empty text."""
    for module in ("tune_controller", "experiment_state"):  # tracebacks of failed trials, and of a full disk
        logging.getLogger(f"ray.tune.execution.{module}").setLevel(logging.CRITICAL)
    try:
        tune.run(  # not Tuner: it pickles callbacks and stopper, which hold the driver's live objects
            trainable,
            config=plan.space,
            search_alg=log.state.search,
            scheduler=log.state.scheduler,
            num_samples=plan.num_samples,
            reuse_actors=True,
            storage_path=str(log.unfinished.tune_folder),
            name="study",
            stop=Interruption(log.budget),
            callbacks=[log],
            max_failures=MAX_RETRIES,
            raise_on_failed_trial=False,
            verbose=0,
        )
    except KeyboardInterrupt:  # the second signal: the user does not want to wait
        return INTERRUPTED
    except Exception as error:  # a searcher or scheduler that raises must not cost the results so far
        return _reason(error, study.method)
    because = log.budget.revoked_because
    return because if not because or is_interruption(because) else f"{study.method} raised {because}"


def _reason(error: Exception, method: str) -> str:
    """Why Tune gave up, in a line. What a searcher or scheduler raises reaches us as a traceback's text."""
    if isinstance(error, TuneError):
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{method} raised {lines[-1].strip() if lines else type(error).__name__}"
    return f"{method} raised {type(error).__name__}: {first_line(error)}"


class _StudyLog(tune.Callback):
    """Receives Tune's events and keeps results, ledger, MLflow and the live view in step."""

    def __init__(
        self,
        study: Study,
        state: State,
        tracker: Tracker,
        devices: Devices,
        allotment: Allotment,
        console: Console,
        place: Place | None,
        unfinished: Unfinished,
        cluster: Cluster,
    ) -> None:
        self._cluster = cluster
        self._tracker, self._max_units, self._console = tracker, study.max_units, console
        self._devices, self._allotment, self._counted = devices, allotment, state.seconds
        self.state, self.unfinished = state, unfinished
        self.results, self.ledger, self.budget = state.results, state.ledger, state.budget
        self.scheduler, self.checkpoints, self.pace = state.scheduler, state.checkpoints, state.pace
        self.signals = GracefulSignals(self.budget)
        self.progress = Progress(study, self.results, self.budget, self.ledger, console, place)
        self._began, self._signature = time.monotonic() - state.seconds, state.signature
        state.began_at = tracker.began_at = time.time() - state.seconds

    def _now(self) -> float:
        return time.monotonic() - self._began

    def setup(self, *arguments: Any, **info: Any) -> None:
        """Tune is about to begin, and has just taken SIGUSR1 for itself: it would stop without saying so."""
        self.signals.install()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial, or its retry, or a paused trial, got an actor."""
        self._begin_attempt(trial)
        self._open_row(trial)

    def _begin_attempt(self, trial: Trial) -> None:
        now = self._now()
        self.ledger.start(trial.trial_id, now)
        self.pace.begin(trial.trial_id, now)

    def _open_row(self, trial: Trial) -> None:
        """Give a trial its row and its run, once."""
        if trial.trial_id not in self.results:
            self._tracker.start_trial(self.results.add(trial.trial_id, trial.config, self._now()))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A unit is done."""
        seconds = {part: float(result[f"{part}_seconds"]) for part in MEASURED}
        now = self._now()
        device_seconds = self.ledger.report(trial.trial_id, seconds, now)
        self._tracker.report_trial(self.results.report(trial.trial_id, result, device_seconds, now))
        if not result.get(DONE) and self.pace.is_due(trial.trial_id, seconds["checkpoint"], now):
            result[SHOULD_CHECKPOINT] = True  # Tune does not look at it where the scheduler pauses the trial

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        """A trial wrote a checkpoint: what it did up to here will not be lost with a failure."""
        self.ledger.end(trial.trial_id)
        self.checkpoints.add(checkpoint)
        if trial.status == Trial.RUNNING:
            self._begin_attempt(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended well."""
        self.pace.end(trial.trial_id)
        _forget_averages(trial)
        if trial.trial_id not in self.results:  # ended before it began
            return
        self.ledger.end(trial.trial_id)
        row = self.results[trial.trial_id]
        is_whole = row.outcome != "running" or row.units >= self._max_units
        if is_whole or not self.budget.revoked:
            by_budget = trial.trial_id in self.scheduler.ended_by_budget
            self._tracker.end_trial(self.results.end(trial.trial_id, self._now(), by_budget))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """An attempt failed and the trial is tried again."""
        self.pace.fail(trial.trial_id)
        lost = self.ledger.fail(trial.trial_id, self._now())
        if trial.trial_id in self.results:  # not if its actor died before it began
            row, raised = self.results[trial.trial_id], _raised(trial)
            reason = _in_a_line(raised)
            row.device_seconds += lost
            row.failures.append(reason)
            row.raised.append(str(raised))
            print_line(self._console, f"trial {row.number} failed and is tried again: {reason}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed for good."""
        self.pace.fail(trial.trial_id)
        _forget_averages(trial)
        self._open_row(trial)  # its actor may have died before it began
        lost = self.ledger.fail(trial.trial_id, self._now())
        raised = _raised(trial)
        row = self.results.fail(trial.trial_id, self._now(), _in_a_line(raised))
        row.device_seconds += lost
        row.raised.append(str(raised))
        self._tracker.end_trial(row)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop went round."""
        if fault := self._cluster.fault:
            self.budget.revoke(f"{INTERRUPTED}: {fault}")
        self._count_devices()
        self._keep(trials)
        self.progress.show(self._now(), sum(trial.status == Trial.PAUSED for trial in trials))
        self.progress.warn("store", self._tracker.fault)
        self.progress.warn("disk", self.unfinished.fault)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Tune has ended; from here on only the store can fail, and `sync` then delivers what it lacks."""
        self.state.has_ended = not self.budget.revoked
        self._keep(trials, at_once=True)

    def _keep(self, trials: list[Trial], at_once: bool = False) -> None:
        """Keep the state if something has happened, then let MLflow know of it.

        Not while a checkpoint is being written: Tune alone knows what it will do with that trial. Not once the study
        has been told to end: what it does then is not what it would have done.
        """
        is_due = at_once or self.unfinished.is_due or self.checkpoints.superseded(trials)  # which can be deleted then
        self.state.trials = [trial for trial in trials if not trial.is_finished()]
        is_sound = not self.budget.revoked and not any(trial.is_saving for trial in self.state.trials)
        if not (is_due and is_sound and (signature := self.state.signature) != self._signature):
            self.unfinished.touch(self._now())
            return
        self.state.seconds = self._now()
        self.unfinished.write(self.state)
        self._tracker.deliver()
        if not self.unfinished.fault:  # else the state before is the one to go on with, and needs its checkpoints
            self._signature = signature
            self.checkpoints.prune(self.state.trials)

    def _count_devices(self) -> None:
        """Book what a cluster has now; trials follow its devices by themselves, unless a number of trials was asked."""
        now, at_once = self._now(), self._allotment.concurrency
        if now < self._counted + SECONDS_PER_COUNT or at_once < self._devices.count // self._allotment.ranks_per_trial:
            return
        self._counted, ranks = now, self._allotment.ranks_per_trial
        self.ledger.resize(count_devices(self._devices) // ranks * ranks, now)

    def close(self) -> tuple[Shares, float]:
        """Close what is open; returns the ledger and how long the study took, in seconds."""
        wall_seconds = self._now()
        for row in self.results.interrupt_running(wall_seconds, self.budget.revoked_because):
            self._tracker.end_trial(row)
        return self.ledger.shares(wall_seconds), wall_seconds

    def store(self, shares: Shares, wall_seconds: float, on_gpu: bool, reason: str) -> None:
        """Store the totals.

        Raises:
            BenchmarkError: the store could not be written.
        """
        status = "FINISHED" if not reason else "KILLED" if is_interruption(reason) else "FAILED"
        if fault := self._tracker.fault:
            print_line(self._console, f"waits for its store for a minute at most (Ctrl-C ends that): {fault}")
        self._tracker.finish(self.results, shares, self.budget.spent, wall_seconds, on_gpu, status)
        self.progress.warn("store", "")


def _forget_averages(trial: Trial) -> None:
    """Drop Tune's running averages of every number that a trial that has ended reported: 50 kB a trial, unread."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def _in_a_line(cause: Any) -> str:
    """Why a trial failed: the innermost error, without Ray's wrapping."""
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    last = lines[-1].partition(RAY_GUESSES)[0] if lines else "no message"
    return f"{type(cause).__name__}: {last}"


def _raised(trial: Trial) -> Any:
    """What a trial raised, from the driver's own folder: Tune's getters read the storage, where it arrives later."""
    if trial.pickled_error_file and Path(trial.pickled_error_file).is_file():
        return ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return trial.get_error()
