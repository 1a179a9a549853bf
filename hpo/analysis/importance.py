"""Importance of hyperparameters and of their pairs: functional ANOVA over stored trials. Pure.

A random forest learns the metric from the configurations of all comparable trials, see `hpo.analysis.forest`.

It does not tell cause from coincidence if a searcher looked mostly at one corner. Nor does it count diverged trials,
which have no score: learning rates that diverge are left out, not bad. A noisy metric shows shares for everything;
`r_squared` and the intervals say how much of it to believe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.space import Choice, Domain, Integer, LogUniform, Scalar
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import LOSS
from hpo.analysis import forest
from hpo.analysis.forest import Grow
from hpo.analysis.pareto import is_full
from hpo.analysis.statistics.estimates import Estimate, Interval
from hpo.analysis.studies import StudyRecord, trials_of
from hpo.store.stored_trials import StoredTrial

MIN_TRIALS = 20
"""Number of trials below which nothing is shown: three hyperparameters' intervals would span most of [0, 1]."""
MOST_TRIALS = 400
"""Number of trials that count at most, drawn by lot: shares change little, and the time grows with the square."""
RESAMPLES = 30
CONFIDENCE = 0.9
"""Confidence of the intervals: of 30 resamples, 1.5 lie beyond either end."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """The share of a hyperparameter alone.

    Attributes:
        name: the hyperparameter.
        share: of the metric's variance over the search space, in [0, 1]; the shares of all hyperparameters and of all
            interactions, those of three and more included, add up to 1.
    """

    name: str
    share: Estimate


@dataclass(frozen=True)
class Interaction:
    """The share of two hyperparameters together, beyond their shares alone.

    Attributes:
        a: a hyperparameter.
        b: another.
        share: of the metric's variance over the search space, in [0, 1].
    """

    a: str
    b: str
    share: Estimate


@dataclass(frozen=True)
class Importances:
    """All shares that stored trials tell of the search space.

    Attributes:
        units: the resource at which trials were scored.
        max_units: the full resource.
        num_trials: trials that count.
        r_squared: share of the variance that the forest predicts of trials that a tree has not seen; 1 is all, and at
            0 or less the shares mean nothing.
        hyperparameters: those of which the trials have several values, the largest share first.
        interactions: all pairs, the largest share first.
    """

    units: int
    max_units: int
    num_trials: int
    r_squared: float
    hyperparameters: list[Importance]
    interactions: list[Interaction]

    @property
    def is_at_full_resource(self) -> bool:
        """Tell whether the trials were scored at the full resource; scores at less need not agree with those."""
        return self.units == self.max_units


def importances(
    studies: Sequence[StudyRecord],
    benchmark: Benchmark,
    min_trials: int = MIN_TRIALS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    grow: Grow = forest.grow,
) -> Importances | str:
    """Compute the importances and interactions of the search space's hyperparameters.

    Trials of all methods and seeds are pooled. They count at the full resource; where too few got there, at the largest
    resource at which enough trials were scored. Members of populations that several configurations trained are left
    out, and so are configurations outside the search space, which the default may be.

    Args:
        studies: of one version of the benchmark, see `records.read`.
        benchmark: the benchmark that they tuned.
        min_trials: trials that are needed.
        resamples: of the trials, with replacement, each with a forest of its own, for the intervals; at least 1.
        seed: of forests and resamples.
        grow: grows the forests.

    Returns:
        Shares with intervals, which need not contain the share itself: a forest on a resample has seen fewer trials.
        Or a sentence that says so, if there is too little to go on.
    """
    found = _scored(studies, benchmark, min_trials)
    if isinstance(found, str):
        return found
    units, scored = found
    if len(scored) > MOST_TRIALS:
        scored = [scored[i] for i in np.random.default_rng(seed).choice(len(scored), MOST_TRIALS, replace=False)]
    names = [name for name in benchmark.space if len({config[name] for config, _ in scored}) > 1]
    values = np.array([value for _, value in scored])
    if not names or np.ptp(values) == 0:
        what = "all have the same configuration" if not names else f"all have the same {benchmark.metric}"
        return f"{len(scored)} trials of {benchmark.name} at {units} units, but {what}: there is nothing to explain"
    positions = np.array([[config[name] for name in names] for config, _ in scored])
    grown = grow(positions, values, resamples, seed)
    estimates = [_estimate(share, grown.spread[:, k]) for k, share in enumerate(grown.shares)]
    alone, pairs = estimates[: len(names)], zip(combinations(names, 2), estimates[len(names) :], strict=True)
    return Importances(
        units,
        benchmark.resource.max_units,
        len(scored),
        grown.r_squared,
        sorted(map(Importance, names, alone), key=lambda found: -found.share.value),
        sorted((Interaction(a, b, share) for (a, b), share in pairs), key=lambda found: -found.share.value),
    )


def position(domain: Domain, value: Scalar) -> float:
    """Place a value in its domain, from 0 to 1, such that an even draw of places is a draw from the domain.

    Choices that are numbers lie in their order, others in that of the list; each takes an equal part.
    """
    if isinstance(domain, Choice):
        values = list(domain.values)
        if all(isinstance(v, int | float) for v in values):
            values.sort(key=float)
        return (values.index(value) + 0.5) / len(values)
    low, high, number = domain.low, domain.high, float(value)
    if isinstance(domain, Integer):
        return (number - low + 0.5) / (high - low + 1)
    if isinstance(domain, LogUniform):
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low)


# ---- which trials count

_Scored = tuple[dict[str, float], float]
"""The position of a configuration by hyperparameter, and its score."""


def _scored(studies: Sequence[StudyRecord], benchmark: Benchmark, min_trials: int) -> tuple[int, list[_Scored]] | str:
    """Find the largest resource at which enough trials were scored, and these; or the reason why there is none."""
    trials = [(trial, place) for trial in trials_of(studies, benchmark) if (place := _place(trial, benchmark))]
    full = [(place, trial.metrics[benchmark.metric]) for trial, place in trials if is_full(trial, benchmark)]
    if len(full) >= min_trials:
        return benchmark.resource.max_units, full
    by_unit = _scored_by_unit(studies, benchmark, {(trial.run_id, trial.number): place for trial, place in trials})
    for units, scored in sorted(by_unit.items(), reverse=True):
        if len(scored) >= min_trials:
            return units, scored
    return (
        f"{len(full)} trials of {benchmark.name} with one configuration reached the full resource, and at no smaller "
        f"one were {min_trials} scored: too few to tell which hyperparameters matter"
    )


def _place(trial: StoredTrial, benchmark: Benchmark) -> dict[str, float] | None:
    """Place a trial's configuration in the search space; None if it lies outside, or if the trial had several."""
    values = trial.values_in(benchmark.space) if trial.is_single else None
    return None if values is None else {name: position(benchmark.space[name], value) for name, value in values.items()}


def _scored_by_unit(
    studies: Sequence[StudyRecord], benchmark: Benchmark, places: dict[tuple[str, int], dict[str, float]]
) -> dict[int, list[_Scored]]:
    """Collect the trials that were scored below the full resource, by unit; of a unit trained twice, the last."""
    scores: dict[int, dict[tuple[str, int], float]] = {}
    for study in studies:
        for row in study.units.to_dict("records"):
            trial, units = (study.run_id, int(row["trial"])), int(row["units"])
            is_sound = row[LOSS.name] <= benchmark.diverged_above and math.isfinite(row[benchmark.metric])
            if trial in places and is_sound and units < benchmark.resource.max_units:
                scores.setdefault(units, {})[trial] = float(row[benchmark.metric])
    return {units: [(places[trial], value) for trial, value in found.items()] for units, found in scores.items()}


def _estimate(share: float, spread: Floats) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(spread, [tail, 1 - tail])
    return Estimate(float(share), Interval(float(low), float(high), CONFIDENCE))
