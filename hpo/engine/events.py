"""Translate Ray Tune's events into those of the study, for its books, MLflow and the live view."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import DONE, SHOULD_CHECKPOINT
from rich.console import Console

from benchmarks.clock import REAL, Clock
from benchmarks.files import writable
from benchmarks.out_of_memory import failure_reason, innermost
from benchmarks.space import Config
from benchmarks.spec import BenchmarkError
from hpo.cluster.devices import Allotment, Devices
from hpo.cluster.ray import Cluster
from hpo.core.books import outcome_of
from hpo.core.budget import INTERRUPTED, is_interruption
from hpo.core.events import Began, Checkpoint, Ended, Event, Exploited, Failed, Resized, Retried, proposed, unit
from hpo.core.results import EVERY_TRIAL_FAILS, TRAINED_AGAIN
from hpo.core.study import Study, training_of
from hpo.core.wording import counted
from hpo.engine.budgeted import raised
from hpo.engine.checkpoints import seconds_of
from hpo.engine.progress import Progress, SuitePosition
from hpo.engine.signals import GracefulSignals
from hpo.engine.snapshot import State
from hpo.engine.study_folder import Unfinished
from hpo.store.tracker import Tracker
from hpo.terminal.console import print_line

RAY_GUESSES = " Some common causes include"
"""Begin of the last paragraph of Ray's message on a dead process, which lists guesses."""
SECONDS_PER_COUNT = 5.0
MAX_SECONDS_UNWRITTEN = 60.0
"""Time for which a state waits for checkpoints to reach the disk; after it the study waits too, as long again."""
SECONDS_PER_LOOK = 0.05
FAILURES_TO_GIVE_UP = 3
"""Trials that fail for one reason, before any gets further, after which no other is tried; more on more devices."""


