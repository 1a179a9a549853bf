"""Compare models of a bank's curves: `python -m benchmarks.measure.models --bank PATH`, a minute at 400 configurations.

Each model predicts the tuned metric at every unit of configurations that it was not fitted to, five parts in turn, all
with the ranks brought to a normal distribution as `benchmarks.banks.surrogate` does. The table has Spearman's
correlation with the recorded mean over seeds at the first unit, a third and the end, and again at the end among the
best third, where searches spend their units; and the milliseconds that one prediction takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from scipy.stats import spearmanr

from benchmarks.banks import bank as banks
from benchmarks.banks.encoding import Floats, encode
from benchmarks.banks.surrogate import completed_of, fit_process, normal_ranks
from benchmarks.clock import REAL
from benchmarks.files import BenchmarkError
from benchmarks.space import Space

FOLDS = 5
TIMED_PREDICTIONS = 50
Fit = Callable[[Floats, Floats], Any]
"""Function that fits a model to points and outputs; it has `predict`."""


def main() -> int:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bank", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        points, outputs = read(arguments.bank)  # lower is better
    except BenchmarkError as error:
        print(f"error: {error}")
        return 2
    print(f"{len(points)} configurations of {arguments.bank.stem}, {outputs.shape[1]} units")
    print(f"{'model':20} {'unit 1':>8} {'a third':>8} {'the end':>8} {'best third':>11} {'ms':>6}")
    for name, fit in MODELS.items():
        print(line(name, fit, points, outputs), flush=True)
    return 0


def read(path: Path) -> tuple[Floats, Floats]:
    """Return the points of all configurations that completed, and the mean metric over seeds at each unit.

    A metric of which more is better is negated.

    Raises:
        BenchmarkError: the bank cannot be read, has no search space, or less than ten configurations.
    """
    bank = banks.read(path)
    if not bank.header.space:
        raise BenchmarkError(f"{path}: has no search space, by which configurations are compared")
    space: Space = TypeAdapter(Space).validate_python(bank.header.space)
    completed = completed_of(bank.configurations())
    if len(completed) < 2 * FOLDS:
        raise BenchmarkError(f"{path}: has {len(completed)} configurations that completed, but this needs {2 * FOLDS}")
    curves = [[[unit.metrics[bank.header.metric] for unit in t.units] for t in of_one] for of_one in completed]
    sign = 1.0 if bank.header.mode == "min" else -1.0
    outputs = sign * np.array([np.mean(of_one, axis=0) for of_one in curves])
    return np.array([encode(of_one[0].config, space) for of_one in completed]), outputs


def line(name: str, fit: Fit, points: Floats, outputs: Floats) -> str:
    """Fit a model to all parts but one in turn, and write its line of the table."""
    predicted = np.empty_like(outputs)
    for fold in range(FOLDS):
        is_left_out = np.arange(len(points)) % FOLDS == fold
        ranks = normal_ranks(outputs[~is_left_out])
        model = fit(points[~is_left_out], ranks.forward(outputs[~is_left_out]))
        predicted[is_left_out] = model.predict(points[is_left_out])
    began = REAL.now()
    for point in points[:TIMED_PREDICTIONS]:
        model.predict(point[np.newaxis])
    milliseconds = 1000 * (REAL.now() - began) / len(points[:TIMED_PREDICTIONS])
    last = outputs.shape[1] - 1
    found = [spearmanr(predicted[:, unit], outputs[:, unit]).statistic for unit in (0, last // 3, last)]
    best = np.argsort(outputs[:, last])[: max(3, len(points) // 3)]
    among_best = spearmanr(predicted[best, last], outputs[best, last]).statistic
    return f"{name:20} {found[0]:8.3f} {found[1]:8.3f} {found[2]:8.3f} {among_best:11.3f} {milliseconds:6.2f}"


def _extra_trees(points: Floats, outputs: Floats) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(100, random_state=0).fit(points, outputs)


def _random_forest(points: Floats, outputs: Floats) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(100, random_state=0).fit(points, outputs)


def _boosted_trees(points: Floats, outputs: Floats) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.multioutput import MultiOutputRegressor

    return MultiOutputRegressor(HistGradientBoostingRegressor(random_state=0)).fit(points, outputs)


MODELS: dict[str, Fit] = {
    "Gaussian process": fit_process,
    "extra trees": _extra_trees,
    "random forest": _random_forest,
    "boosted trees": _boosted_trees,
}

if __name__ == "__main__":
    raise SystemExit(main())
