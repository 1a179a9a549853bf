"""A study whose trials are tasks of HyperQueue: made, trained, and stored as one whose trials were jobs.

This process reserves the cores, starts the server in a network of its own (`slurm.hq.server`), and waits for it. All
results are in the study's folder (`slurm.study_folder`), so that any end of it costs only trials that run.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.clock import REAL
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.cluster.devices import CPU, detect_here
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.study import Study
from hpo.search import registry
from slurm import study_folder
from slurm.arrays import with_evaluation
from slurm.hq import isolation
from slurm.processes import Child, Signals
from slurm.scripts import PROJECT
from slurm.study_folder import SubmittedStudy

PACKAGE = "hyperqueue"
LOCK = "hq.lock"
POLL_SECONDS = 0.1
LONGEST_FOLDER = 40


def require(benchmark: Benchmark) -> None:
    """Refuse trials that HyperQueue cannot run, and a machine on which it cannot.

    Raises:
        BenchmarkError: the reason, and the next step.
    """
    if benchmark.ranks_per_trial > 1:
        raise BenchmarkError(
            f"ranks_per_trial is {benchmark.ranks_per_trial}, but a task of HyperQueue is one process; "
            "use `slurm array`"
        )
    if importlib.util.find_spec(PACKAGE) is None:
        raise BenchmarkError(f"the package {PACKAGE} is not installed; type `pip install -r requirements-run.txt`")
    isolation.require()


def require_cores(benchmark: Benchmark) -> None:
    """Refuse to train a model on CPU cores of a machine that has GPUs.

    Raises:
        BenchmarkError: such a machine.
    """
    gpu = detect_here().gpu_name
    if gpu and benchmark.trial.trains_model:
        raise BenchmarkError(
            f"this machine has {gpu}, but HyperQueue's workers know CPU cores only; use `run` or `slurm array`, or set "
            "CUDA_VISIBLE_DEVICES= to train on cores"
        )


def prepare(study: Study, workers: int, threads: int, command: str) -> SubmittedStudy:
    """Return a study as its tasks read it.

    Args:
        study: as its method made it.
        workers: trials at once.
        threads: CPU threads of each.
        command: the command that submits it.

    Raises:
        BenchmarkError: the method cannot be run without Ray, or one of its arguments takes Ray.
    """
    from hpo.search import searchers

    if registry.traits_of(study.method).shares_proposals_by_journal:
        raise BenchmarkError(
            f"{study.method} proposes when a trial begins, and tasks of HyperQueue know nothing of each other; use "
            f"`slurm array {study.method}`"
        )
    marked = with_evaluation(study, "hyperqueue")
    proposals = tuple(searchers.proposals(study))
    return SubmittedStudy(marked, proposals, 0, threads, False, workers, command, REAL.epoch())


def new_folder(output: Path, submitted: SubmittedStudy) -> Path:
    """Make a folder for a study.

    Raises:
        BenchmarkError: it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"hq-{submitted.study.method}-", dir=output.resolve()))
        submitted.write(folder)
    except OSError as error:
        raise BenchmarkError(f"{output}: cannot be written ({error.strerror}); choose another by --output") from None
    return folder


def train(folder: Path, workers: int, per_task: int, signals: Signals) -> int:
    """Train the trials of a study that have no result; return the number of those that have none afterwards.

    Args:
        folder: the study's.
        workers: trials at once, a core each.
        per_task: trials that a task trains, one after the other.
        signals: one that has come ends the trials that run.

    Raises:
        BenchmarkError: another process trains the study.
    """
    submitted = SubmittedStudy.read(folder)
    with _alone(folder):
        job = f"hq{len([path for path in folder.glob('job-hq*.jsonl') if study_folder.SLOT not in path.name])}"
        log = study_folder.log_of(folder, job)
        event_log.append(log, core.Reserved(_now(submitted), workers, job, CPU))
        try:
            _serve(folder, job, workers, per_task, signals)
        finally:
            event_log.append(log, core.Released(_now(submitted), job))
        return submitted.trials - len(study_folder.finished(folder))


def resume_command(folder: Path) -> str:
    """Write the command that trains the missing trials of a study."""
    return shlex.join(["python", "-m", "hpo", "hq", "resume", str(folder)])


def _now(submitted: SubmittedStudy) -> float:
    return REAL.epoch() - submitted.began_at


def _serve(folder: Path, job: str, workers: int, per_task: int, signals: Signals) -> None:
    """Start the server and wait for its end; what is left of it at a signal or an error is ended."""
    words = [sys.executable, "-m", "slurm.hq.server", str(folder), job, str(workers), str(per_task)]
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    variables = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "RUST_BACKTRACE": "0"}
    with (
        tempfile.TemporaryDirectory(prefix="hpo-hq-", dir=_short_folder()) as own,  # HyperQueue leaves folders there
        Child(isolation.command(words), {**variables, "TMPDIR": own}) as child,
    ):
        while child.status is None and not signals.received:
            REAL.sleep(POLL_SECONDS)


def _short_folder() -> str:
    """Return the folder for temporary files, or /tmp if it is too long: paths of sockets have at most 107 bytes."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"  # noqa: S108 - a new folder of mode 700


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from training a study at the same time.

    Raises:
        BenchmarkError: another one trains it.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise BenchmarkError(f"{folder}: another process trains it; wait for its end") from None
