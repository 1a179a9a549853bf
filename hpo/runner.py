"""The only driver of Ray Tune: runs a study to its end and keeps every result on the way.

Tune proposes, schedules and retries; this file hands each of its events to the ledger, to MLflow and to the
live view, and holds the study to its budget.
"""

from __future__ import annotations

import logging
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm, SearchGenerator
from rich.console import Console

from benchmarks.spec import BenchmarkError, first_line
from hpo import methods
from hpo.budget import INTERRUPTED, Budget, BudgetedSearch, Interruption
from hpo.checkpoints import Checkpoints
from hpo.cluster import Cluster, count_devices, ray_cluster, resources
from hpo.devices import Allotment, Devices, allot, detect
from hpo.ledger import MEASURED, Ledger, Shares
from hpo.population import PopulationScheduler
from hpo.progress import Place, Progress, print_report
from hpo.results import Results
from hpo.study import Study
from hpo.tracking import Tracker
from hpo.trial import TrialActor

MAX_RETRIES = 1
SECONDS_PER_COUNT = 5.0
GRACEFUL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # SLURM: --signal=B:USR1@180


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
    """

    run_id: str
    results: Results
    shares: Shares
    accelerator: str
    best: dict[str, Any] | None
    reached_end: bool
    reason: str = ""


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
    print_report(console, study, finished.results, finished.shares, finished.accelerator, finished.best)
    return finished


def execute(
    study: Study,
    command: str,
    console: Console,
    cluster: Cluster | None = None,
    place: Place | None = None,
    plan: methods.Plan | None = None,
) -> Finished:
    """Run one study and store it.

    Args:
        study: what to run.
        command: the command that reproduces it, for the record.
        console: where the live view goes.
        cluster: where to run it; by default a Ray of its own, ended with the study.
        place: its place in a suite, for the live view.
        plan: how to search; by default as the study's method does.

    Raises:
        BenchmarkError: something the user gave cannot be used; nothing has been started.
    """
    devices = detect()
    plan = plan or methods.get(study.method).make_plan(study)
    allotment = allot(devices, study.benchmark.ranks_per_trial, plan.concurrency)
    tracker = Tracker(study, devices.accelerator, command)
    with _abandoning(tracker), nullcontext(cluster) if cluster else ray_cluster(devices) as where:
        log = _StudyLog(study, plan, tracker, devices, allotment, console, place)
        with where.holding(devices, allotment), log.signals, log.progress:
            reason = _fit(study, plan, allotment, log, where.pool)
        shares, wall_seconds = log.close()
        where.reclaim()
    try:
        log.store(shares, wall_seconds, devices.gpu_name is not None, reason)
    except BenchmarkError as error:  # the results are shown all the same
        reason = str(error)
    incumbent = log.results.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Finished(tracker.run_id, log.results, shares, devices.accelerator, best, not reason, reason)


@contextmanager
def _abandoning(tracker: Tracker) -> Iterator[None]:
    """Leave no study behind that looks as if it still ran."""
    try:
        yield
    except BaseException:
        tracker.abandon()
        raise


def _fit(study: Study, plan: methods.Plan, allotment: Allotment, log: _StudyLog, pool: ActorHandle) -> str:
    """Let Tune run the study; returns why it did not reach its end, or an empty text."""
    searcher = plan.searcher
    search = searcher if isinstance(searcher, SearchAlgorithm) else SearchGenerator(searcher)
    trainable = tune.with_parameters(
        TrialActor,
        study=study,
        cpus_per_rank=allotment.cpus_per_rank,
        gpus_per_rank=allotment.gpus_per_rank,
        pool=pool,
    )
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)  # tracebacks of failed trials
    with tempfile.TemporaryDirectory(prefix="hpo-tune-") as folder:
        try:
            tune.run(  # not Tuner: it pickles callbacks and stopper, which hold the driver's live objects
                tune.with_resources(trainable, resources(allotment)),
                config=plan.space,
                search_alg=BudgetedSearch(search, log.scheduler),
                scheduler=log.scheduler,
                num_samples=plan.num_samples,
                reuse_actors=True,
                storage_path=folder,
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
    return because if because in ("", INTERRUPTED) else f"{study.method} raised {because}"


def _reason(error: Exception, method: str) -> str:
    """Why Tune gave up, in a line. What a searcher or scheduler raises reaches us as a traceback's text."""
    if isinstance(error, TuneError):
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{method} raised {lines[-1].strip() if lines else type(error).__name__}"
    return f"{method} raised {type(error).__name__}: {first_line(error)}"


