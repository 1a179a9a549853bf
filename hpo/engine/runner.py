"""The only driver of Ray Tune: runs a study to its end and keeps every result on the way.

Tune proposes, schedules and retries; `hpo.engine.events` tells each of its events to books, MLflow and the live view,
and `hpo.engine.budgeted` holds the study to its budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from rich.console import Console

from benchmarks.check.start import check_start
from benchmarks.clock import Clock
from benchmarks.identity import digest
from benchmarks.spec import BenchmarkError, first_line
from hpo.cluster.devices import Allotment, Devices, Placement, place
from hpo.cluster.ray import Cluster, resources, set_defaults
from hpo.cluster.room import require_room_for
from hpo.core.books import Books
from hpo.core.budget import INTERRUPTED, Budget, is_interruption
from hpo.core.ledger import Shares
from hpo.core.results import EVERY_TRIAL_FAILS, why_nothing_found
from hpo.core.study import Study
from hpo.engine import snapshot
from hpo.engine.budgeted import samples
from hpo.engine.events import StudyLog
from hpo.engine.executor import Executor as Executor
from hpo.engine.executor import OnRay as OnRay
from hpo.engine.progress import SuitePosition
from hpo.engine.snapshot import State
from hpo.engine.study_folder import Asked, Unfinished
from hpo.engine.trial import TrialActor
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.store.tracker import Tracker
from hpo.terminal import errors
from hpo.terminal.tables import print_report

MAX_RETRIES = 1


@dataclass(frozen=True)
class Finished:
    """A study that has ended.

    Attributes:
        run_id: its run in MLflow.
        books: its trials and device time.
        shares: its ledger.
        accelerator: the device whose hours the ledger counts.
        best: the content of `best_config.json`; None without a sound trial.
        reached_end: whether it ended by budget or by running out of proposals, not by an interruption.
        reason: cause of an early end.
        is_kept: whether `resume` can continue it.
        is_delivered: whether the store has all of it; if not, it is kept for `sync`.
    """

    run_id: str
    books: Books
    shares: Shares
    accelerator: str
    best: dict[str, Any] | None
    reached_end: bool
    reason: str = ""
    is_kept: bool = False
    is_delivered: bool = True


def run(
    study: Study,
    command: str,
    console: Console,
    executor: Executor | None = None,
    plan: Plan | None = None,
    placement: Placement | None = None,
) -> Finished:
    """Run one study, store it and report it.

    Args:
        study: the study to run.
        command: the command that reproduces it, for the record.
        console: where the live view and the report go.
        executor: see `execute`.
        plan: see `execute`.
        placement: see `execute`.

    Raises:
        BenchmarkError: something the user gave cannot be used; nothing has been started.
    """
    finished = execute(study, command, console, executor, plan=plan, placement=placement)
    report(console, study, finished)
    return finished


def resume(run_id: str, console: Console) -> Finished:
    """Resume a study that was interrupted, and report it.

    Args:
        run_id: its run in MLflow.
        console: where the live view and the report go.

    Raises:
        BenchmarkError: it cannot be resumed here; its folder stays as it is.
    """
    asked = Unfinished(run_id).asked()
    finished = execute(asked.study, asked.command, console, run_id=run_id)
    report(console, asked.study, finished)
    return finished


def report(console: Console, study: Study, finished: Finished) -> None:
    """Print the trials, the cost and the best trial of a study."""
    print_report(console, study, finished.books, finished.shares, finished.accelerator, finished.best)


def execute(
    study: Study,
    command: str,
    console: Console,
    executor: Executor | None = None,
    position: SuitePosition | None = None,
    plan: Plan | None = None,
    placement: Placement | None = None,
    run_id: str | None = None,
    open_tracker: Callable[..., Tracker] = Tracker,
    open_folder: Callable[[str], Unfinished] = Unfinished,
) -> Finished:
    """Run one study and store it.

    Args:
        study: the study to run.
        command: the command that reproduces it, for the record.
        console: where the live view goes.
        executor: where its trials run; by default on a Ray of its own, ended with the study.
        position: its place in a suite, for the live view.
        plan: how to search; by default as the study's method does.
        placement: its devices, if they have been looked up already.
        run_id: of an unfinished study, to resume it.
        open_tracker: makes the tracker that stores it, with the arguments of `Tracker`.
        open_folder: makes the folder that keeps its state, by the id of its run.

    Raises:
        BenchmarkError: something the user gave cannot be used; nothing has been started.
    """
    set_defaults()
    executor = executor or OnRay()
    clock = executor.clock
    plan = plan or registry.get(study.method).make_plan(study)
    placement = placement or place(study.benchmark, executor.detect(), plan.concurrency)
    devices, allotment = placement.devices, placement.allotment
    _check(study, placement, paused=plan.paused if run_id is None else 0)
    opened = _opened(study, command, devices, run_id, open_tracker, open_folder)
    with opened as (tracker, unfinished), ExitStack() as until_delivered:
        with executor.open(devices) as where:
            where.require_shared(unfinished.folder)
            state, reported = _take_up(unfinished, study, plan, allotment, clock)
            if run_id is not None:
                tracker.reopen()
                tracker.resume(state.log.events())
            log = StudyLog(study, state, tracker, devices, allotment, console, position, unfinished, where, clock)
            until_delivered.enter_context(log.signals)
            with where.holding(devices, allotment), log.progress:
                given = _given(
                    replace(study, benchmark=placement.benchmark), allotment, where, unfinished, reported, clock
                )
                reason = _fit(executor, study, plan, given, resources(allotment), log)
            log.close()
            where.reclaim()
        is_study = study.kind == "study"  # `confirm` trains the missing ones
        is_kept = is_interruption(reason) and is_study and unfinished.can_be_resumed
        fault = log.deliver(devices.gpu_name is not None, reason)
        reason = "; ".join(filter(None, (reason, fault)))
        if not fault and not is_kept:
            unfinished.remove()
    return _finished(tracker, log.books, devices, reason, is_kept, is_delivered=not fault)


def _finished(
    tracker: Tracker, books: Books, devices: Devices, reason: str, is_kept: bool, is_delivered: bool
) -> Finished:
    """Return the record of a study that has ended, with its incumbent if it found one."""
    incumbent = None if reason.startswith(EVERY_TRIAL_FAILS) else books.incumbent()
    best = tracker.best_config(incumbent) if incumbent else None
    return Finished(
        tracker.run_id,
        books,
        books.shares(),
        devices.accelerator,
        best,
        not reason,
        reason,
        is_kept,
        is_delivered,
    )


def _check(study: Study, placement: Placement, paused: int) -> None:
    """Check what only the libraries and the devices know, before anything is spent, and print warnings.

    Args:
        study: the study to run.
        placement: its devices.
        paused: trials that may wait with a checkpoint each; 0 leaves the disk unchecked.

    Raises:
        BenchmarkError: model, data, memory or disk do not do.
    """
    for warning in check_start(study.benchmark):
        errors.warn(warning)
    require_room_for(placement, study.method, paused)


@contextmanager
def _opened(
    study: Study,
    command: str,
    devices: Devices,
    run_id: str | None,
    open_tracker: Callable[..., Tracker],
    open_folder: Callable[[str], Unfinished],
) -> Iterator[tuple[Tracker, Unfinished]]:
    """Hold the run and folder of a study, new or unfinished ones; no other driver has them meanwhile."""
    if run_id is not None:
        unfinished = open_folder(run_id)
        with unfinished.held():
            _require_same(unfinished.asked(), study, devices)
            tracker = open_tracker(study, devices.accelerator, command, run_id=run_id)
            with _abandoning(tracker, unfinished):
                yield tracker, unfinished
        return
    tracker = open_tracker(study, devices.accelerator, command)
    unfinished = open_folder(tracker.run_id)
    with _abandoning(tracker, unfinished), unfinished.held():
        unfinished.begin(Asked(study, command, devices.accelerator, tracker.benchmark_digest))
        yield tracker, unfinished


def _require_same(asked: Asked, study: Study, devices: Devices) -> None:
    """Make sure that a study continues with its model, data and kind of device.

    Raises:
        BenchmarkError: model or data have changed, or devices are others, whose hours could not be added up.
    """
    if (here := digest(study.benchmark)) != asked.benchmark_digest:
        raise BenchmarkError(
            f"model, data or packages of benchmark {study.benchmark.name} differ from those that the study began with "
            f"(digest {asked.benchmark_digest}, here {here}); restore them, or run the study again"
        )
    if devices.accelerator != asked.accelerator:
        raise BenchmarkError(
            f"the study began on {asked.accelerator}, and this is {devices.accelerator}, whose hours cannot be added "
            "up; resume it there, or run it again here"
        )


@contextmanager
def _abandoning(tracker: Tracker, unfinished: Unfinished) -> Iterator[None]:
    """Mark a study as ended if it fails to start, and leave nothing of one that has not begun."""
    try:
        yield
    except BaseException:
        tracker.abandon()
        if not unfinished.has_state:
            unfinished.remove()
        raise


def _take_up(
    unfinished: Unfinished, study: Study, plan: Plan, allotment: Allotment, clock: Clock
) -> tuple[State, dict[str, int]]:
    """Return the state of the study, and the units that each of its live trials has reported, by Tune's trial id."""
    state = snapshot.read(unfinished)
    if state is None:
        return State.begin(study, plan, allotment, unfinished.log, clock), {}
    state.checkpoints.sweep(unfinished.folder)
    return state, state.go_on(study, plan, allotment, unfinished.seconds, clock)


