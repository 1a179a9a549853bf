"""Rates at which statements across tasks err, by simulation: `python -m hpo.planning.task_rates SCORES.csv`.

The scores are those of real studies, see `hpo.planning.verdict_rates`. A task takes seeds of them with replacement, and
its methods change places as a whole: on each task methods differ as they really do, and over tasks none is better.

- **False statements**: a family, three methods beside a reference, errs if it calls one better or worse on a further
  task. Beside it is the share that errs if the seeds of all tasks are pooled as if they were blocks of one benchmark.
- **Coverage**: how often intervals of a method's mean hold it, over other seeds on the same tasks and over other tasks.

It prints one JSON object. The same seed gives the same figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.spec import BenchmarkError
from hpo.analysis.across.comparison import CREDIBLE
from hpo.analysis.statistics.aggregates import aggregate
from hpo.analysis.statistics.estimates import Floats, Interval
from hpo.analysis.statistics.hierarchical import further_task
from hpo.analysis.statistics.paired_tests import ALPHA, MARGIN, holm, signed_rank_p
from hpo.planning.verdict_rates import read_scores

TASKS = (3, 5, 10)
"""Numbers of tasks for which rates are given."""
SEEDS, RIVALS, FAMILIES = 8, 3, 60


@dataclass(frozen=True)
class TaskRates:
    """The rates of families over so many tasks.

    Attributes:
        tasks: number of tasks, each with `SEEDS` seeds.
        false_statements: share of families with a false "better" or "worse" on a further task, in [0, 1].
        false_if_pooled: the same of signed-rank tests over the seeds of all tasks, corrected by Holm.
        coverage_over_seeds: share of intervals of a mean on the same tasks that hold it.
        coverage_over_tasks: the same over other tasks; NaN where there is no interval.
    """

    tasks: int
    false_statements: float
    false_if_pooled: float
    coverage_over_seeds: float
    coverage_over_tasks: float


def task_rates(scores: Floats, tasks: int, families: int = FAMILIES, seed: int = 0) -> TaskRates:
    """Simulate families.

    Args:
        scores: `(rows, methods)`, one score of each method in each block.
        tasks: of a family.
        families: number of families.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, tasks])
    stated, pooled, over_seeds, over_tasks = [], [], [], []
    for _ in range(families):
        places = np.stack([rng.permutation(scores.shape[1]) for _ in range(tasks)])  # (tasks, methods)
        drawn = [scores[rng.integers(len(scores), size=SEEDS)][:, place] for place in places]
        stated.append(_states(drawn))
        pooled.append(_finds(np.concatenate(drawn)))
        found = aggregate([task[:, 0].tolist() for task in drawn], resamples=500)
        over_seeds.append(_holds(found.mean.interval, float(scores[:, places[:, 0]].mean())))
        over_tasks.append(_holds(found.mean_over_tasks.interval, float(scores.mean())))
    return TaskRates(tasks, *(float(np.mean(one)) for one in (stated, pooled, over_seeds, over_tasks)))


def _states(drawn: Sequence[Floats]) -> bool:
    """Tell whether any of the rivals is said to be better or worse than the first method on a further task."""
    for rival in range(1, RIVALS + 1):
        found = further_task([((task[:, rival] - task[:, 0]) / MARGIN).tolist() for task in drawn])
        if found is not None and max(found.better, found.worse) >= CREDIBLE:
            return True
    return False


def _finds(blocks: Floats) -> bool:
    """Tell whether signed-rank tests find a difference if all seeds are blocks."""
    first = blocks[:, 0].tolist()
    tests = [signed_rank_p(blocks[:, rival].tolist(), first) for rival in range(1, RIVALS + 1)]
    return min(holm(tests)) < ALPHA


def _holds(interval: Interval | None, truth: float) -> float:
    return float("nan") if interval is None else float(interval.low <= truth <= interval.high)


def main(arguments: Sequence[str]) -> None:
    """Simulate with the scores of a file and print the rates."""
    file, *number = arguments
    scores = read_scores(Path(file))
    print(json.dumps([asdict(task_rates(scores, tasks, *map(int, number))) for tasks in TASKS]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
