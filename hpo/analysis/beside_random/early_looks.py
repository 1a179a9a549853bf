"""Early looks: how well a unit ranks random trainings as the full training does, from stored studies. Pure.

Random search trains all of its configurations in full, so its trials are no selection. A bank's card shows the same of
more trainings, with intervals (`hpo.recording.card`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.spec import Benchmark
from hpo.analysis.beside_random.worth import is_random, largest_reference
from hpo.analysis.contestants import Contestant
from hpo.analysis.over_cost.curves import unit_values
from hpo.analysis.statistics.estimates import Floats
from hpo.analysis.studies import StudyRecord
from hpo.core.study import diverged_objective

REDUCTION_FACTOR = 3
"""Rungs are at 1, 3, 9, ... units, as those of the methods by default."""
MIN_TRAININGS = 10


@dataclass(frozen=True)
class EarlyLook:
    """A rung beside the full training.

    Attributes:
        units: the rung.
        trainings: number of random trainings.
        correlation: Spearman's, of the benchmark's metric at the rung and at the full resource.
        recall: share of the best third at the full resource that is in the best third at the rung.
    """

    units: int
    trainings: int
    correlation: float
    recall: float


def early_looks(contestants: Sequence[Contestant], benchmark: Benchmark) -> list[EarlyLook]:
    """Compare each rung with the full training; none for fewer than `MIN_TRAININGS` random trainings."""
    reference = largest_reference(contestants)
    studies = reference.studies.values() if reference else ()
    curves = np.array([curve for study in studies for curve in _curves(study, benchmark)])
    if len(curves) < MIN_TRAININGS:
        return []
    late = curves[:, -1]
    return [
        EarlyLook(unit, len(curves), _rank_correlation(early, late), _recall(early, late))
        for unit in _rungs(benchmark.resource.max_units)
        if np.ptp(early := curves[:, unit - 1]) > 0
    ]


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Compute Spearman's correlation; `scipy.stats` has it too, and takes half a second to import."""
    return float(pd.Series(a).rank().corr(pd.Series(b).rank()))


def _rungs(max_units: int) -> Iterator[int]:
    unit = 1
    while unit < max_units:
        yield unit
        unit *= REDUCTION_FACTOR


def _curves(study: StudyRecord, benchmark: Benchmark) -> Iterator[list[float]]:
    """Yield the curve of each trial that ended or diverged, lower is better; lost units count as the worst."""
    if study.units.empty or study.trials.empty or benchmark.metric not in study.units:
        return
    sign = 1.0 if benchmark.mode == "min" else -1.0
    scores = sign * unit_values(study.units, benchmark)  # schedulers rank by the best unit so far where it counts
    outcomes = dict(zip(study.trials["trial"], study.trials["outcome"], strict=True))
    for trial, of_one in study.units.groupby("trial"):
        outcome = outcomes.get(trial) if is_random(study, trial, benchmark) else None
        values = scores[of_one.sort_values("units").index].tolist()
        sound = values[:-1] if outcome == "diverged" else values
        missing = benchmark.resource.max_units - len(sound)
        if outcome == "diverged" or (outcome == "completed" and missing == 0):
            yield sound + [sign * diverged_objective(benchmark)] * missing


def _recall(early: np.ndarray, late: np.ndarray) -> float:
    third = max(1, len(early) // 3)
    best = [set(np.argsort(values, kind="stable")[:third].tolist()) for values in (early, late)]
    return len(best[0] & best[1]) / third
