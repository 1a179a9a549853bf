"""Check of the model of a bank's curves: how well it answers configurations that it was not fitted to. Pure.

Each configuration is left out once, in one of `FOLDS` parts, and the model of the others predicts it. No model can rank
single trainings better than another seed of the same configuration does, so that correlation stands beside the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.banks.bank import Bank
from benchmarks.banks.surrogate import MIN_CONFIGURATIONS, Surrogate, completed_of
from benchmarks.banks.training import BankTraining
from benchmarks.spec import Benchmark
from hpo.core.text_tables import markdown_table

Floats = NDArray[np.float64]
FOLDS = 5
NOMINAL = 0.9
"""Share of the recorded noise that the middle of the modelled noise should hold."""


@dataclass(frozen=True)
class HeldOutAnswer:
    """A configuration and the model's answer without it, in the benchmark's metric.

    Attributes:
        source: origin of the configuration.
        recorded: of each recorded seed, `(seeds, units)`.
        mean: the model's curve without noise, `(units,)`.
        middle: ends of the middle `NOMINAL` of the modelled noise of a seed's last value; NaN without noise.
    """

    source: str
    recorded: Floats
    mean: Floats
    middle: tuple[float, float]


def left_out(bank: Bank, benchmark: Benchmark) -> list[HeldOutAnswer]:
    """Predict each completed configuration by a model of the others; nothing if there are too few for `FOLDS` models.

    Args:
        bank: of the benchmark.
        benchmark: the one that was recorded.
    """
    completed = [[_whole(t, benchmark) for t in of_one] for of_one in completed_of(bank.configurations())]
    if len(completed) * (FOLDS - 1) < MIN_CONFIGURATIONS * FOLDS:
        return []
    found: list[HeldOutAnswer] = []
    places = np.random.default_rng(0).permutation(len(completed)) % FOLDS  # recordings repeat every n-th configuration
    for fold in range(FOLDS):
        others = [of_one for place, of_one in zip(places, completed, strict=True) if place != fold]
        model = Surrogate(others, benchmark.space, benchmark.metrics, benchmark.resource.max_units)
        mine = (of_one for place, of_one in zip(places, completed, strict=True) if place == fold)
        found += [_predicted(of_one, model, benchmark.metric) for of_one in mine]
    return found


def _whole(training: BankTraining, benchmark: Benchmark) -> BankTraining:
    return training.model_copy(update={"config": benchmark.complete(training.config)})


def _predicted(of_one: Sequence[BankTraining], model: Surrogate, metric: str) -> HeldOutAnswer:
    mean = model.mean_curve(of_one[0].config)
    return HeldOutAnswer(
        source=of_one[0].source,
        recorded=np.array([[unit.metrics[metric] for unit in training.units] for training in of_one]),
        mean=np.array([unit.metrics[metric] for unit in mean.units]),
        middle=_middle(*model.noise_at_end(of_one[0].config, metric)),
    )


def _middle(values: Floats, chances: Floats) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    ends = ((1 - NOMINAL) / 2, (1 + NOMINAL) / 2)
    low, high = np.quantile(values, ends, method="inverted_cdf", weights=chances)
    return float(low), float(high)


def correlations(answers: Sequence[HeldOutAnswer]) -> list[tuple[float, float]]:
    """Return the model's rank correlation with one seed at each unit, and that of a second seed (NaN without any)."""
    first, means = np.array([one.recorded[0] for one in answers]), np.array([one.mean for one in answers])
    pairs = np.array([one.recorded[:2] for one in answers if len(one.recorded) > 1])
    return [
        (_spearman(means[:, unit], first[:, unit]), _spearman(*pairs[:, :, unit].T) if len(pairs) > 2 else np.nan)
        for unit in range(first.shape[1])
    ]


def _spearman(a: Floats, b: Floats) -> float:
    return float(spearmanr(a, b).statistic)


def coverage(answers: Sequence[HeldOutAnswer]) -> float:
    """Return the share of recorded seeds whose noise lies in the middle `NOMINAL` of the modelled noise.

    Noise is the distance of a training's last value from the mean of its configuration, so that the model's error of
    that mean does not count here. NaN without a configuration that has several seeds.
    """
    inside: list[np.bool_] = []
    for one in answers:
        number = len(one.recorded)
        low, high = one.middle
        if number > 1 and not np.isnan(low):
            noise = (one.recorded[:, -1] - one.recorded[:, -1].mean()) * np.sqrt(number / (number - 1))
            inside += [*((low <= noise) & (noise <= high))]
    return float(np.mean(inside)) if inside else np.nan


def error(answers: Sequence[HeldOutAnswer]) -> float:
    """Return the median distance of the model's last value from the mean of the recorded seeds."""
    return float(np.median([abs(one.mean[-1] - one.recorded[:, -1].mean()) for one in answers]))


def section(bank: Bank, benchmark: Benchmark) -> str:
    """Write the part of a bank's card about the model of its curves; empty if there are too few configurations."""
    answers = left_out(bank, benchmark)
    if not answers:
        return ""
    rows = [
        (str(unit), f"{model:.3f}", "-" if np.isnan(ceiling) else f"{ceiling:.3f}")
        for unit, (model, ceiling) in enumerate(correlations(answers), start=1)
    ]
    repeated = sum(len(one.recorded) > 1 for one in answers)
    spread = (
        f"The middle {NOMINAL:.0%} of the modelled noise of seeds holds {coverage(answers):.0%} of the recorded noise, "
        f"by {repeated} configurations of several seeds."
        if repeated
        else "Each configuration has one seed, so the model has no noise."
    )
    dense = [one for one in answers if one.source == "dense"]
    errors = [f"{error(answers):.4f} over all configurations"]
    errors += [f"{error(dense):.4f} over {len(dense)} that methods proposed"] if dense else []
    return (
        f"## The model between recorded configurations\n\n{len(answers)} configurations, each predicted by a model of "
        f"the others ({FOLDS} parts), by {benchmark.metric} on validation.\n\n"
        + markdown_table(("unit", "Spearman of the model with a seed", "of a second seed with it"), rows)
        + f"\n\nMedian error at the end: {', '.join(errors)}. {spread}"
    )