def _given(
    study: Study, allotment: Allotment, where: Cluster, unfinished: Unfinished, reported: dict[str, int], clock: Clock
) -> dict[str, Any]:
    """Return arguments of `TrialActor.setup`, beside a configuration; see `_take_up` for the reported units."""
    return {
        "study": study,
        "cpus_per_rank": allotment.cpus_per_rank,
        "gpus_per_rank": allotment.gpus_per_rank,
        "pool": where.pool_for(study.benchmark),
        "reported": reported,
        "home": unfinished.folder,
        "clock": clock,
    }


def _fit(
    executor: Executor,
    study: Study,
    plan: Plan,
    given: dict[str, Any],
    resources: tune.PlacementGroupFactory,
    log: StudyLog,
) -> str:
    """Let Tune run the study; return the reason if it did not reach its end, or an empty text."""
    _silence_tune()
    try:
        executor.fit(
            TrialActor,
            given,
            resources,
            config=plan.space,
            search_alg=log.state.search,
            scheduler=log.state.scheduler,
            num_samples=samples(plan),
            storage_path=str(log.unfinished.tune_folder),
            name="study",
            stop=Interruption(log.budget),
            callbacks=[log],
            max_failures=MAX_RETRIES,
        )
    except KeyboardInterrupt:  # the second signal: the user does not want to wait
        return INTERRUPTED
    except Exception as error:  # a searcher or scheduler that raises must not cost the results so far
        return _reason(error, study.method)
    return _why_it_ended(study, log)


