"""The head job: Ray's head, the worker jobs, and the driver, which is `python -m hpo` as anywhere.

The user submits this job alone. Its servers and workers have free ports and a folder of their own, so two studies at
once do not meet. It ends all of them however it ends itself: at the end of the study, on failure, on scancel, on its
time limit.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError, first_line
from hpo.cluster import access
from hpo.engine import study_folder
from hpo.engine.study_folder import Unfinished
from hpo.store import client
from hpo.terminal.next_steps import CLUSTER_PROFILE, SHARED_STORE
from slurm import scheduler, stores, submit
from slurm.capacity import Capacity
from slurm.jobs import network, results
from slurm.jobs.connection import Connection
from slurm.jobs.worker import WORKER, ray_start
from slurm.jobs.workers import WorkerGroup, WorkerJobs, WorkerSteps
from slurm.processes import POLL_SECONDS, Child, EndedBySignal, OnChange, Signals, Stamps, job_id, say, wait_for_start
from slurm.profile import Profile

REPEATABLE = ("suite", "confirm")
"""Commands that, given again, run only the studies or trials that are missing."""
_ADDRESS = re.compile(r"--address='([^']+)'")


@dataclass(frozen=True)
class HeadJob:
    """The work of a head job.

    Attributes:
        profile: the cluster.
        file: the profile's file.
        name: of the job.
        command: arguments of `python -m hpo`.
        work: the folder that relative paths in the command are relative to.
        fits: the room of the cluster for the study's trials.
    """

    profile: Profile
    file: str
    name: str
    command: tuple[str, ...]
    work: Path
    fits: Capacity

    @property
    def again(self) -> str:
        """The command that submits it."""
        return self._submitting(*self.command[self.command[0] == "run" :])

    def resuming(self, run_id: str) -> str:
        """Return the command that submits a job which resumes a study."""
        return self._submitting("resume", run_id)

    def _submitting(self, *words: str) -> str:
        return shlex.join(["python", "-m", "hpo", "slurm", "submit", "--cluster", self.file, *words])


def run_head_job(job: HeadJob, token: str) -> int:
    """Run a head job from its start to its end; return the exit status.

    Args:
        job: its work.
        token: for Ray, which this process has in its environment since before it imported Ray.
    """
    with Stamps(f"head job {job_id()} ({job.name})") as stamps, Signals() as signals:
        try:
            stamps.status = _run_study(job, token, signals)
        except EndedBySignal:
            say("ended before the study began; nothing is lost")
            if signals.received == signal.SIGUSR1:
                say(f"to submit it again, with more `time` in the profile: {_how_to_resume(job, _unfinished(job))}")
    return stamps.status


def _run_study(job: HeadJob, token: str, signals: Signals) -> int:
    with ExitStack() as stack:
        folder = stack.enter_context(_job_folder(job))
        tracking = stack.enter_context(stores.opened(job.profile))
        if not job.profile.is_served:
            say(f"to see its results as they come: mlflow ui --backend-store-uri {shlex.quote(tracking)}")
        is_again = bool(os.environ.get("SLURM_RESTART_COUNT"))
        if is_again and job.command[0] == "run" and results.has_finished(job_id()):
            say("the study has reached its end already: nothing is run again")
            return 0
        joined = stack.enter_context(_ray_head(job.profile, folder, token))
        workers = stack.enter_context(_workers(job, joined, signals))
        _wait_for(workers, joined, signals)
        return _drive(job, joined, workers, signals)


def _workers(job: HeadJob, joined: Connection, signals: Signals) -> WorkerGroup:
    """Return the workers that the profile's layout asks for, not yet started."""
    given = (job.profile, job.name, job.work, job.fits, joined)
    return WorkerSteps(*given, signals) if job.profile.layout == "one_job" else WorkerJobs(*given)


@contextmanager
def _job_folder(job: HeadJob) -> Iterator[Path]:
    """Make a folder of this job's own, for its owner's eyes only."""
    file = submit.connection_file(job.profile, job.name, job_id())
    folder = file.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        file.unlink(missing_ok=True)


# ---- Ray


@contextmanager
def _ray_head(profile: Profile, folder: Path, token: str) -> Iterator[Connection]:
    """Start Ray's head, which trains nothing: trials run on the workers.

    Raises:
        BenchmarkError: it did not start, or listens where no other node reaches it.
    """
    log = folder / f"ray{os.environ.get('SLURM_RESTART_COUNT', '')}.log"  # a job queued again has another address
    with access.temporary_folder(access.place_for_sockets(os.environ.get("RAY_TMPDIR", ""))) as temporary:
        address = network.own_address(profile.interface, profile.address)
        command = [*ray_start(0, 0, address), "--head", "--port=0", "--include-dashboard=false"]
        environment = access.authentication(token)
        with Child([*command, f"--temp-dir={temporary}"], environment, log, shielded=True) as ray:
            address = wait_for_start(ray, "Ray's head", log, lambda: _address(log))
            if profile.layout == "jobs" or profile.workers.count > 1:
                network.require_reachable(address)
            yield Connection(address, token, job_id(), profile.interface, profile.network)


