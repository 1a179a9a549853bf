"""The head job: Ray's head, an MLflow server, the worker jobs, and the driver, which is `python -m hpo` as anywhere.

The user submits this job alone. What it starts has free ports and a folder of its own, so two studies at once do not
meet, and it ends all of it however it ends itself: at the end of the study, on failure, on scancel, on its time limit.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.spec import BenchmarkError, first_line
from hpo.cluster import access
from hpo.engine import study_folder
from slurm import capacity, scheduler, scripts, stores
from slurm.jobs import connection, results
from slurm.jobs.connection import Connection
from slurm.jobs.worker import TEMPORARY, ray_start
from slurm.processes import POLL_SECONDS, Child, Ended, Signals, Stamps, job_id, say, wait_for_start
from slurm.profile import Profile
from slurm.scripts import Places

_ADDRESS = re.compile(r"--address='([^']+)'")


@dataclass(frozen=True)
class HeadJob:
    """What a head job is to do.

    Attributes:
        profile: the cluster.
        name: of the job.
        command: arguments of `python -m hpo`.
        work: the folder that relative paths in the command are relative to.
        ranks_per_trial: ranks of a trial.
        again: the command that submits it.
        resume: the command that submits going on with a study, but for the study's run.
    """

    profile: Profile
    name: str
    command: tuple[str, ...]
    work: Path
    ranks_per_trial: int
    again: str
    resume: str


def run_head_job(job: HeadJob, token: str) -> int:
    """Do all of it; returns the exit status.

    Args:
        job: what to do.
        token: for Ray, which this process has in its environment since before it imported Ray.
    """
    with Stamps(f"head job {job_id()} ({job.name})") as stamps, Signals() as signals:
        try:
            stamps.status = _run_study(job, token, signals)
        except Ended:
            say("ended before the study began; nothing is lost")
    return stamps.status


def _run_study(job: HeadJob, token: str, signals: Signals) -> int:
    with ExitStack() as stack:
        folder = stack.enter_context(_job_folder(job))
        tracking = stack.enter_context(stores.served(job.profile, folder))
        joined = stack.enter_context(_ray_head(folder, token))
        workers = stack.enter_context(_Workers(job, folder, joined))
        _wait_for(workers, joined, signals)
        return _drive(job, joined, tracking, workers, signals)


@contextmanager
def _job_folder(job: HeadJob) -> Iterator[Path]:
    """A folder of this job's own, for its owner's eyes only."""
    folder = Path(job.profile.logs) / f"{job.name}-{job_id()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        (folder / connection.FILE).unlink(missing_ok=True)


# ---- Ray


@contextmanager
def _ray_head(folder: Path, token: str) -> Iterator[Connection]:
    """Ray's head, which trains nothing: trials run on the workers."""
    log = folder / f"ray{os.environ.get('SLURM_RESTART_COUNT', '')}.log"  # a job queued again has another address
    with access.temporary_folder(TEMPORARY) as temporary:
        command = [*ray_start(cpus=0, gpus=0), "--head", "--port=0", "--include-dashboard=false"]
        environment = access.authentication(token)
        with Child([*command, f"--temp-dir={temporary}"], environment, log, shielded=True) as ray:
            address = wait_for_start(ray, "Ray's head", log, lambda: _address(log))
            yield Connection(address, token, job_id())


def _address(log: Path) -> str | None:
    """Where Ray's head listens, as it says itself once it does."""
    found = _ADDRESS.search(log.read_text())
    return found.group(1) if found else None


# ---- worker jobs


