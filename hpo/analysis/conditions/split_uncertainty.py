"""Uncertainty of the test split: another sample of records would give other scores. Pure.

A paired bootstrap over records and blocks (Dror et al. 2018, https://aclanthology.org/P18-1128/, and Card et al. 2020,
https://aclanthology.org/2020.emnlp-main.745/). Each resample draws records, the same for all trainings, and blocks.
Both vary at once, so that its intervals are wider than they need be rather than too narrow (Owen 2007,
https://doi.org/10.1214/07-AOAS122). A training that diverged is the worst there is, whatever the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.record_scores import ANSWER_TOKENS, unpack
from benchmarks.tasks.task import LOSS, Metric, Task
from hpo.analysis.contestants import Contestant
from hpo.analysis.statistics.estimates import CONFIDENCE, MIN_BLOCKS, Floats, Interval
from hpo.analysis.studies import Confirmation

RESAMPLES = 1000
"""Resamples of records and blocks: the ends of an interval move by 3 % of its width between seeds."""


@dataclass(frozen=True)
class SplitUncertainty:
    """Uncertainty of differences, the test split's included.

    Attributes:
        num_records: records of the test split.
        standard_error: of a contestant's mean by the sample of records alone; the median over contestants.
        intervals: by pair, of the mean difference over resampled records and blocks; none of a pair with fewer than
            `MIN_BLOCKS` blocks.
    """

    num_records: int
    standard_error: float
    intervals: Mapping[tuple[str, str], Interval]


def split_uncertainty(
    contestants: Mapping[str, Contestant], pairs: Sequence[tuple[str, str]], benchmark: Benchmark, seed: int = 0
) -> SplitUncertainty | None:
    """Compute the uncertainty of differences by the metric of verdicts.

    Args:
        contestants: by name.
        pairs: names of two contestants each.
        benchmark: the benchmark that was tuned.
        seed: of the resamples.

    Returns:
        None if no training kept scores of each record, or trainings differ in their number of records.
    """
    metric, task = benchmark.verdict_metric, benchmark.task
    try:
        tables = {name: _tables(one, metric, task) for name, one in contestants.items()}
    except BenchmarkError:  # a packed text is damaged, or trainings do not have the same records
        return None
    sizes = {len(table) for blocks in tables.values() for found in blocks.values() for table in found if table.size}
    if len(sizes) != 1:
        return None
    rng, number = np.random.default_rng(seed), sizes.pop()
    weights = rng.multinomial(number, np.full(number, 1 / number), size=RESAMPLES).astype(np.float64)
    drawn = {name: _resampled(blocks, weights, metric, task) for name, blocks in tables.items()}
    errors = [float(np.mean(list(blocks.values()), axis=0).std()) for blocks in drawn.values() if blocks]
    intervals = {(a, b): found for a, b in pairs if (found := _interval(drawn[a], drawn[b], rng)) is not None}
    return SplitUncertainty(number, float(np.median(errors)), intervals)


def _tables(contestant: Contestant, metric: Metric, task: Task[object]) -> dict[int, list[Floats]]:
    """Return `(records, figures)` of each training by block; an empty one for a training that diverged.

    Raises:
        BenchmarkError: a sound training kept no scores of records.
    """
    found = {
        block: [_table(one, metric, task) for one in trainings]
        for block, trainings in contestant.confirmations.items()
        if trainings
    }
    lost = {block: [np.empty((0, 1))] for block, study in contestant.studies.items() if study.best is None}
    return {**found, **lost}


def _table(training: Confirmation, metric: Metric, task: Task[object]) -> Floats:
    if training.diverged:
        return np.empty((0, 1))
    names = (LOSS.name, ANSWER_TOKENS) if metric.name == LOSS.name else tuple(task.figures)
    if not set(names) <= set(training.records):
        raise BenchmarkError("a training kept no scores of its test records; confirm it again")
    return np.array([unpack(training.records[name]) for name in names], dtype=np.float64).T


def _resampled(
    blocks: Mapping[int, Sequence[Floats]], weights: Floats, metric: Metric, task: Task[object]
) -> dict[int, Floats]:
    """Return the score of each block in each resample, `(resamples,)`: the mean over its trainings."""
    return {
        block: np.mean([_scores(table, weights, metric, task) for table in tables], axis=0)
        for block, tables in blocks.items()
    }


def _scores(table: Floats, weights: Floats, metric: Metric, task: Task[object]) -> Floats:
    """Return a training's score in each resample of its records."""
    if not table.size:
        return np.full(len(weights), metric.worst)
    if metric.name == LOSS.name:  # mean cross entropy of each record, and its number of tokens
        losses, tokens = table[:, 0] * table[:, 1], table[:, 1]
        return np.asarray((weights @ losses) / (weights @ tokens))
    sums = weights @ table
    return np.array([task.summarise(row, len(table))[metric.name] for row in sums.tolist()])


def _interval(a: Mapping[int, Floats], b: Mapping[int, Floats], rng: np.random.Generator) -> Interval | None:
    """Return the percentile interval of the mean of a - b over resampled records and blocks; None of too few blocks."""
    both = sorted(a.keys() & b.keys())
    if len(both) < MIN_BLOCKS:
        return None
    differences = np.array([a[block] - b[block] for block in both]).T  # (resamples, blocks)
    times = rng.multinomial(len(both), np.full(len(both), 1 / len(both)), size=len(differences)) / len(both)
    low, high = np.quantile((differences * times).sum(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))
