"""Curves of a bank that answer a configuration and a seed: as they were recorded, or by a model between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError
from benchmarks.space import Config, Scalar


@dataclass(frozen=True)
class CurveUnit:
    """One resource unit of a training, as `benchmarks.banks.training.BankUnit` describes it.

    Attributes:
        metrics: the loss and the task's metrics.
        train_loss: mean loss of its training steps; None where it is not known.
        peak_memory_mb: largest memory of any rank so far, MiB; 0 where it is not known.
        train_seconds: of its training steps.
        evaluate_seconds: of the evaluation on validation.
    """

    metrics: Mapping[str, float]
    train_loss: float | None
    peak_memory_mb: float
    train_seconds: float
    evaluate_seconds: float


@dataclass(frozen=True)
class Curve:
    """A training from its first unit to its end.

    Attributes:
        units: its units in order.
        outcome: "completed", "diverged" or "out_of_memory".
        startup_seconds: time before its first unit.
        test: metrics on the test split at its end; none unless it completed.
        test_seconds: time of that evaluation.
    """

    units: tuple[CurveUnit, ...]
    outcome: str
    startup_seconds: float
    test: Mapping[str, float]
    test_seconds: float


class Curves(Protocol):
    """A source of curves."""

    def curve(self, config: Config, seed: int) -> Curve:
        """Return the curve of a configuration and a seed, the same whenever it is asked for.

        Args:
            config: all hyperparameters.
            seed: of the training.

        Raises:
            BenchmarkError: the source cannot answer this configuration.
        """


def recorded_curve(training: BankTraining) -> Curve:
    """Return a recorded training as a curve.

    Seconds are those that the processor computed, where they are known: other processes of a shared machine do not
    prolong them.
    """
    units = tuple(
        CurveUnit(
            unit.metrics,
            unit.train_loss,
            unit.peak_memory_mb or 0.0,
            first_known(unit.train_cpu_seconds, unit.train_seconds),
            first_known(unit.evaluate_cpu_seconds, unit.evaluate_seconds),
        )
        for unit in training.units
    )
    test_seconds = fmean(unit.evaluate_seconds for unit in units) if units else 0.0
    return Curve(
        units, training.outcome, training.startup_seconds, training.test, training.test_seconds or test_seconds
    )


def first_known(*values: float | None) -> float:
    """Return the first value that is known, or 0."""
    return next((value for value in values if value is not None), 0.0)


def draw(key: Sequence[object]) -> int:
    """Return a whole number of 64 bits that depends on nothing but the key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big")


class RecordedCurves:
    """Recorded curves alone: a configuration that is not in the bank has no answer.

    Args:
        configurations: trainings of each configuration.
    """

    def __init__(self, configurations: Sequence[Sequence[BankTraining]]) -> None:
        self._by_config = {key_of(of_one[0].config): of_one for of_one in configurations}

    def curve(self, config: Config, seed: int) -> Curve:
        """See `Curves`; a seed that was not recorded takes the curve of one that was, chosen by its number."""
        found = self._by_config.get(key_of(config))
        if found is None:
            raise BenchmarkError(
                f"configuration {config} is not in the bank, and `between: table` answers recorded ones alone; take "
                "`between: surrogate`, or a method that draws from the table"
            )
        same = next((training for training in found if training.seed == seed), None)
        return recorded_curve(same or found[draw((seed,)) % len(found)])


def key_of(config: Mapping[str, Scalar]) -> tuple[tuple[str, Scalar], ...]:
    """Return a configuration as the key of a dictionary."""
    return tuple(sorted(config.items()))
