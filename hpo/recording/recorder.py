"""Record a bank: train what its file and its log lack, and write each training to the log as it ends.

The folder gets, by the benchmark's name::

    NAME.jsonl     the log; a driver that is killed loses the trainings that were under way, and no other
    NAME.parquet   the bank, written anew from the file before it and the log: now and then, and at the end
    NAME.md        its card

A recording resumes from the bank as well as from the log, so either file may be lost, or come from elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout
from rich.console import Console

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankSession, BankTraining
from benchmarks.clock import REAL
from benchmarks.files import BenchmarkError, first_line, write_whole
from benchmarks.identity import digest
from benchmarks.out_of_memory import innermost
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Placement
from hpo.engine.signals import GracefulSignals
from hpo.recording import log as logs
from hpo.recording.card import card
from hpo.recording.configurations import DueTraining, ListedConfiguration, orders
from hpo.recording.log import RecordingLog, SessionLine, TrainingLine
from hpo.recording.one_training import Abandoned, failed, train
from hpo.recording.processes import WarmProcess, warm_processes
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock

PACKAGES = ("torch", "transformers", "deepspeed", "peft", "tokenizers", "numpy", "scipy")
"""Packages on whose versions a training's figures depend."""
ATTEMPTS = 2
"""Attempts at a training whose process fails."""
FAILURES_TO_GIVE_UP = 3
"""Trainings that fail one after the other, after which no other is tried."""
SECONDS_PER_LINE = 60.0
SECONDS_PER_BANK = 600.0
"""Time after which the bank is written anew on the way."""
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Files:
    """Files of a recording.

    Attributes:
        folder: where they lie.
        name: of the benchmark.
    """

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        """The log."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def bank(self) -> Path:
        """The bank."""
        return self.folder / f"{self.name}.parquet"

    @property
    def card(self) -> Path:
        """The bank's card."""
        return self.folder / f"{self.name}.md"


@dataclass
class Tally:
    """Progress of a recording.

    Attributes:
        due: trainings that were missing at its begin.
        devices: devices that it holds.
        began: when it began to hold them.
        ended: trainings that have ended since, by outcome.
        useful_seconds: device seconds that trained or evaluated.
    """

    due: int
    devices: float
    began: float = field(default_factory=REAL.now)
    ended: Counter[str] = field(default_factory=Counter)
    useful_seconds: float = 0.0

    @property
    def wall_seconds(self) -> float:
        """Time since it began."""
        return REAL.now() - self.began

    @property
    def useful_share(self) -> float:
        """Share of the device time that trained or evaluated."""
        return self.useful_seconds / (self.devices * self.wall_seconds or 1.0)

    @property
    def left_seconds(self) -> float | None:
        """Time that the trainings still take at the pace so far; None before the first has ended."""
        done = self.ended.total()
        return (self.due - done) * self.wall_seconds / done if done else None


