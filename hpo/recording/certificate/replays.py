"""Replays of studies in this process: on the model of a bank's curves, or on the curves of one real study."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank
from benchmarks.banks.training import BankSession
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import Recorded
from hpo.core.books import Books
from hpo.core.event_log import event_of
from hpo.core.events import Event
from hpo.core.study import Study, training_of
from hpo.engine.in_process import InProcess, Unkept
from hpo.engine.in_process.arrivals import InOrder
from hpo.engine.in_process.simulated import simulated
from hpo.engine.study_folder import Unfinished
from hpo.recording.certificate.decisions import DecisionsCompared, arrivals, compared, training_key, unrepeatable
from hpo.recording.collecting import trainings_of
from hpo.recording.files import header_of
from hpo.search.plan import Plan


@dataclass(frozen=True)
class StudyInProcess:
    """A study that was replayed.

    Attributes:
        events: all of it.
        books: its trials and device time.
        reason: cause of an early end; empty if it reached its end.
    """

    events: tuple[Event, ...]
    books: Books
    reason: str


def replayed(study: Study, executor: InProcess, plan: Plan | None = None) -> StudyInProcess:
    """Run a study in this process, and leave nothing behind.

    Args:
        study: of a benchmark with a `recorded` block.
        executor: its place.
        plan: of its method, for those who ask its searcher afterwards.

    Raises:
        BenchmarkError: the bank cannot answer, or the method cannot be used.
    """
    folders: list[Unkept] = []

    def open_folder(run_id: str) -> Unfinished:
        folders.append(Unkept(run_id))
        return folders[-1]

    done = simulated(study, executor, plan, open_folder)
    events = tuple(event_of(line) for line in folders[0].log.text().splitlines())
    return StudyInProcess(events, done.books, done.reason)


def recorded_by(benchmark: Benchmark, path: Path, between: str) -> Benchmark:
    """Return a benchmark whose trials are read from a bank.

    Args:
        benchmark: the one that was recorded.
        path: the bank's file.
        between: see `benchmarks.trials.recorded.Recorded`.
    """
    digest = banks.read(path).header.digest
    block = Recorded.model_validate(
        {"bank": path.resolve(), "digest": digest, "between": between, "task": benchmark.trial.task}
    )
    content = {"name": f"{benchmark.name}_recorded", "finetune": None, "synthetic": None, "recorded": block}
    return benchmark.model_copy(update=content)


def same_decisions(study: Study, events: Sequence[Event], at_once: int) -> DecisionsCompared:
    """Replay a real study on its own curves, its units in their own order, and compare each decision.

    Args:
        study: as it was asked for.
        events: of the real one.
        at_once: trials that it ran at once.

    Raises:
        BenchmarkError: the study cannot be replayed unit by unit, see `decisions.unrepeatable`.
    """
    if why := unrepeatable(events):
        raise BenchmarkError(f"{study.name} cannot be replayed unit by unit: {why}")
    trainings, _ = trainings_of(events, study.benchmark, study.name)
    header = header_of(study.benchmark).model_copy(update={"sessions": (BankSession(key=study.name, accelerator=""),)})

    def key_of(proposal: dict[str, Any]) -> str:
        training = training_of(study, proposal)
        return training_key(training.seed, training.schedule)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.parquet")
        banks.write(Bank(header, tuple({one.identity: one for one in trainings}.values())), path)
        of_table = replace(study, benchmark=recorded_by(study.benchmark, path, "table"))
        again = replayed(of_table, InOrder(at_once, arrivals(events), key_of))
    return compared(events, again.events)
