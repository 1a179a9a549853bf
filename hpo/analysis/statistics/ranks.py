"""Ranks of several methods over common blocks: Friedman's test and Nemenyi's critical difference. Pure.

Demšar 2006, https://www.jmlr.org/papers/v7/demsar06a.html: within each block the best method has rank 1, and ties share
their mean rank. Two methods differ if their mean ranks do by more than the critical difference, which holds for all
pairs at once. It compares ranks alone: a mean moved by one failed block may order methods otherwise.

    rank_methods({"asha": {0: 0.71, 1: 0.74}, "random": {0: 0.70, 1: 0.70}}, higher_is_better=True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hpo.analysis.statistics.estimates import finite
from hpo.analysis.statistics.paired_tests import ALPHA
from hpo.analysis.statistics.selection import common_blocks

MIN_METHODS, MIN_RANKED_BLOCKS = 3, 2
"""Fewer methods are a pair, and fewer blocks have no spread."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods.

    Attributes:
        mean_ranks: by method, the best first; 1 is the best there is.
        num_blocks: blocks that all of them have.
        friedman_p: of all methods being alike (chi squared); 1 if all scores tie.
        critical_difference: of two mean ranks, at the level `ALPHA` for all pairs together.
        groups: methods that are not shown to differ, each group as large as it can be, the best first; a method that
            differs from all others is in none.
        left_out: methods that lack some of the blocks.
    """

    mean_ranks: Mapping[str, float]
    num_blocks: int
    friedman_p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]


def rank_methods(scores: Mapping[str, Mapping[int, float]], higher_is_better: bool) -> Ranking | None:
    """Rank methods within each block, and average.

    Args:
        scores: by method and block, finite, in the metric's unit.
        higher_is_better: the metric's mode is "max".

    Returns:
        None for fewer than three methods, or fewer than two blocks, in common.

    Raises:
        BenchmarkError: a score that is not finite.
    """
    blocks = common_blocks(scores)
    names = [name for name, found in scores.items() if set(blocks) <= set(found)]
    if len(names) < MIN_METHODS or len(blocks) < MIN_RANKED_BLOCKS:
        return None
    from scipy import stats  # most of half a second, which only confirmed studies need

    table = finite(np.array([[scores[name][block] for name in names] for block in blocks]))  # (blocks, methods)
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1).mean(axis=0)
    ordered = {names[place]: float(ranks[place]) for place in np.argsort(ranks, kind="stable")}
    critical = critical_difference(len(names), len(blocks))
    is_tied = bool((table == table[:, :1]).all())
    return Ranking(
        ordered,
        len(blocks),
        1.0 if is_tied else float(stats.friedmanchisquare(*table.T).pvalue),
        critical,
        _groups(ordered, critical),
        tuple(name for name in scores if name not in names),
    )


def critical_difference(num_methods: int, num_blocks: int, alpha: float = ALPHA) -> float:
    """Compute Nemenyi's critical difference of mean ranks, by the studentised range.

    Args:
        num_methods: at least 2.
        num_blocks: at least 1.
        alpha: level for all pairs together, in (0, 1).
    """
    from scipy import stats  # most of half a second, which only confirmed studies need

    quantile = float(stats.studentized_range.ppf(1 - alpha, num_methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_blocks))


def _groups(ordered: Mapping[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest runs of methods whose first and last do not differ."""
    names, found = list(ordered), []
    end = 0
    for start, name in enumerate(names):
        run = [other for other in names[start:] if ordered[other] - ordered[name] < critical]
        if start + len(run) > end and len(run) > 1:
            found.append(tuple(run))
        end = max(end, start + len(run))
    return tuple(found)
