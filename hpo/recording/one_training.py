"""One training of a bank, from its start to the scores on test, on a process that is warm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.banks.bank import UNIT_COLUMNS
from benchmarks.banks.training import BankTraining, BankUnit
from benchmarks.clock import REAL
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.out_of_memory import IN_EVALUATION, failure_reason, rescued, sign_of, with_micro_batch
from benchmarks.spec import Benchmark
from benchmarks.tasks.record_scores import pack
from benchmarks.trials.trial import TrialThatEnds
from hpo.core.results import divergence
from hpo.core.study import is_diverged
from hpo.recording.configurations import DueTraining
from hpo.recording.processes import WarmProcess


class Abandoned(Exception):  # noqa: N818 - no error
    """The recording is to end before the training does."""


@dataclass(frozen=True)
class _MemoryAttempt:
    """An attempt at a training.

    Attributes:
        hp: its hyperparameters; another micro-batch than the order's after a rescue.
        is_rescue: whether an attempt before ran out of memory.
        failed_seconds: time lost before.
    """

    hp: Hyperparameters
    is_rescue: bool = False
    failed_seconds: float = 0.0


def train(
    benchmark: Benchmark, order: DueTraining, session: str, process: WarmProcess, goes_on: Callable[[], bool]
) -> BankTraining:
    """Train in full, or until the loss is lost or memory runs out; as a trial of a study does, without its stops.

    A training that runs out of memory in its first unit begins again in smaller micro-batches, if the benchmark says
    so.

    Args:
        benchmark: with its precision settled.
        order: the training.
        session: key of the recording's session.
        process: trains it; ended after it ran out of memory.
        goes_on: asked before each unit.

    Raises:
        Abandoned: the recording is to end.
        Exception: the process failed for another reason than memory.
    """
    attempt, began = _MemoryAttempt(benchmark.hyperparameters(order.configuration.config)), REAL.now()
    while True:
        units: list[BankUnit] = []
        try:
            return _train_once(benchmark, order, session, process.get(), goes_on, attempt, units)
        except Exception as error:
            if not (sign := sign_of(error)):
                raise
            smaller = rescued(attempt.hp) if benchmark.rescue and not units and IN_EVALUATION not in sign else None
            reason = failure_reason(benchmark, order.configuration.config, error)
        process.end()
        lost = REAL.now() - began
        if smaller is None:
            return _ended(order, session, "out_of_memory", reason, units=tuple(units), failed_seconds=lost)
        attempt = _MemoryAttempt(smaller, is_rescue=True, failed_seconds=lost)


def _train_once(
    benchmark: Benchmark,
    order: DueTraining,
    session: str,
    process: TrialThatEnds,
    goes_on: Callable[[], bool],
    attempt: _MemoryAttempt,
    units: list[BankUnit],
) -> BankTraining:
    """Train with the hyperparameters of one attempt; `units` gets the units."""
    began, config = REAL.now(), order.configuration.config
    process.start(with_micro_batch(config, attempt.hp) if attempt.is_rescue else config, order.seed)
    figures: dict[str, Any] = {
        "startup_seconds": REAL.now() - began,
        "failed_seconds": attempt.failed_seconds,
        "micro_batch": attempt.hp.batch_size_per_device if attempt.is_rescue else None,
    }
    for _ in range(benchmark.resource.max_units):
        if not goes_on():
            raise Abandoned
        metrics = process.run_unit()
        units.append(_unit(benchmark, metrics))
        if is_diverged(benchmark, metrics):
            reason = divergence(units[-1].unit, metrics)
            return _ended(order, session, "diverged", reason, units=tuple(units), **figures)
    began = REAL.now()
    test, each = process.evaluate_each("test")
    figures["test_seconds"] = REAL.now() - began
    figures["test"] = {metric.name: test[metric.name] for metric in benchmark.metrics}
    figures["each"] = {name: pack(values) for name, values in each.items()}
    return _ended(order, session, "completed", units=tuple(units), **figures)


def failed(order: DueTraining, session: str, reason: str) -> BankTraining:
    """Return the record of a training whose process failed."""
    return _ended(order, session, "failed", reason)


def _unit(benchmark: Benchmark, metrics: Mapping[str, float]) -> BankUnit:
    scores = {metric.name: metrics[metric.name] for metric in benchmark.metrics}
    others = {name: metrics[name] for name in UNIT_COLUMNS if name in metrics}
    return BankUnit(unit=int(metrics["units"]), metrics=scores, **others)


def _ended(order: DueTraining, session: str, outcome: Any, reason: str = "", **figures: Any) -> BankTraining:
    source, config = order.configuration.source, order.configuration.config
    return BankTraining(
        source=source, config=config, seed=order.seed, session=session, outcome=outcome, reason=reason, **figures
    )