def _address(log: Path) -> str | None:
    """Return the address at which Ray's head listens, as it says itself; None before it does."""
    found = _ADDRESS.search(log.read_text())
    return found.group(1) if found else None


# ---- worker jobs


def _wait_for(workers: WorkerGroup, joined: Connection, signals: Signals) -> None:
    """Wait for workers to start and join, and say for which.

    Raises:
        BenchmarkError: none is left to wait for, or one that runs does not join.
    """
    wanted, began, log = workers.profile.workers.count, REAL.now(), OnChange()
    os.environ.update(joined.environment)
    with _watching_ray() as joined_workers:
        signals.install()  # Ray has taken SIGTERM
        while len(there := joined_workers()) < wanted:
            jobs = workers.look()
            if _has_waited_enough(workers, there, (REAL.now() - began) / 60):
                break
            log.say(f"waits for workers: {len(there)} of {wanted} joined; {workers.describe(jobs)}")
            signals.sleep()
    signals.install()
    say(f"{len(there)} of {wanted} workers joined")


def _has_waited_enough(workers: WorkerGroup, there: set[str], waited_minutes: float) -> bool:
    """Tell whether the study begins with those workers that have joined.

    Raises:
        BenchmarkError: none has, and there is none left to wait for.
    """
    profile, late = workers.profile, workers.late(there)
    if not there and not workers.live:
        raise BenchmarkError(f"all workers ended before they joined; see their logs in {profile.logs}")
    if not there and late:
        raise BenchmarkError(late)
    if late:
        say(late)
    return bool(late) or bool(there and profile.join_minutes and waited_minutes > profile.join_minutes)


@contextmanager
def _watching_ray() -> Iterator[Callable[[], set[str]]]:
    """Yield a function that names the worker jobs whose Ray has joined."""
    import ray

    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError) as error:
        raise BenchmarkError(f"Ray's head does not answer this job: {first_line(error)}") from None
    try:
        yield lambda: {
            name.removeprefix(WORKER)
            for node in ray.nodes()
            if node["Alive"]
            for name in node["Resources"]
            if name.startswith(WORKER)
        }
    finally:
        ray.shutdown()


# ---- the driver


def _drive(job: HeadJob, joined: Connection, workers: WorkerGroup, signals: Signals) -> int:
    """Run the study on the workers; on a signal, let it end in good order."""
    told = {SHARED_STORE: client.shown(job.profile.tracking_uri), CLUSTER_PROFILE: job.file}
    environment = {**joined.environment, **told}
    command = [sys.executable, "-m", "hpo", *job.command]
    # The driver ignores SIGUSR1 but while a study runs: it must not die of one as it begins, or after its last line.
    with Child(command, environment, shielded=True, ignores=signal.SIGUSR1) as driver:
        is_told, log = False, OnChange()
        while driver.status is None:
            REAL.sleep(POLL_SECONDS)
            text = workers.explain(workers.look())
            if driver.status is None:
                log.say(text)
            if is_told or signals.received or not workers.live:
                if not is_told:
                    say("tells the study to end in good order: " + (signals.reason or "no worker job is left"))
                is_told = True
                driver.signal(signal.SIGUSR1)  # again, as it may not have begun, or a suite may begin its next study
    table = Path(job.profile.logs) / f"{job.name}-{job_id()}.csv"
    say(f"{results.write(job_id(), table)} trials in {table}")
    return _conclude(job, int(driver.status or 0), is_told, signals)


def _conclude(job: HeadJob, status: int, is_told: bool, signals: Signals) -> int:
    """Queue this job again if its time limit left something unfinished, or say how to resume it; return the status.

    Args:
        job: its work.
        status: the driver's exit status.
        is_told: whether the driver was told to end while it ran.
        signals: those that came.
    """
    if signals.received != signal.SIGUSR1 or status == 0:
        return status
    kept = _unfinished(job)
    if not kept and not (is_told and job.command[0] in REPEATABLE and results.was_interrupted(job_id())):
        return status
    if job.profile.requeue and not any(results.stands_still(study.run_id) for study in kept):
        say("queued again, to go on where it stood; finished studies are kept")
        try:
            scheduler.requeue(job_id())
            return status
        except BenchmarkError as error:
            say(f"it could not be queued again: {error}")
    on = _how_to_resume(job, kept)
    say(f"its results are stored; to go on where it stood, with more `time` in the profile: {on}")
    return status


def _how_to_resume(job: HeadJob, kept: Sequence[Unfinished]) -> str:
    """Return the command that submits a job for the unfinished part of this one."""
    return job.resuming(kept[0].run_id) if kept and job.command[0] == "run" else job.again


def _unfinished(job: HeadJob) -> list[Unfinished]:
    """List the studies of this job that wait to be resumed."""
    if job.command[0] == "resume":
        return [study for study in study_folder.found() if study.run_id in job.command]
    return study_folder.of_job(job_id())