class _GracefulSignals:
    """End a study in good order on SIGINT, SIGTERM or SIGUSR1; a second signal has its usual effect."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._before = {number: signal.getsignal(number) for number in GRACEFUL_SIGNALS}

    def __enter__(self) -> None:
        self.install()

    def __exit__(self, *_: Any) -> None:
        self._restore()

    def install(self) -> None:
        """Take the signals; again where a library has taken one since."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, *_: Any) -> None:
        self._budget.revoke()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _StudyLog(tune.Callback):
    """Receives Tune's events and keeps results, ledger, MLflow and the live view in step."""

    def __init__(
        self,
        study: Study,
        plan: methods.Plan,
        tracker: Tracker,
        devices: Devices,
        allotment: Allotment,
        console: Console,
        place: Place | None,
    ) -> None:
        self._tracker, self._max_units = tracker, study.max_units
        self._devices, self._allotment, self._counted = devices, allotment, 0.0
        population = plan.scheduler if isinstance(plan.scheduler, PopulationScheduler) else None
        self.results = Results(study, varies=population is not None)
        self.ledger = Ledger(allotment.devices, allotment.ranks_per_trial)
        self.budget = Budget(study.budget_units, _deadline_seconds(study, allotment))
        self.scheduler = plan.within(self.budget, study.max_units)
        if population is not None:
            population.on_exploit = self.results.exploit
        self.checkpoints = Checkpoints()
        self.signals = _GracefulSignals(self.budget)
        self.progress = Progress(study, self.results, self.budget, self.ledger, console, place)
        self._began = time.monotonic()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def setup(self, *arguments: Any, **info: Any) -> None:
        """Tune is about to begin, and has just taken SIGUSR1 for itself: it would stop without saying so."""
        self.signals.install()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial, or its retry, or a paused trial, got an actor."""
        self.ledger.start(trial.trial_id, self._now())
        self._open_row(trial)

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

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        """A trial wrote a checkpoint: what it did up to here will not be lost with a failure."""
        self.ledger.end(trial.trial_id)
        self.checkpoints.add(checkpoint)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The checkpoint before it may have become superfluous."""
        self.checkpoints.prune(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended well."""
        self.checkpoints.prune([other for other in trials if other is not trial])
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
        lost = self.ledger.fail(trial.trial_id, self._now())
        if trial.trial_id in self.results:  # not if its actor died before it began
            self.results[trial.trial_id].device_seconds += lost

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed for good."""
        self._open_row(trial)  # its actor may have died before it began
        lost = self.ledger.fail(trial.trial_id, self._now())
        row = self.results.fail(trial.trial_id, self._now(), failure_reason(trial))
        row.device_seconds += lost
        self._tracker.end_trial(row)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop went round."""
        self._count_devices()
        self.progress.show(self._now(), sum(trial.status == Trial.PAUSED for trial in trials))

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
        status = "FINISHED" if not reason else "KILLED" if reason == INTERRUPTED else "FAILED"
        self._tracker.finish(self.results, shares, self.budget.spent, wall_seconds, on_gpu, status)


def _deadline_seconds(study: Study, allotment: Allotment) -> float | None:
    """When the cap in device-hours is reached, all devices being reserved all the time."""
    return None if study.gpu_hours is None else study.gpu_hours * 3600 / allotment.devices


def failure_reason(trial: Trial) -> str:
    """Why a trial failed, in a line: the innermost error, without Ray's wrapping."""
    cause = _raised(trial)
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else 'no message'}"


def _raised(trial: Trial) -> Any:
    """What a trial raised, from the driver's own folder: Tune's getters read the storage, where it arrives later."""
    if trial.pickled_error_file and Path(trial.pickled_error_file).is_file():
        return ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return trial.get_error()
