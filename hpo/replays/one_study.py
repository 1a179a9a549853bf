"""Replay one study: Tune's own controller, schedulers and searchers, on a virtual clock and without a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.clock import VirtualClock, computed_seconds
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import RecordedTrial
from hpo.analysis.replayed.study import FreshTraining, Improvement, ReplayedStudy
from hpo.core.books import Books, device_seconds
from hpo.core.results import TrialRow, counts
from hpo.core.study import Study, fresh_seeds, is_better, is_diverged
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.replays.table_plan import plan_of


def replay(study: Study, devices: int, repeats: int) -> ReplayedStudy:
    """Replay a study on a benchmark with a `recorded` block.

    Args:
        study: the study.
        devices: devices that it reserves.
        repeats: fresh trainings of its incumbent.

    Raises:
        BenchmarkError: the study cannot run.
    """
    began = computed_seconds()
    finished = simulated(study, InProcess(devices), plan_of(study))
    incumbent = finished.books.incumbent() if finished.best is not None else None
    found = {} if incumbent is None else _incumbent(study, incumbent, repeats)
    shares = finished.shares
    return ReplayedStudy(
        method=study.method,
        variant=study.variant,
        seed=study.seed,
        budget=study.budget,
        reason=finished.reason,
        outcomes=counts(finished.books.rows),
        units=finished.books.trained_units,
        wall_seconds=finished.books.seconds,
        device_seconds=shares.reserved_seconds,
        parts=shares.seconds,
        model_share=_model_share(finished.books.rows),
        improvements=tuple(improvements(finished.books, study)),
        cpu_seconds=computed_seconds() - began,
        **found,
    )


def _model_share(rows: Sequence[TrialRow]) -> float | None:
    """Return the share of trials that a model proposed; None for a method without one."""
    known = [row.by_model for row in rows if row.by_model is not None]
    return sum(known) / len(known) if known else None


def _incumbent(study: Study, row: TrialRow, repeats: int) -> dict[str, Any]:
    """Return the parts of a replayed study that are its incumbent's."""
    config, benchmark = row.last_config, study.benchmark
    own = train(benchmark, config, row.seed).metrics if row.units == study.max_units else {}
    fresh = tuple(train(benchmark, config, seed) for seed in fresh_seeds(study.seed, repeats))
    return {
        "config": config,
        "incumbent_units": row.units,
        "best": {one.name: row.metrics[one.name] for one in benchmark.metrics if one.name in row.metrics},
        "test": {one.name: own[one.on_test] for one in benchmark.metrics if one.on_test in own},
        "fresh": fresh
        if all(benchmark.verdict_metric.on_test in one.metrics or not one.metrics for one in fresh)
        else (),
    }


def train(benchmark: Benchmark, config: Config, seed: int) -> FreshTraining:
    """Read a full training of a configuration, and its scores on test if the bank has them."""
    clock = VirtualClock(began_at=0.0)
    return FreshTraining(seed=seed, metrics=_scores(benchmark, config, seed, clock), device_seconds=clock.now())


def _scores(benchmark: Benchmark, config: Config, seed: int, clock: VirtualClock) -> dict[str, float]:
    """Return the scores of a full training; none if it diverged or ran out of memory."""
    trial, metrics = RecordedTrial(benchmark, clock), dict[str, float]()
    try:
        trial.start(config, seed)
        for _ in range(benchmark.resource.max_units):
            metrics = trial.run_unit()
            if is_diverged(benchmark, metrics):
                return {}
    except MemoryError:
        return {}
    test = trial.evaluate("test") if trial.has_test else {}
    return {
        **{one.name: metrics[one.name] for one in benchmark.metrics},
        **{one.on_test: test[one.name] for one in benchmark.metrics if one.name in test},
    }


def improvements(books: Books, study: Study) -> Iterator[Improvement]:
    """Yield each improvement of the incumbent at the full resource, in order of time."""
    best: float | None = None
    for number, unit in enumerate(books.units, start=1):
        if unit.units < study.max_units or is_diverged(study.benchmark, unit.metrics):
            continue
        value = float(unit.metrics[study.benchmark.metric])
        if best is None or is_better(study.benchmark, value, best):
            best = value
            yield Improvement(
                wall_seconds=unit.ended_seconds,
                device_seconds=device_seconds(books.reservations, unit.ended_seconds),
                units=number,
                value=value,
            )
