"""Rates at which statements across tasks err and find, by simulation: `python -m hpo.planning.task_rates SCORES.csv`.

The scores are those of real studies, see `hpo.planning.verdict_rates`. A task takes seeds of them with replacement. The
reference is random search if it is among them, and a family is all statements about its rivals.

- **False statements on alike methods**: methods change places from task to task as a whole. On each task they differ as
  they really do, and over tasks none is better. A family errs if it calls one better or worse on a further task.
- **False statements at the margin**: differences vary over seeds as the real ones do, and on every task their mean is
  exactly one margin. A family errs if it calls a rival better, which takes more, or practically equal, which takes
  less.
- **Uncorrected and pooled**: the share of families that would err without the correction for several pairs, and if the
  seeds of all tasks were pooled as if they were blocks of one benchmark.
- **Coverage**: how often intervals of a method's mean hold it, over other seeds on the same tasks and over other tasks.
- **Power**: how often a rival of a true difference is called so. Differences of tasks are normal around it.

It prints one JSON object. The same seed gives the same figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.spec import BenchmarkError
from hpo.analysis.across.comparison import Outcome, chances_of, doubts, likeliest
from hpo.analysis.statistics.aggregates import aggregate
from hpo.analysis.statistics.estimates import Floats, Interval
from hpo.analysis.statistics.hierarchical import FurtherTask, further_task
from hpo.analysis.statistics.paired_tests import ALPHA, MARGIN, holm, signed_rank_p
from hpo.planning.verdict_rates import REFERENCE, read_table

TASKS, MANY_TASKS = (3, 5, 10), 20
"""Numbers of tasks for which rates are given; the last one for power alone."""
RIVALS = (3, 11)
"""Rivals of a family; there may be fewer methods."""
FAMILIES = 120
"""Families drawn for each rate: one of 5 % is then known to 2 points (one standard error)."""
COVERED, POWER_DRAWS, SEEDS = 400, 60, 8
SIZES, SPREADS = (0.0, 2.0, 4.0, 8.0), (0.0, 0.25)
"""True mean differences in margins, and standard deviations of those of tasks, as a share of the difference."""


@dataclass(frozen=True)
class FamilyRates:
    """Shares of families with a false statement, in [0, 1].

    Attributes:
        tasks: number of tasks, each with `SEEDS` seeds.
        rivals: pairs of a family.
        alike: one method is called better or worse, and none is.
        alike_uncorrected: the same without the correction for several pairs.
        alike_pooled: the same of signed-rank tests over the seeds of all tasks, corrected by Holm.
        better_at_margin: one method is called better, and all lie at the margin.
        equal_at_margin: one method is called practically equal there.
        at_margin_uncorrected: either of the two without the correction.
    """

    tasks: int
    rivals: int
    alike: float
    alike_uncorrected: float
    alike_pooled: float
    better_at_margin: float
    equal_at_margin: float
    at_margin_uncorrected: float


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals of a mean that hold it.

    Attributes:
        tasks: number of tasks.
        over_seeds: of the interval over other seeds on the same tasks.
        over_tasks: of that over other tasks; NaN where there is no interval.
        over_tasks_without_worst: the same where the worst method is none of those that change places. If it is far
            below the others, few tasks seldom show it, and no interval can know of it.
    """

    tasks: int
    over_seeds: float
    over_tasks: float
    over_tasks_without_worst: float


@dataclass(frozen=True)
class Power:
    """Shares of true differences that are found.

    Attributes:
        tasks: number of tasks.
        difference: mean of the tasks' true differences in margins; 0 for a rival that is practically equal everywhere.
        spread: their standard deviation in margins.
        found: by the number of pairs in the family, the other ones in greater doubt.
    """

    tasks: int
    difference: float
    spread: float
    found: dict[int, float]


Family = list[FurtherTask]