class _Workers:
    """The worker jobs of this head job; cancelled with it. One that ends early is replaced, once for each."""

    def __init__(self, job: HeadJob, folder: Path, joined: Connection) -> None:
        self.profile = profile = job.profile
        self._ranks_per_trial = job.ranks_per_trial
        self._joined, self._file = joined, folder / connection.FILE
        connection.write(joined, self._file)
        command = ["slurm", "worker", "--connection", str(self._file)]
        command += ["--cpus", str(profile.node.cpus - profile.cpus_for_ray), "--gpus", str(profile.node.gpus)]
        self._script = folder / "worker.sbatch"
        places = Places.here(job.work)
        self._script.write_text(scripts.worker(profile, f"{job.name}-worker", command, places))
        self.live: list[str] = []
        self._replacements, self._lost, self._refused = profile.workers, 0, ""

    def __enter__(self) -> _Workers:
        try:
            for _ in range(self.profile.workers):
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
        """The state of those that have not ended; those that have are replaced as long as replacements last."""
        try:
            if not self._file.exists():
                connection.write(self._joined, self._file)
                say(f"connection file {self._file} was deleted; written again, for workers that are still to come")
            found = scheduler.jobs(self.live)
        except (BenchmarkError, OSError):  # slurmctld restarts, the disk is full; the study does not depend on either
            return {number: scheduler.Job("UNKNOWN") for number in self.live}
        for number, job in found.items():
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
        """Why fewer trials run than the profile has room for; empty if all workers do."""
        waiting = {number: job for number, job in jobs.items() if job.state != "RUNNING"}
        running = len(jobs) - len(waiting)
        if running >= self.profile.workers:
            return ""
        now = self.profile.model_copy(update={"workers": running})
        why = f"; {_describe(waiting)}" if waiting else ""
        fits = capacity.at_once(capacity.of(now, self._ranks_per_trial))
        return f"{running} of {self.profile.workers} worker jobs run{why}; trials at once: {fits}"


def _wait_for(workers: _Workers, joined: Connection, signals: Signals) -> None:
    """Wait for worker jobs to start and join, and say what for.

    Raises:
        BenchmarkError: none is left to wait for.
    """
    profile = workers.profile
    began, said = time.monotonic(), ""
    os.environ.update(joined.environment)
    with _watching_ray() as count_nodes:
        signals.install()  # Ray has taken SIGTERM
        while (nodes := count_nodes()) < profile.workers:
            jobs = workers.look()
            if not workers.live and not nodes:
                raise BenchmarkError(f"all worker jobs ended before they joined; see their logs in {profile.logs}")
            waited = (time.monotonic() - began) / 60
            if nodes and profile.join_minutes and waited > profile.join_minutes:
                break
            text = f"waits for workers: {nodes} of {profile.workers} joined; {_describe(jobs)}"
            if text != said:
                say(text)
                said = text
            signals.sleep()
    signals.install()
    say(f"{nodes} of {profile.workers} workers joined")


def _describe(jobs: dict[str, scheduler.Job]) -> str:
    return ", ".join(f"job {number} {job}" for number, job in jobs.items())


@contextmanager
def _watching_ray() -> Iterator[Callable[[], int]]:
    """Counts the nodes of Ray that have joined; the head, which has no CPUs, is none of them."""
    import ray

    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError) as error:
        raise BenchmarkError(f"Ray's head does not answer this job: {first_line(error)}") from None
    try:
        yield lambda: sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    finally:
        ray.shutdown()


# ---- the driver


def _drive(job: HeadJob, joined: Connection, tracking: str, workers: _Workers, signals: Signals) -> int:
    """Run the study on the workers; on a signal, let it end in good order."""
    environment = {**joined.environment, "MLFLOW_TRACKING_URI": tracking}
    command = [sys.executable, "-m", "hpo", *job.command]
    with Child(command, environment, shielded=True) as driver:
        is_told, said = False, ""
        while driver.status is None:
            time.sleep(POLL_SECONDS)
            text = workers.explain(workers.look())
            if text and text != said and driver.status is None:
                say(text)
            said = text
            if (signals.received or not workers.live) and not is_told:
                is_told = True
                say("tells the study to end in good order: " + (signals.reason or "no worker job is left"))
                driver.signal(signal.SIGUSR1)
    table = Path(job.profile.logs) / f"{job.name}-{job_id()}.csv"
    say(f"{results.write(tracking, job_id(), table)} trials in {table}")
    return _conclude(job, int(driver.status or 0), signals, tracking)


def _conclude(job: HeadJob, status: int, signals: Signals, tracking: str) -> int:
    """What ran into its time limit goes on where it stood: in this job, queued again, or in the next."""
    if signals.received != signal.SIGUSR1:
        return status
    kept = study_folder.of_job(job_id())
    if job.profile.requeue and not any(results.stands_still(tracking, study.run_id) for study in kept):
        say("queued again, to go on where it stood; what is finished is kept")
        scheduler.requeue(job_id())
        return status
    on = f"{job.resume} {kept[0].run_id}" if kept and job.command[0] == "run" else job.again
    say(f"what it found is stored; to go on where it stood, with more `time` in the profile: {on}")
    return status
