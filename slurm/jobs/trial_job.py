"""The job that trains trials of a study's folder: one, as a task of an array, or one after the other.

Each trial is a process of its own (several, by torchrun, where it has several ranks), started, watched and ended here.
"""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.clock import REAL, process_began_at
from benchmarks.files import whole_number
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.out_of_memory import IN_EVALUATION, OUT_OF_MEMORY, failure_reason, rescued, with_micro_batch
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training import memory
from hpo.cluster.devices import Devices, detect_here, place
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.results import Outcome
from hpo.core.study import training_of
from hpo.engine import one_trial
from hpo.search import journal
from hpo.search.journal import Proposal
from slurm import scheduler, study_folder
from slurm.processes import Child, Signals, Stamps, job_id, node_name, say
from slurm.profile import Profile
from slurm.scripts import FIRST_TRIAL
from slurm.study_folder import SubmittedStudy

ATTEMPTS = 2
"""Attempts at a trial; under Ray too, one that fails is tried once more."""
MAX_REJECTED = 100
"""Proposals of Optuna for a trial that do not fit into memory, after which the trial is left out."""
KILLED = "MemoryError: the kernel killed a process of the trial, since memory was used up"
POLL_SECONDS = 0.1
_RAISED = re.compile(r"(?m)^(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception)\b.*)$")
_BY_TORCHRUN = "ChildFailedError"  # names the rank that has raised, not the exception


def trial_of_task(environment: Mapping[str, str]) -> int:
    """Return the number of the trial that a task of an array trains.

    Args:
        environment: the task's variables.

    Raises:
        BenchmarkError: this process is no task of an array.
    """
    index = whole_number(environment.get("SLURM_ARRAY_TASK_ID", ""))
    if index is None:
        raise BenchmarkError("SLURM_ARRAY_TASK_ID is not set: a task is run by SLURM; submit it with `slurm array`")
    return index + int(environment.get(FIRST_TRIAL, "0"))


def task(folder: Path, trial: int) -> int:
    """Train one trial, as a task of an array; return the exit status."""
    with Stamps(f"job {job_id()} (trial {trial} of {folder.name})") as stamps, Signals() as signals:
        stamps.status = _status(train(folder, [trial], signals))
    return stamps.status


def serial(folder: Path, profile: Profile, file: Path) -> int:
    """Train all trials that are not finished, one after the other; return the exit status.

    Near its time limit it is queued again, if a trial has ended in it: one that takes longer than the limit never
    would. At its end it gathers the study.
    """
    from slurm import gather  # imports MLflow

    with Stamps(f"job {job_id()} ({folder.name})") as stamps, Signals() as signals:
        outcomes = train(folder, [], signals)
        is_progress, status = bool(set(outcomes) & set(study_folder.FINAL)), _status(outcomes)
        if not (signals.received == signal.SIGUSR1 and profile.requeue and is_progress and _requeue(folder)):
            status |= gather.gather_into_store(folder, profile, file)
        stamps.status = status
    return stamps.status


def _requeue(folder: Path) -> bool:
    """Queue this job again if trials are left; tell whether it was."""
    if len(study_folder.finished(folder)) == SubmittedStudy.read(folder).trials:
        return False
    say("queued again: trials that are finished are kept")
    try:
        scheduler.requeue(job_id())
    except BenchmarkError as error:
        say(f"it could not be queued again: {error}")
        return False
    return True


def _status(outcomes: Sequence[str]) -> int:
    return 0 if set(outcomes) <= {"completed", "diverged", "skipped"} else 1


def train(folder: Path, trials: Sequence[int], signals: Signals) -> list[str]:
    """Train trials that are not finished yet; return their outcomes.

    Args:
        folder: the study's.
        trials: their numbers; empty for all.
        signals: one that has come ends the trial that runs, and none begins after it.

    Raises:
        BenchmarkError: the folder or this job's devices cannot be used.
    """
    return _Job(folder, signals).train(trials)


