"""Seconds of trainings on another accelerator than the one whose curves are read.

A configuration that was trained there takes the mean of its recorded seconds. Any other takes those of a model: the
Gaussian process of `surrogate.fit_process`, on the logarithms of the means of all configurations that were. Scores, the
units at which trainings diverge, and those that run out of memory stay those of the curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.banks.curves import Curve, Curves, key_of, recorded_curve
from benchmarks.banks.encoding import Floats, encode
from benchmarks.banks.surrogate import MIN_CONFIGURATIONS, ProcessMean, fit_process
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError
from benchmarks.space import Config, Space

SHORTEST = 1e-6
"""Seconds below which a duration counts as so many, since it has a logarithm."""


@dataclass(frozen=True)
class Durations:
    """Seconds of a training.

    Attributes:
        train: of a unit's training steps.
        evaluate: of a unit's evaluation.
        startup: before the first unit.
        test: of the evaluation on the test split.
    """

    train: float
    evaluate: float
    startup: float
    test: float


class RecordedDurations:
    """Durations on one accelerator; see the module.

    Args:
        configurations: trainings of each configuration there.
        space: the search space that configurations vary in.

    Raises:
        BenchmarkError: too few configurations were trained there for a model.
    """

    def __init__(self, configurations: Sequence[Sequence[BankTraining]], space: Space) -> None:
        self._space = space
        trained = [[one for one in of_one if one.units] for of_one in configurations]
        trained = [of_one for of_one in trained if of_one]
        if len(trained) < MIN_CONFIGURATIONS:
            raise BenchmarkError(
                f"{len(trained)} configurations were trained there, but a model of their seconds needs "
                f"{MIN_CONFIGURATIONS}; record more"
            )
        means = [np.mean([_durations(one) for one in of_one], axis=0) for of_one in trained]
        self._known = {key_of(of_one[0].config): own for of_one, own in zip(trained, means, strict=True)}
        points = np.array([encode(of_one[0].config, space) for of_one in trained])
        self._model = ProcessMean.of(fit_process(points, np.log(np.maximum(np.array(means), SHORTEST))))

    def of(self, config: Config) -> Durations:
        """Return the durations of a configuration with all hyperparameters."""
        known = self._known.get(key_of(config))
        found = np.exp(self._model.at(encode(config, self._space))) if known is None else known
        return Durations(*(float(value) for value in found))


def _durations(training: BankTraining) -> Floats:
    curve = recorded_curve(training)
    number = len(curve.units)
    train, evaluate = (
        sum(unit.train_seconds for unit in curve.units) / number,
        sum(unit.evaluate_seconds for unit in curve.units) / number,
    )
    return np.array([train, evaluate, curve.startup_seconds, curve.test_seconds])


class Retimed:
    """Curves with the durations of another accelerator.

    Args:
        curves: the curves.
        durations: the durations.
    """

    def __init__(self, curves: Curves, durations: RecordedDurations) -> None:
        self._curves, self._durations = curves, durations

    def curve(self, config: Config, seed: int) -> Curve:
        """See `benchmarks.banks.curves.Curves`."""
        found, own = self._curves.curve(config, seed), self._durations.of(config)
        units = tuple(replace(unit, train_seconds=own.train, evaluate_seconds=own.evaluate) for unit in found.units)
        return replace(found, units=units, startup_seconds=own.startup, test_seconds=own.test)
