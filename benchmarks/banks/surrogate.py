"""A model of a bank's curves: it answers any configuration of the search space.

The mean curve of a configuration is a Gaussian process over the cube of `encoding` (Rasmussen and Williams 2006,
https://gaussianprocess.org/gpml/; scikit-learn's), one kernel for all outputs: each metric at each unit, the test
metrics, and the logarithms of seconds. Each output is first brought to a normal distribution by its ranks, so that a
few diverging losses do not outweigh the rest; the way back is the recorded quantiles, so no mean leaves their range.
Forests and boosted trees were less exact on the curves that they were compared on.

The noise of a seed is the difference between a seed's curve and the mean of its configuration's seeds, taken whole from
one of the nearest configurations that have several, with either sign: it is correlated over units and metrics as in the
recording, and as large as it is nearby. Seed and configuration choose it, so a curve is the same whenever it is asked
for. A bank with one seed per configuration gives curves without noise.

Configurations diverge, or run out of memory, with the share of their nearest recorded neighbours that did. What is near
is told by the kernel's length scales: an axis that does not matter does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.banks.curves import Curve, CurveUnit, draw, first_known, recorded_curve
from benchmarks.banks.encoding import Floats, encode
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError
from benchmarks.space import Config, Space
from benchmarks.tasks.task import Metric

MIN_CONFIGURATIONS = 10
"""Completed configurations below which no model is fitted."""
MAX_FITTED = 400
"""Configurations from which the kernel's length scales are found, at most: their cost grows with the cube."""
NEIGHBOURS = 5
"""Configurations whose share of failures a configuration takes."""
NOISY_NEIGHBOURS = 12
"""Configurations from which noise is taken: two or three seeds of a few tell too little of how wide it is."""
COMPLETED = "completed"


@dataclass(frozen=True)
class NormalRanks:
    """A way from values to a normal distribution and back, per output.

    Attributes:
        values: recorded values of each output in order, `(number, outputs)`.
        normal: the normal quantiles that they stand for, `(number,)`.
    """

    values: Floats
    normal: Floats

    def forward(self, rows: Floats) -> Floats:
        """Bring rows `(rows, outputs)` to normal terms; equal values share the mean of their places."""
        found = np.empty_like(rows)
        for j in range(rows.shape[1]):
            ordered = self.values[:, j]
            low = np.searchsorted(ordered, rows[:, j], side="left")
            high = np.searchsorted(ordered, rows[:, j], side="right") - 1
            low, high = np.clip(low, 0, len(ordered) - 1), np.clip(high, 0, len(ordered) - 1)
            found[:, j] = (self.normal[low] + self.normal[high]) / 2
        return found

    def back(self, row: Floats) -> Floats:
        """Bring one row `(outputs,)` back to values."""
        places = np.interp(row, self.normal, np.arange(len(self.normal)))
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, len(self.normal) - 1)
        columns = np.arange(len(row))
        below, above = self.values[low, columns], self.values[high, columns]
        return np.asarray(below + (places - low) * (above - below), dtype=float)


def normal_ranks(rows: Floats) -> NormalRanks:
    """Return the way to a normal distribution of each column of `(rows, outputs)`."""
    from scipy.special import ndtri

    number = len(rows)
    return NormalRanks(np.sort(rows, axis=0), np.asarray(ndtri((np.arange(number) + 0.5) / number), dtype=float))


def completed_of(configurations: Sequence[Sequence[BankTraining]]) -> list[list[BankTraining]]:
    """Return the trainings of each configuration that completed, without configurations of which none did."""
    found = [[training for training in of_one if training.outcome == COMPLETED] for of_one in configurations]
    return [of_one for of_one in found if of_one]


