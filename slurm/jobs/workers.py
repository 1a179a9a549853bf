"""The worker jobs of a head job: submitted with it, replaced where one ends early, cancelled at its end."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.spec import BenchmarkError
from slurm import capacity, scheduler, submit
from slurm.jobs import connection
from slurm.jobs.connection import Connection
from slurm.jobs.network import HOW_TO_MEND
from slurm.processes import say
from slurm.profile import Profile

JOIN_MINUTES = 10.0
"""Minutes in which a worker job that runs has joined, where the profile says nothing: Ray starts within one."""


class WorkerJobs:
    """The worker jobs of one head job. One that ends early is replaced, as often as there are workers.

    Args:
        profile: the cluster.
        name: of the head job.
        work: the folder that relative paths in commands are relative to.
        ranks_per_trial: ranks of a trial.
        joined: the head's Ray.
    """

    def __init__(self, profile: Profile, name: str, work: Path, ranks_per_trial: int, joined: Connection) -> None:
        self.profile, self._ranks_per_trial = profile, ranks_per_trial
        self._joined, self._file = joined, submit.connection_file(profile, name, joined.job)
        connection.write(joined, self._file)
        self._script = self._file.with_name("worker.sbatch")
        self._script.write_text(submit.worker_script(profile, name, self._file, work))
        self.live: list[str] = []
        self._watch, self._running_since = scheduler.Watch(), dict[str, float]()
        self._replacements, self._lost, self._refused = profile.workers.count, 0, ""

    def __enter__(self) -> WorkerJobs:
        try:
            for _ in range(self.profile.workers.count):
                self._submit()
        except BaseException:
            scheduler.cancel(self.live)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        scheduler.cancel(self.live)

    def _submit(self) -> None:
        self.live.append(scheduler.submit(self._script, Path(self.profile.logs)))

    def look(self) -> dict[str, scheduler.Job]:
        """Return the state of those that have not ended, and replace those that have while replacements last."""
        try:
            if not self._file.exists():
                connection.write(self._joined, self._file)
                say(f"connection file {self._file} was deleted; written again, for workers that are still to come")
            found = self._watch.look(self.live)
        except (BenchmarkError, OSError):  # slurmctld restarts, the disk is full; the study does not depend on either
            return {number: scheduler.Job("UNKNOWN") for number in self.live}
        for number, job in found.items():
            if job.state == "RUNNING":
                self._running_since.setdefault(number, time.monotonic())
            if job.state not in scheduler.ENDED:
                continue
            self.live.remove(number)
            say(f"worker job {number} has ended early ({job.state}); what its trials lost is trained again")
            self._lost += 1
        self._replace()
        return {number: job for number, job in found.items() if number in self.live}

    def _replace(self) -> None:
        """Submit workers for those that were lost; what SLURM refuses now it may take at the next look."""
        while self._lost and self._replacements:
            try:
                self._submit()
            except BenchmarkError as error:
                if str(error) != self._refused:
                    say(f"no worker replaces it yet: {error}")
                self._refused = str(error)
                return
            self._lost, self._replacements = self._lost - 1, self._replacements - 1
            say(f"worker job {self.live[-1]} replaces it")

    def explain(self, jobs: dict[str, scheduler.Job]) -> str:
        """Return why fewer trials run than the profile has room for; empty if all workers do."""
        waiting = {number: job for number, job in jobs.items() if job.state != "RUNNING"}
        running = len(jobs) - len(waiting)
        if running >= self.profile.workers.count:
            return ""
        now = self.profile.with_workers(running)
        why = f"; {describe(waiting)}" if waiting else ""
        fits = capacity.at_once(capacity.of(now, self._ranks_per_trial))
        return f"{running} of {self.profile.workers.count} worker jobs run{why}; trials at once: {fits}"

    def late(self, joined: set[str]) -> str:
        """Return what to say of a worker that runs and has not joined in time; empty if there is none.

        Args:
            joined: the worker jobs whose Ray has joined.
        """
        minutes = self.profile.join_minutes or JOIN_MINUTES
        for number, since in self._running_since.items():
            if number in self.live and number not in joined and time.monotonic() - since > 60 * minutes:
                return (
                    f"worker job {number} runs, and has not joined in {minutes:g} minutes (`join_minutes`): its node "
                    f"may not reach {self._joined.address}; {HOW_TO_MEND}; its log: {self._log_of(number)}"
                )
        return ""

    def _log_of(self, number: str) -> Path:
        return next(Path(self.profile.logs).glob(f"*-{number}.out"), Path(self.profile.logs))


def describe(jobs: dict[str, scheduler.Job]) -> str:
    """Return jobs and their states on one line."""
    return ", ".join(f"job {number} {job}" for number, job in jobs.items())
