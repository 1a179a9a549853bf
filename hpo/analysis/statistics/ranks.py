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
from functools import cache

import numpy as np
import pandas as pd
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second

from hpo.analysis.statistics.estimates import Floats, finite, last_that
from hpo.analysis.statistics.paired_tests import ALPHA
from hpo.analysis.statistics.selection import common_blocks

MIN_METHODS, MIN_RANKED_BLOCKS = 3, 2
"""Fewer methods are a pair, and fewer blocks have no spread."""
LARGEST_RANGE, HALVINGS = 16.0, 50
"""Where a quantile is looked for, and the halvings that bring it to rounding."""


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
    table = finite(np.array([[scores[name][block] for name in names] for block in blocks]))  # (blocks, methods)
    ranked = pd.DataFrame(-table if higher_is_better else table).rank(axis=1).to_numpy()
    ranks = ranked.mean(axis=0)
    ordered = {names[place]: float(ranks[place]) for place in np.argsort(ranks, kind="stable")}
    critical = critical_difference(len(names), len(blocks))
    return Ranking(
        ordered,
        len(blocks),
        _friedman_p(ranked),
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
    quantile = _range_quantile(1 - alpha, num_methods) / math.sqrt(2)
    return quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_blocks))


def _friedman_p(ranked: Floats) -> float:
    """Compute the p of Friedman's test, corrected for ties, by the chi squared distribution; 1 if all ranks tie.

    `scipy.stats` has it and the next function's figure too, and takes half a second to import.

    Args:
        ranked: (blocks, methods), the ranks within each block.
    """
    blocks, methods = ranked.shape
    expected = (methods + 1) / 2
    spread = float(((ranked - expected) ** 2).sum())
    if spread == 0.0:
        return 1.0
    of_means = float(((ranked.mean(axis=0) - expected) ** 2).sum())
    return float(scipy.special.chdtrc(methods - 1, (methods - 1) * blocks**2 * of_means / spread))


@cache
def _range_quantile(share: float, number: int) -> float:
    """Return what the range of so many independent standard normal values stays below with a probability.

    Args:
        share: the probability, in (0, 1).
        number: of the values, at least 2.
    """
    smallest, step = np.linspace(-8.0, 8.0, 1601, retstep=True)
    density = np.exp(-(smallest**2) / 2) / math.sqrt(2 * math.pi)

    def is_below(width: float) -> bool:
        others_within = scipy.special.ndtr(smallest + width) - scipy.special.ndtr(smallest)
        return bool(number * step * (density @ others_within ** (number - 1)) < share)

    return last_that(is_below, 0.0, LARGEST_RANGE, HALVINGS)


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