class StudyLog(tune.Callback):
    """Callback that receives Tune's events and tells them to the study's books, MLflow and the live view."""

    def __init__(
        self,
        study: Study,
        state: State,
        tracker: Tracker,
        devices: Devices,
        allotment: Allotment,
        console: Console,
        place: SuitePosition | None,
        unfinished: Unfinished,
        cluster: Cluster,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._tracker, self._study, self._console = tracker, study, console
        self._devices, self._allotment, self._counted = devices, allotment, state.seconds
        self.state, self.unfinished = state, unfinished
        self.books, self.budget = state.books, state.budget
        state.listen(self._exploit)
        self.scheduler, self.checkpoints, self.pace = state.scheduler, state.checkpoints, state.pace
        self.signals = GracefulSignals(self.budget)
        self.progress = Progress(study, self.books, self.budget, console, place)
        self._unwritten_since, self._saved = math.inf, list[tuple[Trial, float, float]]()
        self._clock, self._began, self._signature = clock, clock.now() - state.seconds, state.signature
        state.began_at = tracker.began_at = clock.epoch() - state.seconds

    def _now(self) -> float:
        return self._clock.now() - self._began

    def setup(self, *arguments: Any, **info: Any) -> None:
        """Take SIGUSR1 back from Tune, which has just taken it and would stop without saying so."""
        self.signals.install()

    def _tell(self, event: Event) -> None:
        self._tell_saved()
        self.state.tell(event)
        self._tracker.tell(event, self.books)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell that a trial, its retry, or a paused trial got an actor."""
        now = self._now()
        self._propose(trial, now)
        self._tell(Began(now, trial.trial_id, self._allotment.devices_per_trial))
        self.pace.begin(trial.trial_id, now)

    def _propose(self, trial: Trial, now: float) -> None:
        """Tell of a trial, once."""
        if trial.trial_id not in self.books:
            varies = self.state.population is not None
            by_model = self.state.search.proposed_by_model(trial.trial_id)
            number = len(self.books.rows)
            self._tell(proposed(self._study, trial.trial_id, number, trial.config, now, varies, by_model))

    def _exploit(self, trial_id: str, donor_id: str, units: int, config: Config) -> None:
        """Tell that a trial takes over another's weights after `units`, and continues with other hyperparameters."""
        self._tell(Exploited(self._now(), trial_id, donor_id, units, self._study.full_config(config)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Tell of a finished unit."""
        event = unit(self._study.benchmark, trial.trial_id, result, self._now())
        self._tell(event)
        if again := result.get(TRAINED_AGAIN):
            number = self.books[trial.trial_id].number
            print_line(self._console, f"trial {number} lost its checkpoint with a node: {again} units trained again")
        self.pace.see(event.seconds["checkpoint"])
        is_due = not result.get(DONE) and self.pace.is_due(trial.trial_id, event.at)
        if is_due and not self.checkpoints.unwritten([trial], self.unfinished.folder):
            self.pace.ask(trial.trial_id)
            result[SHOULD_CHECKPOINT] = True  # Tune does not look at it where the scheduler pauses the trial

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        """Note a checkpoint and its time; Tune pauses its trial only afterwards, if at all."""
        seconds = seconds_of(Path(checkpoint.path))
        self.pace.see(seconds)
        self.checkpoints.add(checkpoint)
        self._saved.append((trial, self._now(), seconds))

    def _tell_saved(self) -> None:
        """Tell of checkpoints: a later failure does not lose the work before them; a paused trial holds no devices."""
        saved, self._saved = self._saved, []
        for trial, now, seconds in saved:
            continues = trial.status == Trial.RUNNING
            if self._is_open(trial):
                self._tell(Checkpoint(now, trial.trial_id, continues, seconds))
            if continues:
                self.pace.begin(trial.trial_id, now)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell of the end of a trial without an error; one that the end of the study cuts short ends with it."""
        self.pace.end(trial.trial_id)
        _forget_averages(trial)
        if not self._is_open(trial):  # ended before it began
            return
        row = self.books[trial.trial_id]
        is_whole = row.outcome != "running" or row.units >= self._study.max_units
        if is_whole or not self.budget.revoked:
            by_budget = trial.trial_id in self.scheduler.ended_by_budget
            self._tell(Ended(self._now(), trial.trial_id, *outcome_of(self._study, row, by_budget)))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell of a failed attempt whose trial is tried again."""
        self.pace.fail(trial.trial_id)
        if self._is_open(trial):  # not if its actor died before it began
            error = raised(trial)
            reason = self._fail(trial, error, in_a_line(error))
            self._tell(Retried(self._now(), trial.trial_id, reason))
            number = self.books[trial.trial_id].number
            print_line(self._console, f"trial {number} failed and is tried again: {reason}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tell of a trial that failed for good."""
        self.pace.fail(trial.trial_id)
        _forget_averages(trial)
        self._propose(trial, self._now())  # its actor may have died before it began
        error, asked = raised(trial), training_of(self._study, trial.config).config
        reason = failure_reason(self._study.benchmark, asked, error) or in_a_line(error)
        self._fail(trial, error, reason)
        self._tell(Ended(self._now(), trial.trial_id, "failed", reason))
        if common := self.books.common_failure(max(FAILURES_TO_GIVE_UP, self._allotment.concurrency)):
            self.budget.revoke(f"{EVERY_TRIAL_FAILS}: {common}")

    def _fail(self, trial: Trial, error: Any, reason: str) -> str:
        """Tell of a failed attempt; returns the reason."""
        self._tell(Failed(self._now(), trial.trial_id, reason, str(error)))
        return reason

    def _is_open(self, trial: Trial) -> bool:
        return trial.trial_id in self.books and self.books[trial.trial_id].ended_seconds is None

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Keep the state and redraw the view, once per round of Tune's loop."""
        self._tell_saved()
        if fault := self._cluster.fault:
            self.budget.revoke(f"{INTERRUPTED}: {fault}")
        self._count_devices()
        self._keep(trials)
        if self.progress.is_due:
            self.progress.show(self._now(), sum(trial.status == Trial.PAUSED for trial in trials))
        for refusal in self._cluster.refusals:
            self.progress.warn(refusal, refusal)
        self.progress.warn("store", self._tracker.fault)
        self.progress.warn("disk", self.unfinished.fault)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """End the recording; from here on only the store can fail, and `sync` then delivers the rest."""
        self.state.has_ended = not self.budget.revoked
        self._keep(trials, at_once=True)

    def _keep(self, trials: list[Trial], at_once: bool = False) -> None:
        """Keep the state if something has happened, then let MLflow know of it.

        Not while a checkpoint is being written: only Tune knows its next step with that trial. Not while one is in
        memory alone, since a resumed study reads the disk. Not after the request to end: later decisions differ from
        those of an uninterrupted study.
        """
        is_due = at_once or self.unfinished.is_due or self.checkpoints.superseded(trials)  # which can be deleted then
        if not is_due:
            self.unfinished.touch(self._now())
            return
        self.state.trials = [trial for trial in trials if not trial.is_finished()]
        is_sound = not self.budget.revoked and not any(trial.is_saving for trial in self.state.trials)
        is_new = is_sound and (signature := self.state.signature) != self._signature
        if not (is_new and self._wait_for_checkpoints()):
            self.unfinished.touch(self._now())
            return
        self.state.mark(self._now())
        self.unfinished.write(self.state)
        self._tracker.deliver()
        if not self.unfinished.fault:  # else the state before is the one to go on with, and needs its checkpoints
            self._signature = signature
            self.checkpoints.prune(self.state.trials, self.unfinished.folder)

    def _wait_for_checkpoints(self) -> bool:
        """Wait for the checkpoints that live trials need, if they take long; return whether they are on the disk.

        Without the wait, a disk slower than the trials pause would leave a resumed study an ever older state.
        """
        if not self._unwritten():
            self._unwritten_since = math.inf
            self.progress.warn("disk of the checkpoints", "")
            return True
        self._unwritten_since = min(self._unwritten_since, REAL.now())
        waited = REAL.now() - self._unwritten_since
        while MAX_SECONDS_UNWRITTEN < waited < 2 * MAX_SECONDS_UNWRITTEN and not self.budget.revoked:
            if not self._unwritten():
                return True
            REAL.sleep(SECONDS_PER_LOOK)
            waited = REAL.now() - self._unwritten_since
        if waited > MAX_SECONDS_UNWRITTEN:
            self._tracker.deliver()  # as where the state cannot be written
            self.progress.warn("disk of the checkpoints", self._explain_unwritten())
        return False

    def _unwritten(self) -> set[Path]:
        return self.checkpoints.unwritten(self.state.trials, self.unfinished.folder)

    def _explain_unwritten(self) -> str:
        return (
            f"{counted(len(self._unwritten()), 'checkpoint')} cannot be written to {self.unfinished.folder}; the study "
            "goes on in memory, but could be resumed only from before. Make room on that disk"
        )

    def _count_devices(self) -> None:
        """Book the devices of as many trials as the cluster's present nodes may run, which trials follow.

        A node that has died takes its devices along when its trials have been told to have failed: what they hold is
        reserved until then, or the parts of the time would be more than the reserved time.
        """
        now, allotment = self._now(), self._allotment
        if now < self._counted + SECONDS_PER_COUNT:
            return
        self._counted = now
        there = allotment.trials_on(self._cluster.present(self._devices)) * allotment.devices_per_trial
        present = max(there, self.books.held_devices)
        if present != self.books.devices:
            self._tell(Resized(now, present))

    def close(self) -> None:
        """Tell of the end of the study: of its open trials first, then of its devices."""
        self.state.mark(self._now())
        for event in self.state.close(self.budget.revoked_because):
            self._tracker.tell(event, self.books)

    def deliver(self, on_gpu: bool, reason: str) -> str:
        """Store the totals; return why the store lacks a part of the study, empty if it has all."""
        try:
            self._store(on_gpu, reason)
        except BenchmarkError as error:  # the results are shown all the same
            if self.unfinished.fault:  # there may be room by now
                self.unfinished.write(self.state)
            return "; ".join(filter(None, (str(error), self.unfinished.fault)))
        return ""

    def _store(self, on_gpu: bool, reason: str) -> None:
        status = "FINISHED" if not reason else "KILLED" if is_interruption(reason) else "FAILED"
        if fault := self._tracker.fault:
            print_line(self._console, f"waits for its store for a minute at most (Ctrl-C ends that): {fault}")
        self._tracker.finish(self.books, self.state.log.text, on_gpu, status)
        self.progress.warn("store", "")


def _forget_averages(trial: Trial) -> None:
    """Drop Tune's running averages of every number that a trial that has ended reported: 50 kB a trial, unread."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def in_a_line(error: Any) -> str:
    """Return the reason of a trial's failure, in characters that can be printed: the innermost error alone."""
    cause = innermost(error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    last = lines[-1].partition(RAY_GUESSES)[0] if lines else "no message"
    return writable(f"{type(cause).__name__}: {last}")
