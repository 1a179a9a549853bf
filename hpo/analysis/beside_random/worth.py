"""Contestants beside random search: the number of random trainings that each one's incumbents are worth. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.spec import Benchmark
from hpo.analysis.contestants import Contestant
from hpo.analysis.statistics.random_search import RandomSearch, Worth
from hpo.analysis.studies import StudyRecord


@dataclass(frozen=True)
class Beside:
    """A contestant beside random search.

    Attributes:
        name: the contestant's.
        budget: full trainings of its studies.
        value: the benchmark's metric of its incumbents on validation, the median over seeds.
        worth: random trainings whose best is as good, in the median.
    """

    name: str
    budget: int
    value: float
    worth: Worth


def random_search(contestants: Sequence[Contestant], benchmark: Benchmark) -> RandomSearch | None:
    """Estimate random search from the trainings of its studies; None without it, or with too few of them.

    Trainings of the larger random search count, if there is one: those of the other are the first of them.
    """
    largest = largest_reference(contestants)
    if largest is None:
        return None
    drawn = [score for study in largest.studies.values() for score in _scores(study, benchmark)]
    drawn.sort(key=lambda numbered: numbered[0])  # the first draws of every seed before the second ones
    return RandomSearch.of([score for _, score in drawn], benchmark.mode == "max")


def largest_reference(contestants: Sequence[Contestant]) -> Contestant | None:
    """Return random search with the largest budget; None without random search."""
    references = [one for one in contestants if one.traits.is_reference and one.studies]
    return max(references, key=lambda one: one.budget, default=None)


def _scores(study: StudyRecord, benchmark: Benchmark) -> Iterator[tuple[int, float]]:
    """Yield number and score of each random training; the default, with which a study begins, is no random one."""
    trials = study.trials
    if trials.empty or benchmark.metric not in trials:
        return
    for number, outcome, value in zip(trials["trial"], trials["outcome"], trials[benchmark.metric], strict=True):
        if is_random(study, number, benchmark) and outcome in ("completed", "diverged"):
            is_sound = outcome == "completed" and math.isfinite(value)
            yield int(number), float(value) if is_sound else benchmark.ranking_metric.worst


def is_random(study: StudyRecord, number: int, benchmark: Benchmark) -> bool:
    """Tell whether a trial of random search was drawn; the first one is the default, unless a study left it out."""
    begins_with_default = "start_with_default" not in study.variant and benchmark.default_in_space() is not None
    return number > 0 or not begins_with_default


def beside_random(contestants: Sequence[Contestant], benchmark: Benchmark) -> list[Beside]:
    """Return the worth of each contestant that searches, in the order given; none if random search is not known."""
    found = random_search(contestants, benchmark)
    if found is None:
        return []
    rows = []
    for one in contestants:
        if one.studies and not one.traits.is_single_config:
            value = median(_incumbent(study, benchmark) for study in one.studies.values())
            rows.append(Beside(one.name, one.budget, value, found.worth(value)))
    return rows


def _incumbent(study: StudyRecord, benchmark: Benchmark) -> float:
    metrics = study.best["metrics"] if study.best else {}
    value = float(metrics.get(benchmark.metric, math.nan))
    return value if math.isfinite(value) else benchmark.ranking_metric.worst
