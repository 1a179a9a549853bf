"""Quality against cost: the Pareto front, and the best trial that a budget of time and memory allows. Pure.

It does not weigh the two against each other, nor score on test data. A trial's score here is the one that chose it, so
the best of many favours luck; confirm it before it is relied on.

    front([Point("a", 0.9, 2.0), Point("b", 0.8, 1.0), Point("c", 0.7, 3.0)], mode="max")  # b, a
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.spec import Benchmark, BenchmarkError
from hpo.store.stored_trials import StoredTrial

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Point:
    """A method, study or trial with its quality and cost.

    Attributes:
        name: of a method, a study or a trial.
        quality: finite, in the metric's unit.
        cost: finite, in any unit; less is better.
    """

    name: str
    quality: float
    cost: float


def front(points: Iterable[Point], mode: Mode) -> list[Point]:
    """Keep the points that no other beats: none is at least as good and as cheap, and better in one of the two.

    Points that equal each other in both stay together.

    Args:
        points: with finite quality and cost.
        mode: whether quality is better smaller or larger.

    Returns:
        By cost, cheapest first; of equal ones in the order given. Quality then rises with cost.

    Raises:
        BenchmarkError: a quality or cost that is not finite: leave such a point out, and say so.
    """
    given = list(points)
    for point in given:
        if not (math.isfinite(point.quality) and math.isfinite(point.cost)):
            raise BenchmarkError(
                f"{point.name} has quality {point.quality:g} at cost {point.cost:g}, but both must be finite; leave it "
                "out of the front"
            )
    kept: list[Point] = []
    for point in sorted(given, key=lambda p: (p.cost, _badness(p.quality, mode))):
        last = kept[-1] if kept else None
        is_better = last is None or _badness(point.quality, mode) < _badness(last.quality, mode)
        if is_better or (last is not None and (point.quality, point.cost) == (last.quality, last.cost)):
            kept.append(point)
    return kept


def best_within(
    trials: Sequence[StoredTrial],
    benchmark: Benchmark,
    max_gpu_hours: float | None = None,
    max_memory_mb: float | None = None,
) -> StoredTrial | str:
    """Find the best trial at the full resource that keeps within limits; of equals the cheapest.

    Members of populations that several configurations trained do not count: none of them would give their result.
    With a limit on memory, neither do trials whose memory is not known.

    Args:
        trials: see `hpo.analysis.studies.trials_of`.
        benchmark: the benchmark that they tuned; its metric decides.
        max_gpu_hours: device-hours that the trial took at most, above 0; None for no limit.
        max_memory_mb: its `peak_memory_mb` at most, above 0; None for no limit.

    Returns:
        The trial; or if there is none a sentence with the reason and the trial that comes closest.

    Raises:
        BenchmarkError: a limit that is not above 0.
    """
    limits = _limits(max_gpu_hours, max_memory_mb)
    full = [trial for trial in trials if is_full(trial, benchmark)]
    if not full:
        return f"none of {len(trials)} stored trials of {benchmark.name} reached the full resource in one configuration"
    measured = [trial for trial in full if max_memory_mb is None or trial.peak_memory_mb is not None]
    if not measured:
        return f"the memory of none of {len(full)} trials at the full resource is known, so none can be held to a limit"
    fitting = [trial for trial in measured if _excess(trial, limits) <= 1]
    if fitting:
        return min(fitting, key=lambda t: (_badness(t.metrics[benchmark.metric], benchmark.mode), t.device_seconds))
    closest = min(measured, key=lambda trial: _excess(trial, limits))
    return (
        f"none of {len(measured)} trials at the full resource keeps within {_worded(limits)}; the closest is "
        f"{closest.name} with {_worded(_used(closest, limits))}"
    )


def is_full(trial: StoredTrial, benchmark: Benchmark) -> bool:
    """Tell whether one configuration trained a trial to the full resource, and its score is known."""
    return trial.outcome == "completed" and trial.is_single and benchmark.metric in trial.metrics


def _badness(quality: float, mode: Mode) -> float:
    """Turn a quality so that less is better."""
    return quality if mode == "min" else -quality


def _limits(max_gpu_hours: float | None, max_memory_mb: float | None) -> dict[str, float]:
    given = {"max_gpu_hours": max_gpu_hours, "max_memory_mb": max_memory_mb}
    for name, limit in given.items():
        if limit is not None and not limit > 0:
            raise BenchmarkError(f"{name} is {limit:g}, but must be > 0; leave it out for no limit")
    return {name: limit for name, limit in given.items() if limit is not None}


def _used(trial: StoredTrial, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the amounts that a trial used of all that has a limit."""
    used = {"max_gpu_hours": trial.device_hours, "max_memory_mb": trial.peak_memory_mb or 0.0}
    return {name: used[name] for name in limits}


def _excess(trial: StoredTrial, limits: Mapping[str, float]) -> float:
    """Return the largest of a trial's amounts, each divided by its limit."""
    return max((used / limits[name] for name, used in _used(trial, limits).items()), default=0.0)


def _worded(amounts: Mapping[str, float]) -> str:
    units = {"max_gpu_hours": "device-hours", "max_memory_mb": "MiB"}
    return " and ".join(f"{amount:.4g} {units[name]}" for name, amount in amounts.items())