def family_rates(scores: Floats, tasks: int, families: int = FAMILIES, seed: int = 0) -> list[FamilyRates]:
    """Simulate families of each size; a smaller one is part of the largest.

    Args:
        scores: `(rows, methods)`, one score of each method in each block; the first is the reference.
        tasks: of a family.
        families: number of families.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, tasks])
    alike, pooled, at_margin = [], [], []
    noise = _noise(scores)
    for _ in range(families):
        drawn = [_rows(scores, rng)[:, rng.permutation(scores.shape[1])] for _ in range(tasks)]
        alike.append(_family([(task[:, 1:] - task[:, :1]) / MARGIN for task in drawn]))
        pooled.append(np.concatenate(drawn))
        at_margin.append(_family([_rows(noise, rng) + 1 for _ in range(tasks)]))
    sizes = [size for size in RIVALS if size < scores.shape[1]] or [scores.shape[1] - 1]
    return [
        FamilyRates(
            tasks,
            size,
            alike=_share(alike, size, "better", "worse"),
            alike_uncorrected=_share(alike, size, "better", "worse", corrected=False),
            alike_pooled=float(np.mean([_finds(blocks, size) for blocks in pooled])),
            better_at_margin=_share(at_margin, size, "better"),
            equal_at_margin=_share(at_margin, size, "practically equal"),
            at_margin_uncorrected=_share(at_margin, size, "better", "practically equal", corrected=False),
        )
        for size in sizes
    ]


def coverage(scores: Floats, tasks: int, families: int = COVERED, seed: int = 0) -> Coverage:
    """Simulate intervals of the mean of a method that changes places; see `family_rates`."""
    over_seeds, over_tasks = _coverage(scores, tasks, families, seed)
    _, without_worst = _coverage(np.delete(scores, scores.mean(axis=0).argmin(), axis=1), tasks, families, seed)
    return Coverage(tasks, over_seeds, over_tasks, without_worst)


def _coverage(scores: Floats, tasks: int, families: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng([seed, tasks, 1])
    over_seeds, over_tasks = [], []
    for _ in range(families):
        places = rng.integers(scores.shape[1], size=tasks)
        found = aggregate([_rows(scores, rng)[:, place].tolist() for place in places])
        over_seeds.append(_holds(found.mean.interval, float(scores[:, places].mean())))
        over_tasks.append(_holds(found.mean_over_tasks.interval, float(scores.mean())))
    return float(np.mean(over_seeds)), float(np.mean(over_tasks))


def power(scores: Floats, tasks: int, draws: int = POWER_DRAWS, seed: int = 0) -> list[Power]:
    """Simulate single pairs of each difference; see `family_rates`."""
    rng, noise, found = np.random.default_rng([seed, tasks, 2]), _noise(scores), []
    for size, spread in ((size, size * share) for size in SIZES for share in SPREADS if size or not share):
        wanted: Outcome = "better" if size else "practically equal"
        doubt = []
        for _ in range(draws):
            rival, means = rng.integers(noise.shape[1]), rng.normal(size, spread, size=tasks)
            [further] = _family([_rows(noise, rng)[:, [rival]] + mean for mean in means])
            doubt.append(1 - chances_of(further)[wanted])
        shares = {pairs: float(np.mean(np.array(doubt) * pairs <= ALPHA)) for pairs in (1, *RIVALS)}
        found.append(Power(tasks, size, spread, shares))
    return found


def simulate(scores: Floats, families: int = FAMILIES, seed: int = 0) -> dict[str, Any]:
    """Return all rates of a table of scores, see `family_rates`."""
    draws = min(families, POWER_DRAWS)
    return {
        "families": families,
        "rates": [asdict(one) for tasks in TASKS for one in family_rates(scores, tasks, families, seed)],
        "coverage": [
            asdict(coverage(scores, tasks, COVERED if families >= FAMILIES else families, seed)) for tasks in TASKS
        ],
        "power": [asdict(one) for tasks in (*TASKS, MANY_TASKS) for one in power(scores, tasks, draws, seed)],
    }


def _noise(scores: Floats) -> Floats:
    """Return the differences from the first method in margins, each method's mean taken away."""
    differences: Floats = (scores[:, 1:] - scores[:, :1]) / MARGIN
    centred: Floats = differences - differences.mean(axis=0)
    return centred


def _rows(table: Floats, rng: np.random.Generator) -> Floats:
    """Draw the seeds of a task."""
    return table[rng.integers(len(table), size=SEEDS)]


def _family(differences: Sequence[Floats]) -> Family:
    """Predict a further task for each rival, from `(seeds, rivals)` of each task."""
    found = (
        further_task([task[:, rival].tolist() for task in differences]) for rival in range(differences[0].shape[1])
    )
    return [one for one in found if one is not None]


def _states(family: Family, *outcomes: Outcome, corrected: bool = True) -> bool:
    """Tell whether a family makes one of the statements about any rival."""
    found = doubts(family) if corrected else [doubts([one])[0] for one in family]
    return any(doubt <= ALPHA and likeliest(one) in outcomes for doubt, one in zip(found, family, strict=True))


def _share(families: Sequence[Family], size: int, *outcomes: Outcome, corrected: bool = True) -> float:
    """Return the share of families, cut to a size, that make a statement."""
    return float(np.mean([_states(family[:size], *outcomes, corrected=corrected) for family in families]))


def _finds(blocks: Floats, rivals: int) -> bool:
    """Tell whether signed-rank tests find a difference if all seeds are blocks."""
    first = blocks[:, 0].tolist()
    return min(holm([signed_rank_p(blocks[:, rival].tolist(), first) for rival in range(1, rivals + 1)])) < ALPHA


def _holds(interval: Interval | None, truth: float) -> float:
    return float("nan") if interval is None else float(interval.low <= truth <= interval.high)


def main(arguments: Sequence[str]) -> None:
    """Simulate with the scores of a file and print the rates."""
    file, *number = arguments
    table = read_table(Path(file))
    names = sorted(table.columns, key=lambda name: name != REFERENCE)
    print(json.dumps(simulate(table[names].to_numpy(dtype=np.float64), *map(int, number))))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
