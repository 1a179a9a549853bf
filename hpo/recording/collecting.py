"""Collect the trials of stored studies into a bank: past runs are the best bank there is.

Each study and confirmation keeps its log of events, which tells each unit with its seconds. A trial whose weights saw
several configurations, as members of populations do, belongs to none of them and is left out. Trials that a method
stopped stay, as far as they got.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.banks.training import BankOutcome, BankSession, BankTraining, BankUnit
from benchmarks.identity import digest
from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import TRAIN_LOSS
from hpo.core import event_log
from hpo.core.books import Books
from hpo.core.events import Event
from hpo.core.results import TrialRow, UnitRow
from hpo.store.queries import stored_runs
from hpo.store.reading import read_files

if TYPE_CHECKING:  # the store alone talks to MLflow
    from mlflow.entities import Run

KINDS = ("study", "confirmation")
"""Values of the tag `hpo.kind` of runs whose trials are collected."""


@dataclass(frozen=True)
class Collected:
    """Trials of stored studies.

    Attributes:
        sessions: one per study.
        trainings: in order of the studies.
        left_out: a sentence for each study whose log cannot be used.
        num_mixed: trials that several configurations trained, which are left out.
    """

    sessions: list[BankSession]
    trainings: list[BankTraining]
    left_out: list[str]
    num_mixed: int


def collect(benchmark: Benchmark) -> Collected:
    """Collect the trials of all studies of a benchmark that have ended.

    Raises:
        BenchmarkError: the store cannot be used, or has no such study.
    """
    stored = stored_runs(benchmark.name, f"tags.hpo.benchmark_digest = '{digest(benchmark)}'")
    chosen = [run for run in stored if run.data.tags.get("hpo.kind") in KINDS]
    runs = sorted(chosen, key=lambda run: run.info.start_time)
    if not runs:
        raise BenchmarkError(f"the store has no study of {benchmark.name} in this version; run one, or record a bank")
    found = Collected([], [], [], 0)
    for run in runs:
        read = read_files(run, [event_log.FILE])
        if event_log.FILE not in read.texts:
            why = read.faults.get(event_log.FILE, "it has no log of events; it runs, or an earlier version stored it")
            found.left_out.append(f"{run.info.run_name} (run {run.info.run_id}): {why}")
            continue
        session = _session(run)
        trainings, mixed = trainings_of(_events(read.texts[event_log.FILE], run), benchmark, session.key)
        found = Collected(
            [*found.sessions, session], [*found.trainings, *trainings], found.left_out, found.num_mixed + mixed
        )
    return found


def _events(text: str, run: Run) -> list[Event]:
    try:
        return [event_log.event_of(line) for line in text.splitlines()]
    except BenchmarkError as error:
        raise BenchmarkError(f"{event_log.FILE} of run {run.info.run_id}: {error}") from None


def _session(run: Run) -> BankSession:
    """Describe a study as the origin of trainings."""
    tags = run.data.tags
    prefix = "hpo.version."
    packages = {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}
    return BankSession(
        key=run.info.run_id,
        accelerator=tags.get("hpo.accelerator", ""),
        precision=tags.get("hpo.precision", ""),
        packages=packages,
        commit=tags.get("mlflow.source.git.commit", ""),
        origin=f"{tags.get('hpo.kind')} of {tags.get('hpo.method')}, seed {tags.get('hpo.seed')}",
    )


def trainings_of(events: Iterable[Event], benchmark: Benchmark, session: str) -> tuple[list[BankTraining], int]:
    """Return the trainings that a study's events tell of, and the number of trials that are none.

    Args:
        events: of the whole study.
        benchmark: the benchmark that it tuned.
        session: key of the origin.

    Raises:
        BenchmarkError: no study has these events.
    """
    books = Books(benchmark)
    for event in events:
        books.apply(event)
    units: dict[int, dict[int, UnitRow]] = {}
    for unit in books.units:  # a unit that was trained again, after a failure, counts as it was the last time
        units.setdefault(unit.trial, {})[unit.units] = unit
    rows = [row for row in books.rows if len(row.schedule) == 1]
    trainings = [_training(row, list(units.get(row.number, {}).values()), benchmark, session) for row in rows]
    return [one for one in trainings if one is not None], len(books.rows) - len(rows)


def _training(row: TrialRow, units: Sequence[UnitRow], benchmark: Benchmark, session: str) -> BankTraining | None:
    """Return a trial as a training; None if it has neither a unit nor an end that tells of the configuration."""
    outcome = _outcome(row)
    if outcome == "failed" and not units:
        return None
    kept = sorted((unit for unit in units if unit.units <= row.units), key=lambda unit: unit.units)
    names = [metric.name for metric in benchmark.metrics]
    last = kept[-1].metrics if kept else {}
    test = {metric.name: last[metric.on_test] for metric in benchmark.metrics if metric.on_test in last}
    first = kept[0].seconds if kept else {}
    return BankTraining(
        source="study",
        config=benchmark.hyperparameters(row.config).model_dump(),
        seed=row.seed,
        session=session,
        outcome=outcome,
        reason="" if outcome == "completed" else row.reason,
        micro_batch=row.micro_batch,
        startup_seconds=first.get("startup", 0.0),
        failed_seconds=sum(unit.seconds.get("failed", 0.0) for unit in kept),
        units=tuple(_unit(unit, names) for unit in kept),
        test=test,
    )


def _outcome(row: TrialRow) -> BankOutcome:
    if row.outcome == "failed":
        return "out_of_memory" if row.reason.startswith(OUT_OF_MEMORY) else "failed"
    if row.outcome in ("completed", "diverged"):
        return row.outcome
    return "stopped"


def _unit(unit: UnitRow, names: Sequence[str]) -> BankUnit:
    others = {name: unit.metrics.get(name) for name in (TRAIN_LOSS, "skipped_steps", "peak_memory_mb")}
    return BankUnit.model_validate(
        {
            "unit": unit.units,
            "metrics": {name: unit.metrics[name] for name in names if name in unit.metrics},
            "train_seconds": unit.seconds.get("train"),
            "evaluate_seconds": unit.seconds.get("evaluate"),
            **others,
        }
    )
