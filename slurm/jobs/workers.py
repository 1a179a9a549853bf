"""The workers of a head job: started with it, replaced where one ends early, ended with it.

They are jobs of their own, or steps of the head job where its allocation has several nodes (`layout: one_job`).
"""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Self

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError
from slurm import capacity, scheduler, scripts, submit
from slurm.capacity import Capacity
from slurm.jobs import connection
from slurm.jobs.connection import Connection
from slurm.jobs.network import HOW_TO_MEND
from slurm.jobs.worker import STEP
from slurm.processes import END_SECONDS, Child, Signals, job_id, say
from slurm.profile import Profile

JOIN_MINUTES = 10.0
"""Minutes in which a worker job that runs has joined, where the profile says nothing: Ray starts within one."""


class WorkerGroup(ABC):
    """The workers of one head job. One that ends early is replaced, as often as there are workers.

    Attributes:
        noun: the word for one of them.
        profile: the cluster.
        live: names of those that have not ended.

    Args:
        profile: the cluster.
        name: of the head job.
        work: the folder that relative paths in commands are relative to.
        fits: the room of the cluster for the study's trials.
        joined: the head's Ray.
    """

    noun = "job"

    def __init__(self, profile: Profile, name: str, work: Path, fits: Capacity, joined: Connection) -> None:
        self.profile, self._fits = profile, fits
        self._joined, self._file = joined, submit.connection_file(profile, name, joined.job)
        connection.write(joined, self._file)
        self._name = name
        self.live: list[str] = []
        self._running_since = dict[str, float]()
        self._replacements, self._lost, self._refused = profile.workers.count, 0, ""

    def __enter__(self) -> Self:
        try:
            for _ in range(self.profile.workers.count):
                self.live.append(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @abstractmethod
    def _start(self) -> str:
        """Start one, and return its name.

        Raises:
            BenchmarkError: SLURM refused.
        """

    @abstractmethod
    def _states(self) -> dict[str, scheduler.Job]:
        """Return the state of those that are live, by name."""

    def _forget(self, name: str) -> None:  # noqa: B027 - a job of its own leaves nothing to be used again
        """Free the place of one that has ended, for another."""

    @abstractmethod
    def _end(self) -> None:
        """End those that are live."""

    @abstractmethod
    def _log_of(self, name: str) -> Path:
        """Return the log of one, or the folder in which it will be."""

    def look(self) -> dict[str, scheduler.Job]:
        """Return the state of those that have not ended, and replace those that have while replacements last."""
        try:
            if not self._file.exists():
                connection.write(self._joined, self._file)
                say(f"connection file {self._file} was deleted; written again, for workers that are still to come")
            found = self._states()
        except (BenchmarkError, OSError):  # slurmctld restarts, the disk is full; the study does not depend on either
            return {number: scheduler.Job("UNKNOWN") for number in self.live}
        for number, job in found.items():
            if job.state == "RUNNING":
                self._running_since.setdefault(number, REAL.now())
            if job.state not in scheduler.ENDED:
                continue
            self.live.remove(number)
            self._forget(number)
            say(f"worker {self.noun} {number} has ended early ({job.state}); its lost units are trained again")
            self._lost += 1
        self._replace()
        return {number: job for number, job in found.items() if number in self.live}

    def _replace(self) -> None:
        """Start workers for those that were lost; SLURM may take at the next look a job that it refuses now."""
        while self._lost and self._replacements:
            try:
                self.live.append(self._start())
            except BenchmarkError as error:
                if str(error) != self._refused:
                    say(f"no worker replaces it yet: {error}")
                self._refused = str(error)
                return
            self._lost, self._replacements = self._lost - 1, self._replacements - 1
            say(f"worker {self.noun} {self.live[-1]} replaces it")

    def explain(self, jobs: dict[str, scheduler.Job]) -> str:
        """Return why fewer trials run than the profile has room for; empty if all workers do."""
        waiting = {number: job for number, job in jobs.items() if job.state != "RUNNING"}
        running = len(jobs) - len(waiting)
        if running >= self.profile.workers.count:
            return ""
        why = f"; {self.describe(waiting)}" if waiting else ""
        fits = capacity.at_once(replace(self._fits, nodes=running))
        return f"{running} of {self.profile.workers.count} worker {self.noun}s run{why}; trials at once: {fits}"

    def late(self, joined: set[str]) -> str:
        """Return what to say of a worker that runs and has not joined in time; empty if there is none.

        Args:
            joined: the worker jobs whose Ray has joined.
        """
        minutes = self.profile.join_minutes or JOIN_MINUTES
        for number, since in self._running_since.items():
            if number in self.live and number not in joined and REAL.now() - since > 60 * minutes:
                return (
                    f"worker {self.noun} {number} runs, and has not joined in {minutes:g} minutes (`join_minutes`): "
                    f"its node may not reach {self._joined.address}; {HOW_TO_MEND}; its log: {self._log_of(number)}"
                )
        return ""

    def describe(self, jobs: dict[str, scheduler.Job]) -> str:
        """Return workers and their states on one line."""
        return ", ".join(f"{self.noun} {number} {job}" for number, job in jobs.items())


class WorkerJobs(WorkerGroup):
    """Workers that are jobs of their own."""

    def __init__(self, profile: Profile, name: str, work: Path, fits: Capacity, joined: Connection) -> None:
        super().__init__(profile, name, work, fits, joined)
        self._script = self._file.with_name("worker.sbatch")
        self._script.write_text(submit.worker_script(profile, name, self._file, work))
        self._watch = scheduler.QueueWatch()

    def _start(self) -> str:
        return scheduler.submit(self._script, Path(self.profile.logs))

    def _states(self) -> dict[str, scheduler.Job]:
        return self._watch.look(self.live)

    def _end(self) -> None:
        scheduler.cancel(self.live)

    def _log_of(self, name: str) -> Path:
        return next(Path(self.profile.logs).glob(f"*-{name}.out"), Path(self.profile.logs))


class WorkerSteps(WorkerGroup):
    """Workers that are steps of the head job's own allocation, one on each of its nodes.

    Args:
        profile: the cluster.
        name: of the head job.
        work: the folder that relative paths in commands are relative to.
        fits: the room of the cluster for the study's trials.
        joined: the head's Ray.
        signals: those of the head job; SLURM ends its steps with it, and none is replaced then.
    """

    noun = "step"

    def __init__(
        self, profile: Profile, name: str, work: Path, fits: Capacity, joined: Connection, signals: Signals
    ) -> None:
        require_nodes(profile.workers.count)
        super().__init__(profile, name, work, fits, joined)
        self._signals = signals
        self._free_nodes = list(range(profile.workers.count))
        self._nodes, self._steps = dict[str, int](), dict[str, Child]()

    def _start(self) -> str:
        name, node = str(len(self._nodes)), self._free_nodes.pop(0)
        self._nodes[name] = node
        words = ["srun", *scripts.step(self.profile, node), sys.executable, "-m", "hpo"]
        words += submit.worker_command(self.profile, self._file)
        log = self._log_of(name)
        self._steps[name] = Child(words, {STEP: name}, log, shielded=True)
        return name

    def _states(self) -> dict[str, scheduler.Job]:
        return {name: self._state(name) for name in self.live}

    def _state(self, name: str) -> scheduler.Job:
        if self._steps[name].status is None or self._signals.received:
            return scheduler.Job("RUNNING")
        return scheduler.Job("FAILED" if self._steps[name].status else "COMPLETED")

    def _forget(self, name: str) -> None:
        self._free_nodes.append(self._nodes[name])

    def _end(self) -> None:
        for step in self._steps.values():
            step.signal(signal.SIGUSR1)  # which srun passes on, and a worker ends by
        deadline = REAL.now() + END_SECONDS
        while REAL.now() < deadline and any(step.status is None for step in self._steps.values()):
            REAL.sleep(0.2)
        for step in self._steps.values():
            step.end()

    def _log_of(self, name: str) -> Path:
        return Path(self.profile.logs) / f"{self._name}-worker-{job_id()}.{name}.out"


def require_nodes(count: int) -> None:
    """Make sure that this job has as many nodes as the profile has workers.

    Args:
        count: workers of the profile.

    Raises:
        BenchmarkError: it has fewer.
    """
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes < count:
        raise BenchmarkError(
            f"layout is one_job and workers are {count}, but this job has {nodes} of as many nodes; `slurm submit` "
            f"asks for them, with sbatch alone it is --nodes={count}"
        )