class Recording:
    """A recording under way.

    Args:
        benchmark: as the user gave it, which the digest is of.
        files: its files.
        listed: the configurations.
        seeds: trainings of each.
        console: gets the progress.
    """

    def __init__(
        self, benchmark: Benchmark, files: Files, listed: Sequence[ListedConfiguration], seeds: int, console: Console
    ) -> None:
        self._benchmark, self._files, self._console = benchmark, files, console
        self._planned = (len(listed), seeds)
        recorded = {training.identity for training in self._merged().trainings if training.outcome != "failed"}
        self._due = [order for order in orders(listed, seeds) if order.identity not in recorded]
        self._lock, self._is_revoked, self._failures = Lock(), False, 0
        self._fault = ""

    @property
    def due(self) -> int:
        """Number of trainings that are missing."""
        return len(self._due)

    def revoke(self) -> None:
        """Begin no other training, and leave those under way at their next unit."""
        self._is_revoked = True

    def run(self, placement: Placement, hours: float | None) -> Tally:
        """Train what is missing.

        Args:
            placement: devices, and the benchmark with its precision settled.
            hours: time after which no other training begins; None for no limit.

        Raises:
            BenchmarkError: the log cannot be written, or every training fails.
        """
        allotment, deadline = placement.allotment, REAL.now() + 3600 * hours if hours else None
        session = session_of(placement)
        self._log = RecordingLog(self._files.log)
        self._log.add(SessionLine(name=self._benchmark.name, digest=digest(self._benchmark), session=session))
        self._tally, self._queue = Tally(len(self._due), allotment.devices), iter(self._due)
        self._shown = self._written = REAL.now()
        with GracefulSignals(self), warm_processes(placement) as processes:
            work = [(process, placement.benchmark, session.key, deadline) for process in processes]
            if len(work) == 1:
                self._work(*work[0])
            else:
                with ThreadPoolExecutor(len(work)) as threads:
                    for ended in [threads.submit(self._work, *one) for one in work]:
                        ended.result()
        self.write()
        if self._fault:
            raise BenchmarkError(self._fault)
        return self._tally

    def write(self) -> Bank:
        """Write bank and card anew; neither without a training."""
        bank = self._merged()
        if not bank.trainings:
            return bank
        banks.write(bank, self._files.bank)
        write_whole(self._files.card, card(bank, self._benchmark))
        return bank

    def _merged(self) -> Bank:
        """Join the bank that is there with the log; of two records of one training the later counts, if it is sound."""
        there = digest(self._benchmark)
        logged, before = logs.read(self._files.log), Bank(header_of(self._benchmark), ())
        if self._files.bank.exists():
            before = banks.read(self._files.bank)
        for path, found in ((self._files.log, logged.digest), (self._files.bank, before.header.digest)):
            if found not in ("", there):
                raise BenchmarkError(
                    f"{path} was recorded on another version of {self._benchmark.name} (digest {found}, here {there}): "
                    "model, data or resource differ; give another folder with --output, or restore its files"
                )
        merged = before.by_identity()
        for training in logged.trainings:
            if training.outcome != "failed" or training.identity not in merged:
                merged[training.identity] = training
        sessions = {session.key: session for session in (*before.header.sessions, *logged.sessions)}
        used = {training.session for training in merged.values()}
        kept = tuple(session for key, session in sessions.items() if key in used)
        header = header_of(self._benchmark).model_copy(update={"sessions": kept, "planned": self._planned})
        return Bank(header, tuple(merged.values()))

    # ---- one device after another

    def _work(self, process: WarmProcess, benchmark: Benchmark, session: str, deadline: float | None) -> None:
        """Train one order after the other until none is left."""
        while (order := self._next(deadline)) is not None:
            try:
                training = self._train(process, benchmark, order, session)
            except Abandoned:
                return
            self._book(training)

    def _next(self, deadline: float | None) -> DueTraining | None:
        with self._lock:
            is_over = self._is_revoked or (deadline is not None and REAL.now() >= deadline)
            return None if is_over else next(self._queue, None)

    def _train(self, process: WarmProcess, benchmark: Benchmark, order: DueTraining, session: str) -> BankTraining:
        """Train one order; a process that fails is replaced, and tried again."""
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                return train(benchmark, order, session, process, lambda: not self._is_revoked)
            except Abandoned:
                raise
            except Exception as error:
                cause = innermost(error)
                reason = f"{type(cause).__name__}: {first_line(cause)}"
                process.end()
                if isinstance(cause, BenchmarkError):  # the configuration cannot be used
                    break
        return failed(order, session, reason)

    def _book(self, training: BankTraining) -> None:
        with self._lock:
            self._log.add(TrainingLine(training=training))
            self._tally.ended[training.outcome] += 1
            self._tally.useful_seconds += training.seconds * self._benchmark.devices_per_trial
            self._failures = self._failures + 1 if training.outcome == "failed" else 0
            if self._failures == FAILURES_TO_GIVE_UP:
                self._fault = f"{FAILURES_TO_GIVE_UP} trainings failed one after the other: {training.reason}"
                self.revoke()
            now = REAL.now()
            if now - self._shown >= SECONDS_PER_LINE:
                self._shown = now
                print_line(self._console, progress(self._benchmark.name, self._tally))
            if now - self._written >= SECONDS_PER_BANK:
                self._written = now
                self.write()


def progress(name: str, tally: Tally) -> str:
    """Describe a recording in a line."""
    outcomes = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in sorted(tally.ended.items()))
    left = "?" if tally.left_seconds is None else f"about {clock(tally.left_seconds)}"
    return (
        f"[{clock(tally.wall_seconds)}] {name}: {tally.ended.total()}/{tally.due} trainings | left {left} | "
        f"ended: {outcomes or 'none'} | useful {tally.useful_share:.1%} of device time"
    )


@contextmanager
def only_recorder(files: Files) -> Iterator[None]:
    """Keep other processes from recording into the same files.

    Raises:
        BenchmarkError: one does, or the folder cannot be written.
    """
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(files.folder / f".{files.name}.lock", timeout=0):
            yield
    except Timeout:
        raise BenchmarkError(f"{files.log}: another process records into it; wait, or give --output") from None
    except OSError as error:
        raise BenchmarkError(
            f"output {files.folder}: cannot be written ({error.strerror}); give another folder with --output"
        ) from None


def header_of(benchmark: Benchmark) -> Header:
    """Return the header of a benchmark's bank, without sessions."""
    return Header(
        name=benchmark.name,
        digest=digest(benchmark),
        description=benchmark.description,
        max_units=benchmark.resource.max_units,
        metric=benchmark.metric,
        mode=benchmark.mode,
        hyperparameters=tuple(benchmark.default.model_dump()),
        metrics=tuple(metric.name for metric in benchmark.metrics),
        space={name: domain.model_dump(mode="json") for name, domain in benchmark.space.items()},
    )


def session_of(placement: Placement) -> BankSession:
    """Describe this session of a recording."""
    benchmark = placement.benchmark
    return BankSession(
        key=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {os.getpid()}",
        accelerator=placement.devices.accelerator,
        processor=_processor(),
        precision=benchmark.trial.precision,
        devices=int(placement.allotment.devices),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        commit=_commit(),
    )


def _processor() -> str:
    """Name the CPU as Linux does, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _commit() -> str:
    """Name the suite's commit; empty where it is no checkout."""
    try:
        found = subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