class _Job:
    """The part of a study that this job trains."""

    _devices: Devices
    _placed: Benchmark

    def __init__(self, folder: Path, signals: Signals) -> None:
        self._folder, self._signals = folder, signals
        self._submitted, self._log = SubmittedStudy.read(folder), study_folder.log_of(folder, job_id())
        self._benchmark = self._submitted.study.benchmark

    def _tell(self, event: core.Event) -> None:
        event_log.append(self._log, event)

    def _now(self) -> float:
        return REAL.epoch() - self._submitted.began_at

    def train(self, trials: Sequence[int]) -> list[str]:
        """See `train`."""
        devices, ranks = detect_here(), self._benchmark.ranks_per_trial
        if self._submitted.needs_gpus and (devices.gpu_name is None or devices.count < ranks):
            found = devices.count if devices.gpu_name else 0
            raise BenchmarkError(
                f"a trial takes {ranks} GPUs, but this job on {node_name()} finds {found}; see nvidia-smi"
            )
        self._devices, self._placed = devices, place(self._benchmark, devices, concurrency=1).benchmark
        done = study_folder.finished(self._folder)
        began = process_began_at() - self._submitted.began_at  # the job's script has become this process
        self._tell(core.Reserved(min(self._now(), began), ranks, job_id(), devices.accelerator))
        try:
            return [self._train(trial) for trial in trials or range(self._submitted.trials) if trial not in done]
        finally:
            self._tell(core.Released(self._now(), job_id()))

    def _train(self, trial: int) -> str:
        """Let a trial run to its end; return its outcome."""
        if self._signals.received:
            return "interrupted"
        proposed = self._propose(trial)
        if proposed is None:
            self._tell(core.Skipped(self._now(), 1, str(trial)))
            say(f"SKIP trial {trial}: it asks for the memory of one that ran out of it")
            return "skipped"
        study, config, now = self._submitted.study, proposed.config, self._now()
        self._tell(core.proposed(study, str(trial), trial, config, now, by_model=proposed.by_model))
        say(f"START trial {trial}: {' '.join(f'{name}={value}' for name, value in config.items())}")
        outcome, reason = self._attempts(trial, config)
        self._tell(core.Ended(self._now(), str(trial), outcome, reason))
        last = study_folder.last_unit(self._folder, trial) if outcome in ("completed", "diverged") else None
        if outcome != "interrupted":
            value = last.objective if last else None
            self._answer(proposed, value, is_infeasible=reason.startswith(OUT_OF_MEMORY))
        found = f", {self._benchmark.metric} {last.metrics[self._benchmark.metric]:.4f}" if last else ""
        say(f"FINISH trial {trial}: {outcome}{found}{f' ({reason})' if reason else ''}")
        return outcome

    def _propose(self, trial: int) -> Proposal | None:
        """Return the trial's proposal; the same again if it was begun before.

        None if it asks for at least the memory of one that ran out of it. Optuna is told, and proposes another.
        """
        is_drawn, path = bool(self._submitted.proposals), self._journal
        if begun := study_folder.proposal_of(self._folder, trial):
            number = None if is_drawn else journal.number_of(path, self._benchmark, trial)
            return Proposal(begun.schedule[0][1], number, begun.by_model)
        known = study_folder.feasibility(self._folder, self._submitted.study)
        if is_drawn:
            config = self._submitted.proposals[trial]
            return None if known.is_infeasible(config) else Proposal(config)
        study, initial_points = self._submitted.study, self._submitted.initial_points
        for rejected in range(MAX_REJECTED):
            proposal = journal.ask(path, study, initial_points, trial, rejected)
            if not known.is_infeasible(proposal.config):
                return proposal
            self._answer(proposal, None, is_infeasible=True)
        return None

    def _answer(self, proposal: Proposal, value: float | None, is_infeasible: bool) -> None:
        """Tell the journal of the end of a proposal that it made."""
        if proposal.number is not None:
            journal.tell(self._journal, self._benchmark, proposal.number, value, is_infeasible)

    @property
    def _journal(self) -> Path:
        return self._folder / study_folder.JOURNAL

    def _attempts(self, trial: int, config: Config) -> tuple[Outcome, str]:
        """Train it, again if it fails and in smaller micro-batches if memory runs out; return outcome and reason."""
        failures, used = 0, None
        while True:
            outcome, reason = self._attempt(trial, config, used)
            if outcome != "failed":
                return outcome, reason
            self._tell(core.Failed(self._now(), str(trial), reason))
            if reason.startswith(OUT_OF_MEMORY):
                used = self._smaller(config, used) if IN_EVALUATION not in reason else None
                if used is None:
                    return outcome, reason
                say(f"trial {trial} goes on in micro-batches of {used.batch_size_per_device} ({reason})")
            else:
                failures += 1
                if failures == ATTEMPTS:
                    return outcome, reason
                say(f"trial {trial} failed ({reason}) and is tried again")
                self._tell(core.Retried(self._now(), str(trial), reason))

    def _smaller(self, config: Config, used: Hyperparameters | None) -> Hyperparameters | None:
        """Return the hyperparameters of the next rescue; None if there is none."""
        asked = training_of(self._submitted.study, config).config
        return rescued(used or self._benchmark.hyperparameters(asked)) if self._benchmark.rescue else None

    def _attempt(self, trial: int, config: Config, used: Hyperparameters | None) -> tuple[Outcome, str]:
        """Train it once, in other micro-batches if these are given; return its outcome, and the reason of a failure."""
        training, ranks = training_of(self._submitted.study, config), self._benchmark.ranks_per_trial
        taken = with_micro_batch(training.config, used) if used else training.config
        micro_batch, kills = used.batch_size_per_device if used else None, memory.kills()
        log = self._folder / f"trial-{trial}.log"
        said_before = log.stat().st_size if log.exists() else 0
        self._tell(core.Began(self._now(), str(trial), ranks))
        with tempfile.TemporaryDirectory(prefix="hpo-trial-") as temporary:
            order = Path(temporary) / "order.json"
            asked = one_trial.Order(
                self._placed,
                taken,
                training.seed,
                self._submitted.threads,
                REAL.epoch(),
                str(trial),
                self._submitted.began_at,
                on_gpu=self._devices.gpu_name is not None,
                micro_batch=micro_batch,
            )
            asked.write(order)
            variables = self._devices.variables
            with Child(one_trial.command(order, self._log, ranks), variables, log, shielded=True) as child:
                while child.status is None and not self._signals.received:
                    REAL.sleep(POLL_SECONDS)
                status = child.status
        if self._signals.received and status != 0:
            return "interrupted", self._signals.reason
        if status:
            said = log.read_bytes()[said_before:].decode(errors="replace")
            if memory.kills() > kills:
                said += f"\n{KILLED}"
            return "failed", failure_reason(self._benchmark, taken, said) or _why(status, said)
        last = study_folder.last_unit(self._folder, trial)
        return ("diverged" if last and last.diverged else "completed"), ""


def _why(status: int, log: str) -> str:
    """Return why a trial's process failed: the exception that it raised, or the signal that ended it."""
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    raised = [text for text in _RAISED.findall(log) if _BY_TORCHRUN not in text]
    return str(raised[-1]).strip() if raised else f"its process ended with status {status}"