class Surrogate:
    """A model of curves; see the module.

    Args:
        configurations: trainings of each configuration.
        space: the search space that configurations vary in.
        metrics: of an evaluation, the loss first.
        max_units: units of a training in full.

    Raises:
        BenchmarkError: too few configurations completed.
    """

    def __init__(
        self, configurations: Sequence[Sequence[BankTraining]], space: Space, metrics: Sequence[Metric], max_units: int
    ) -> None:
        self._space, self._units = space, max_units
        self._metrics, self._bounds = tuple(metric.name for metric in metrics), [metric.bounds for metric in metrics]
        completed = completed_of(configurations)
        if len(completed) < MIN_CONFIGURATIONS:
            raise BenchmarkError(
                f"the bank has {len(completed)} configurations that completed, but a model of its curves needs "
                f"{MIN_CONFIGURATIONS}; record more, or take `between: table`"
            )
        self._has_test = all(t.test for of_one in completed for t in of_one)
        rows = [np.array([self._row(t) for t in of_one]) for of_one in completed]
        self._to_normal = normal_ranks(np.concatenate(rows))
        points = np.array([encode(of_one[0].config, space) for of_one in completed])
        means = np.array([self._to_normal.forward(of_one).mean(axis=0) for of_one in rows])
        self._model = ProcessMean.of(fit_process(points, means))
        self._scales: Floats = self._model.scales
        self._set_noise(points, rows)
        self._set_failures(configurations)

    def _set_noise(self, points: Floats, rows: Sequence[Floats]) -> None:
        """Keep the deviation of each seed from its configuration's mean, as wide as one from the true mean is."""
        repeated = [i for i, of_one in enumerate(rows) if len(of_one) > 1]
        self._noisy_points = points[repeated]
        self._noise = [
            (rows[i] - rows[i].mean(axis=0)) * math.sqrt(len(rows[i]) / (len(rows[i]) - 1)) for i in repeated
        ]

    def _set_failures(self, configurations: Sequence[Sequence[BankTraining]]) -> None:
        """Keep the trainings of all configurations, if any did not complete."""
        ended = [[training for training in of_one if training.outcome != "stopped"] for of_one in configurations]
        ended = [of_one for of_one in ended if of_one]
        has_failures = any(training.outcome != COMPLETED for of_one in ended for training in of_one)
        self._every = ended if has_failures else []
        self._every_point = np.array([encode(of_one[0].config, self._space) for of_one in self._every])

    def curve(self, config: Config, seed: int) -> Curve:
        """See `benchmarks.banks.curves.Curves`."""
        point = encode(config, self._space)
        failure = self._failure(point, config, seed)
        return recorded_curve(failure) if failure is not None else self._completed(point, config, seed)

    def mean_curve(self, config: Config) -> Curve:
        """Return the curve of a configuration without the noise of a seed, as if it completed."""
        return self._curve(self._mean_row(encode(config, self._space)))

    def noise_at_end(self, config: Config, metric: str) -> tuple[Floats, Floats]:
        """Return the noise of seeds in a metric at the last unit: all values that it can take, and their chances."""
        if not self._noise:
            return np.empty(0), np.empty(0)
        column = self._metrics.index(metric) * self._units + self._units - 1
        near = self._nearest(self._noisy_points, encode(config, self._space), NOISY_NEIGHBOURS)
        of_each = [np.concatenate([self._noise[i][:, column], -self._noise[i][:, column]]) for i in near]
        chances = [np.full(len(values), 1 / len(values) / len(near)) for values in of_each]
        return np.concatenate(of_each), np.concatenate(chances)

    def _mean_row(self, point: Floats) -> Floats:
        return self._to_normal.back(self._model.at(point))

    def _completed(self, point: Floats, config: Config, seed: int) -> Curve:
        row = self._mean_row(point)
        if self._noise:
            near = self._nearest(self._noisy_points, point, NOISY_NEIGHBOURS)
            residuals = self._noise[near[draw(("neighbour", config, seed)) % len(near)]]
            sign = 1 if draw(("sign", config, seed)) % 2 else -1
            row = row + sign * residuals[draw(("residual", config, seed)) % len(residuals)]
        return self._curve(row)

    def _failure(self, point: Floats, config: Config, seed: int) -> BankTraining | None:
        """Return the recorded failure that a configuration repeats with this seed; None if it completes."""
        if not self._every:
            return None
        near = [self._every[i] for i in self._nearest(self._every_point, point, NEIGHBOURS)]
        failed = [[training for training in of_one if training.outcome != COMPLETED] for of_one in near]
        share = sum(len(some) / len(of_one) for some, of_one in zip(failed, near, strict=True)) / len(near)
        chance = (draw(("failure", config, seed)) + 0.5) / 2**64
        return next(some[0] for some in failed if some) if chance < share else None

    def _nearest(self, points: Floats, point: Floats, most: int) -> list[int]:
        """Return the places of the nearest points, the nearest first."""
        distances = (((points - point) / self._scales) ** 2).sum(axis=1)
        number = min(most, len(points))
        found = np.argpartition(distances, number - 1)[:number]
        return [int(i) for i in found[np.argsort(distances[found], kind="stable")]]

    # ---- a curve as a row of outputs and back

    def _row(self, training: BankTraining) -> list[float]:
        curve = recorded_curve(training)
        values = [unit.metrics[name] for name in self._metrics for unit in curve.units]
        values += [first_known(unit.train_loss, unit.metrics[self._metrics[0]]) for unit in curve.units]
        values += [training.test[name] for name in self._metrics] if self._has_test else []
        number = len(curve.units)
        seconds = (
            sum(unit.train_seconds for unit in curve.units) / number,
            sum(unit.evaluate_seconds for unit in curve.units) / number,
            curve.startup_seconds,
            curve.test_seconds,
        )
        return [*values, *(max(0.0, one) for one in seconds), curve.units[-1].peak_memory_mb]

    def _curve(self, row: Floats) -> Curve:
        number = self._units * (len(self._metrics) + 1)
        by_unit = row[:number].reshape(len(self._metrics) + 1, self._units)
        train, evaluate, startup, test, memory = (max(0.0, float(value)) for value in row[-5:])
        units = tuple(
            CurveUnit(self._scores(scores), max(0.0, train_loss), memory, train, evaluate)
            for *scores, train_loss in by_unit.T.tolist()
        )
        return Curve(units, COMPLETED, startup, self._scores(row[number:-5].tolist()), test)

    def _scores(self, values: Sequence[float]) -> dict[str, float]:
        """Return metrics by name, each within its bounds; none of no values."""
        return {
            name: min(max(value, low), high)
            for name, value, (low, high) in zip(self._metrics, values, self._bounds, strict=False)
        }


