"""Anytime curves: the incumbent of a study over the cost spent, from the units that it stored. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from benchmarks.spec import Benchmark
from benchmarks.tasks.task import LOSS
from hpo.analysis.statistics.censored import Spell
from hpo.analysis.statistics.estimates import mean_of
from hpo.analysis.studies import StudyRecord
from hpo.core.books import device_seconds

POINTS = 100
"""Costs at which a curve over seeds is drawn."""


def anytime(study: StudyRecord, benchmark: Benchmark) -> pd.DataFrame:
    """List every improvement of a study's incumbent at the full resource.

    Returns:
        One row per improvement: `device_hours` and `units` that the study had spent, and `value`, the benchmark's
        metric. Empty if no trial reached the full resource, or the study did not keep its units and its devices.
    """
    if (kept := study.improvements) is not None:
        return kept
    columns = ["device_hours", "units", "value"]
    units, reserved = study.units, study.reservations
    if units.empty or not reserved:
        return pd.DataFrame(columns=columns)
    curve = pd.DataFrame(
        {
            "device_hours": [device_seconds(reserved, now) / 3600 for now in units["ended_seconds"]],
            "units": np.arange(1, len(units) + 1),
            "value": unit_values(units, benchmark),
        }
    )
    full = curve[(units["units"] == benchmark.resource.max_units) & curve["value"].notna()]
    best = full["value"].cummin() if benchmark.mode == "min" else full["value"].cummax()
    return full.assign(value=best)[best.diff().fillna(1.0) != 0][columns].reset_index(drop=True)


def is_known(study: StudyRecord) -> bool:
    """Tell whether a study has kept what `anytime` is made of; one that has not tells nothing about any target."""
    return study.improvements is not None or not (study.units.empty or not study.reservations)


def unit_values(units: pd.DataFrame, benchmark: Benchmark) -> pd.Series:
    """Return what each stored unit makes of its trial, by the benchmark's metric; NaN where it has diverged."""
    values = units[benchmark.metric].where(units[LOSS.name] <= benchmark.diverged_above)
    if not benchmark.selects_best:
        return values
    of_trials = values.groupby(units["trial"])
    return of_trials.cummin() if benchmark.mode == "min" else of_trials.cummax()


def _cost_to(study: StudyRecord, benchmark: Benchmark, target: float, cost: str) -> float | None:
    """Return the cost, a column of `anytime`, after which a study's incumbent was as good as `target`, if it was."""
    curve = anytime(study, benchmark)
    good = curve["value"] <= target if benchmark.mode == "min" else curve["value"] >= target
    return float(curve[cost][good].iloc[0]) if good.any() else None


def hours_to(study: StudyRecord, benchmark: Benchmark, target: float) -> float | None:
    """Return the device-hours after which a study's incumbent was as good as `target`; None if it never was."""
    return _cost_to(study, benchmark, target, "device_hours")


def spell_in_hours(study: StudyRecord, benchmark: Benchmark, target: float) -> Spell:
    """Return a study's device-hours until it was as good as `target`, or all of them if it never was."""
    hours = hours_to(study, benchmark, target)
    return Spell(study.metrics.get("device_hours", 0.0), False) if hours is None else Spell(hours, True)


def spell_in_trainings(study: StudyRecord, benchmark: Benchmark, target: float) -> Spell:
    """Return the same in full trainings; of a study that never was as good, its budget."""
    units = _cost_to(study, benchmark, target, "units")
    return Spell(float(study.budget), False) if units is None else Spell(units / benchmark.resource.max_units, True)


def band(studies: Sequence[StudyRecord], benchmark: Benchmark) -> pd.DataFrame:
    """Join the curves of one method's studies.

    Returns:
        `device_hours` (in even steps of the logarithm), `value` (mean over seeds), `low` and `high` (95 % interval of
        Student's t, empty for fewer than `estimates.MIN_BLOCKS` seeds), from where every study has an incumbent to
        where the first one ends.
    """
    curves = [curve for study in studies if not (curve := anytime(study, benchmark)).empty]
    columns = ["device_hours", "value", "low", "high"]
    if not curves or len(curves) < len(studies):
        return pd.DataFrame(columns=columns)
    first = max(float(curve["device_hours"].iloc[0]) for curve in curves)
    last = max(first, min(study.metrics["device_hours"] for study in studies))
    hours = np.geomspace(first, last, POINTS)
    hours[0] = first  # rounding must not put it before the last study's first incumbent
    steps = [(curve["device_hours"].to_numpy(), curve["value"].to_numpy()) for curve in curves]
    rows = []
    for hour in hours:
        values = tuple(float(found[np.searchsorted(when, hour, side="right") - 1]) for when, found in steps)
        rows.append((hour, *_estimate(values)))
    return pd.DataFrame(rows, columns=columns)


@cache
def _estimate(values: tuple[float, ...]) -> tuple[float, float, float]:
    """Return the mean and the ends of its interval; most points repeat the last, so they are kept."""
    found = mean_of(values)
    ends = (found.interval.low, found.interval.high) if found.interval else (np.nan, np.nan)
    return found.value, *ends