@cache
def _silence_tune() -> None:
    """Let Tune log no tracebacks of failed trials or a full disk, and no names of such trials: reports have them."""
    for module in ("execution.tune_controller", "execution.experiment_state", "tune"):
        logging.getLogger(f"ray.tune.{module}").setLevel(logging.CRITICAL)


class Interruption(tune.Stopper):
    """Stopper that ends a study within its units when it is interrupted."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Leave it to the scheduler to end trials."""
        return False

    def stop_all(self) -> bool:
        """Tell whether the study was interrupted."""
        return self._budget.revoked


def _why_it_ended(study: Study, log: StudyLog) -> str:
    """Return the reason if a study whose search went well did not reach its end; else an empty text."""
    because = log.budget.revoked_because
    if is_interruption(because) or because.startswith(EVERY_TRIAL_FAILS):
        return because
    if because:
        return f"{study.method} raised {because}"
    if nothing_found := why_nothing_found(log.books.rows):
        return nothing_found
    if not log.books.units and study.gpu_hours is not None:
        return f"gpu_hours is {study.gpu_hours:g}, but no trial finished a unit in that time; raise --gpu-hours"
    return ""


def _reason(error: Exception, method: str) -> str:
    """Return Tune's reason to give up, in a line. An error of a searcher or scheduler arrives as a traceback's text."""
    if isinstance(error, TuneError):
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{method} raised {lines[-1].strip() if lines else type(error).__name__}"
    return f"{method} raised {type(error).__name__}: {first_line(error)}"