@dataclass(frozen=True)
class ProcessMean:
    """The mean of a fitted Gaussian process with the kernel of `fit_process`, at one point.

    scikit-learn's `predict` gives the same, and takes a hundred times as long to check its arguments.

    Attributes:
        points: of the fit, each axis divided by its length scale, `(points, axes)`.
        scales: length scales, `(axes,)`.
        weights: of each point, `(points, outputs)`, with the kernel's variance and the outputs' deviations in them.
        offset: mean of each output, `(outputs,)`.
    """

    points: Floats
    scales: Floats
    weights: Floats
    offset: Floats

    @classmethod
    def of(cls, model: Any) -> ProcessMean:
        """Take the arrays out of a fitted process."""
        product = model.kernel_.k1
        scales = product.k2.length_scale
        weights = product.k1.constant_value * model.alpha_ * model._y_train_std
        return cls(model.X_train_ / scales, scales, weights, np.asarray(model._y_train_mean, dtype=float))

    def at(self, point: Floats) -> Floats:
        """Return the mean of each output at a point `(axes,)`, by the Matern kernel with nu 2.5."""
        distances = np.sqrt(5.0) * np.sqrt(((self.points - point / self.scales) ** 2).sum(axis=1))
        likeness = (1.0 + distances + distances**2 / 3.0) * np.exp(-distances)
        return np.asarray(likeness @ self.weights + self.offset, dtype=float)


def fit_process(points: Floats, outputs: Floats) -> Any:
    """Fit one Gaussian process to all outputs, its length scales to an even choice of the points."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0) * Matern(np.ones(points.shape[1]), (1e-2, 1e2), nu=2.5) + WhiteKernel(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an axis that does not matter has an endless length scale
        some = np.linspace(0, len(points) - 1, min(MAX_FITTED, len(points))).astype(int)
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(points[some], outputs[some])
        if len(some) == len(points):
            return model
        return GaussianProcessRegressor(model.kernel_, optimizer=None, normalize_y=True).fit(points, outputs)
