"""Record a bank: train the configurations that its file and log lack, and write each training to the log as it ends.

The folder gets, by the benchmark's name::

    NAME.jsonl     the log; a driver that is killed loses the trainings that were under way, and no other
    NAME.parquet   the bank, written anew from the file before it and the log: now and then, and at the end
    NAME.md        its card
    NAME.part-I.jsonl  the log of a part, where several processes record one bank, such as tasks of an array

A recording resumes from the bank as well as from the log, so either file may be lost, or come from elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from rich.console import Console

from benchmarks.banks.bank import Bank
from benchmarks.banks.training import BankTraining
from benchmarks.clock import REAL
from benchmarks.files import BenchmarkError, first_line
from benchmarks.out_of_memory import innermost
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Placement
from hpo.engine.signals import GracefulSignals
from hpo.recording import log as logs
from hpo.recording.configurations import DueTraining, ListedConfiguration, orders
from hpo.recording.files import Files, header_of, joined, require_same, session_of, stored, write
from hpo.recording.log import RecordingLog, SessionLine, TrainingLine
from hpo.recording.one_training import Abandoned, failed, train
from hpo.recording.processes import WarmProcess, warm_processes
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock

ATTEMPTS = 2
"""Attempts at a training whose process fails."""
FAILURES_TO_GIVE_UP = 3
"""Trainings that fail one after the other, after which no other is tried."""
SECONDS_PER_LINE = 60.0
SECONDS_PER_BANK = 600.0
"""Time after which the bank is written anew on the way."""


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
        parts: processes that record the bank; the part of this one is that of its files. A part writes its log alone.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        files: Files,
        listed: Sequence[ListedConfiguration],
        seeds: int,
        console: Console,
        parts: int = 1,
    ) -> None:
        self._benchmark, self._files, self._console = benchmark, files, console
        self._planned, self._header = (len(listed), seeds), header_of(benchmark)
        sound = [one for one in self._merged().trainings if one.outcome not in ("failed", "stopped")]
        recorded = {training.identity for training in sound}
        every = orders(listed, seeds)
        own = every if files.part is None else every[files.part :: parts]
        self._due = [order for order in own if order.identity not in recorded]
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
        """Train the missing ones.

        Args:
            placement: devices, and the benchmark with its precision settled.
            hours: time after which no other training begins; None for no limit.

        Raises:
            BenchmarkError: the log cannot be written, or every training fails.
        """
        allotment, deadline = placement.allotment, REAL.now() + 3600 * hours if hours else None
        session = session_of(placement)
        self._log = RecordingLog(self._files.log)
        self._log.add(SessionLine(name=self._benchmark.name, digest=self._header.digest, session=session))
        self._tally, self._queue = Tally(len(self._due), allotment.devices), iter(self._due)
        self._shown = self._written = REAL.now()
        signals = GracefulSignals(self)
        with signals, warm_processes(placement) as processes:
            signals.install()  # Ray has taken SIGTERM
            work = [(process, placement.benchmark, session.key, deadline) for process in processes]
            if len(work) == 1:
                self._work(*work[0])
            else:
                with ThreadPoolExecutor(len(work)) as threads:
                    for ended in [threads.submit(self._work, *one) for one in work]:
                        ended.result()
        self.write(is_last=True)
        if self._fault:
            raise BenchmarkError(self._fault)
        return self._tally

    def write(self, is_last: bool = False) -> Bank:
        """Write bank and card anew; neither without a training.

        Args:
            is_last: whether the session ends with it: then the card checks a model of the curves, which takes time.
        """
        bank = self._merged()
        if not bank.trainings or self._files.part is not None:
            return bank
        write(bank, self._files, self._benchmark if is_last else None)
        return bank

    def _merged(self) -> Bank:
        """Join the bank that is there with the logs."""
        merged = stored(self._files, self._header)
        for path in self._files.logs:
            logged = logs.read(path)
            require_same(path, logged.digest, self._header)
            merged = joined(merged, logged.sessions, logged.trainings)
        return joined(merged, (), (), self._planned)

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
