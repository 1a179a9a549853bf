"""Confirmation of studies: each incumbent is trained again with fresh seeds and scored on the test split.

The score of an incumbent on validation is a maximum over many trials and seeds, so it favours methods that tried more
(the winner's curse). A confirmation draws again: the incumbent of every study, and the benchmark's default
configuration, are trained to the full resource with `repeats` seeds that no study used, the same seeds for all methods
of a block, and each is evaluated once on test. An incumbent of a population is confirmed by replaying its schedule.

It runs as a study runs, with a ledger of its own, and leaves out trainings that the store has already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.search import BasicVariantGenerator
from rich.console import Console

from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis.over_cost.along import SHARES, schedule_at
from hpo.analysis.records import Records
from hpo.core.study import (
    CONFIRMS,
    SCHEDULE,
    TRAINING_SEED,
    Schedule,
    Study,
    default_schedule,
    fresh_seeds,
    schedule_digest,
)
from hpo.engine.runner import Executor, Finished, execute, report
from hpo.search.plan import Plan

METHOD = "confirm"


def due(records: Records, methods: Sequence[str], repeats: int, along: bool = False) -> list[dict[str, Any]]:
    """List the trainings that the store lacks: incumbents and the default configuration, with a block's fresh seeds.

    Args:
        records: studies and confirmations that are stored.
        methods: labels of the methods to confirm; all of them if empty.
        repeats: fresh seeds of each, at least 1.
        along: whether the incumbents at a quarter and half of the budget are confirmed too, where there are such.

    Returns:
        Proposals, see `study.training_of`; one where several studies came to the same configuration.

    Raises:
        BenchmarkError: no study of a method, fewer than one repeat, or a run whose files cannot be had.
    """
    if repeats < 1:
        raise BenchmarkError(f"repeats is {repeats}, but must be >= 1; 5 are usual")
    for label in methods or (None,):
        records.require_readable(label)
    labels = {study.label for study in records.studies}
    for method in methods:
        if method not in labels:
            raise BenchmarkError(f"no finished study of {method!r}; there are: {', '.join(sorted(labels))}")
    chosen = [study for study in records.studies if not methods or study.label in methods]
    wanted = [(study.seed, study.schedule) for study in chosen if study.schedule]
    if along:
        halfway = [(one.seed, schedule_at(one, records.benchmark, share)) for one in chosen for share in SHARES]
        wanted += [(block, schedule) for block, schedule in halfway if schedule]
    wanted += [(block, default_schedule(records.benchmark)) for block in sorted({study.seed for study in chosen})]
    there = {(one.schedule, one.seed) for one in records.confirmations}
    proposals = {
        (schedule_digest(records.benchmark, schedule), seed): _proposal(schedule, seed)
        for block, schedule in wanted
        for seed in fresh_seeds(block, repeats)
    }
    return [proposal for identity, proposal in proposals.items() if identity not in there]


def _proposal(schedule: Schedule, seed: int) -> dict[str, Any]:
    return {TRAINING_SEED: seed, SCHEDULE: [[units, config] for units, config in schedule]}


def train_again(
    benchmark: Benchmark,
    proposals: Sequence[dict[str, Any]],
    gpu_hours: float | None,
    command: str,
    console: Console,
    executor: Executor | None = None,
) -> Finished:
    """Train and score.

    Args:
        benchmark: with the files of this machine.
        proposals: see `due`, at least one.
        gpu_hours: cap in device-hours; trainings that it leaves out are due the next time.
        command: the command that was given, for the record.
        console: gets the progress.
        executor: where trials run; by default on a Ray of their own.

    Raises:
        BenchmarkError: an argument cannot be used; nothing has been started.
    """
    study = Study(METHOD, benchmark, 0, len(proposals), gpu_hours, kind="confirmation")
    plan = Plan(BasicVariantGenerator(), {CONFIRMS: tune.grid_search(list(proposals))}, num_samples=1, is_list=True)
    finished = execute(study, command, console, executor, plan=plan)
    if not finished.is_delivered:  # else the store shows them
        report(console, study, finished)
    return finished


def require_same(benchmark: Benchmark, records: Records) -> None:
    """Make sure that the benchmark here is the one that the studies ran.

    Raises:
        BenchmarkError: the stored studies ran another version of the benchmark.
    """
    stored = records.digest
    if digest(benchmark) != stored:
        raise BenchmarkError(
            f"the stored studies of {benchmark.name} ran another version of it (digest {stored}, here "
            f"{digest(benchmark)}): model, data or resource differ; run the suite again, or restore its files"
        )
