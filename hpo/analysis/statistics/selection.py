"""Choice of the best method by scores on common blocks, its score corrected for having been chosen. Pure.

The highest of several means flatters: part of its lead is luck. Half of the blocks choose, and the other half reports,
over many ways to halve them; the mean of these reports is what such a choice is worth. What remains of the optimism is
measured by `python -m benchmarks.measure.verdicts`.

    choose_best({"asha": {0: 0.71, 1: 0.74}, "random": {0: 0.70, 1: 0.70}}, {}, higher_is_better=True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb, inf

import numpy as np
from numpy.typing import NDArray

from benchmarks.spec import BenchmarkError
from hpo.analysis.statistics.estimates import Floats, finite
from hpo.analysis.statistics.paired_tests import ALPHA, MARGIN, least_beyond, signed_rank_p

MAX_HALVINGS = 924
"""Ways to halve the blocks that are all tried, those of 12 blocks; so many are drawn of more."""


@dataclass(frozen=True)
class Selection:
    """The best of several methods.

    Attributes:
        winner: the method with the best mean, or a cheaper one whose mean is less than the margin below it.
        blocks: the blocks that chose, which all its rivals have.
        score: mean of the winner over these blocks, in the metric's unit.
        corrected: the same without the luck of having been chosen; None for a single block, which cannot be halved.
        not_worse: rivals that are not shown to be worse, by mean; the truly best method is the winner or one of them
            with a probability of 1 - ALPHA at least.
        worse: the other rivals, by mean.
        is_cheaper: whether a method with a better mean gave way to the winner's lower cost.
        left_out: methods that lack some of the blocks, with the number that they lack.
    """

    winner: str
    blocks: tuple[int, ...]
    score: float
    corrected: float | None
    not_worse: tuple[str, ...]
    worse: tuple[str, ...]
    is_cheaper: bool
    left_out: Mapping[str, int]

    @property
    def num_rivals(self) -> int:
        """Number of methods that it was chosen from, itself included."""
        return 1 + len(self.not_worse) + len(self.worse)


def choose_best(
    scores: Mapping[str, Mapping[int, float]],
    costs: Mapping[str, float],
    *,
    higher_is_better: bool,
    margin: float = MARGIN,
) -> Selection:
    """Choose the best method.

    Args:
        scores: by method and block, finite, in the metric's unit.
        costs: mean device-hours of a study by method; a method that is not in it is the dearest.
        higher_is_better: the metric's mode is "max".
        margin: means that differ by less are a tie, which the lower cost breaks; above 0.

    Raises:
        BenchmarkError: no method has a score, or one that is not finite.
    """
    blocks = common_blocks(scores)
    if not blocks:
        raise BenchmarkError("no method has a score, but a choice needs one; confirm a study of each method")
    names = [name for name, by_block in scores.items() if set(blocks) <= set(by_block)]
    table = finite(np.array([[scores[name][block] for name in names] for block in blocks]))  # (blocks, methods)
    gains = table if higher_is_better else -table
    means = gains.mean(axis=0)
    order = sorted(range(len(names)), key=lambda place: (-means[place], names[place]))
    least = least_beyond(margin, table)
    tied = [place for place in order if means[order[0]] - means[place] < least]
    winner = min(tied, key=lambda place: (costs.get(names[place], inf), -means[place], names[place]))
    others = [place for place in order if place != winner]
    shown = {place for place in others if _is_worse(gains[:, place], gains[:, winner], len(others))}
    luck, score, sign = _luck(gains), float(table[:, winner].mean()), 1 if higher_is_better else -1
    return Selection(
        names[winner],
        blocks,
        score,
        None if luck is None else score - sign * luck,
        tuple(names[place] for place in others if place not in shown),
        tuple(names[place] for place in others if place in shown),
        is_cheaper=winner != order[0],
        left_out={name: len(set(blocks) - set(found)) for name, found in scores.items() if name not in names},
    )


def common_blocks(scores: Mapping[str, Mapping[int, float]]) -> tuple[int, ...]:
    """Return the blocks by which most is known: as many as possible, that as many methods as possible have all of.

    A single method with further blocks of its own, and one that has only begun, do not decide.
    """
    found = [frozenset(by_block) for by_block in scores.values()]
    wanted: set[frozenset[int]] = {*found, *(a & b for a, b in combinations(found, 2))}

    def known(blocks: frozenset[int]) -> tuple[int, int, list[int]]:
        methods = sum(blocks <= own for own in found)
        return methods * len(blocks), methods, sorted(blocks, reverse=True)

    best = max(wanted, key=known, default=frozenset())
    return tuple(sorted(best))


def _is_worse(rival: Floats, winner: Floats, comparisons: int) -> bool:
    """Tell whether a rival is shown to be worse: one-sided and exact, by Bonferroni, since data chose the winner."""
    return signed_rank_p(winner.tolist(), rival.tolist(), "greater") * comparisons < ALPHA


def _luck(gains: Floats) -> float | None:
    """Return by how much the best mean exceeds the reports on it: those of the half of the blocks that did not choose.

    Args:
        gains: `(blocks, methods)`, higher is better.

    Returns:
        At least 0; None for a single block.
    """
    num_blocks = len(gains)
    if num_blocks < 2:
        return None
    chosen = _halvings(num_blocks)
    chosen = np.concatenate([chosen, ~chosen]).astype(np.float64)
    choosing = chosen @ gains / chosen.sum(axis=1, keepdims=True)  # (halvings, methods)
    reporting = (1.0 - chosen) @ gains  # sums: of an odd number of blocks, the larger half has more to report
    best = np.isclose(choosing, choosing.max(axis=1, keepdims=True), rtol=0.0, atol=1e-12)  # equal ones share a choice
    reported = (reporting * best).sum(axis=1) / best.sum(axis=1)
    return float(gains.mean(axis=0).max() - 2.0 * reported.mean() / num_blocks)


def _halvings(num_blocks: int) -> NDArray[np.bool_]:
    """Return ways to halve the blocks, `(halvings, blocks)`: all of them, or `MAX_HALVINGS` drawn at random."""
    half = num_blocks // 2
    if comb(num_blocks, half) > MAX_HALVINGS:
        places = np.random.default_rng(0).random((MAX_HALVINGS, num_blocks)).argsort(axis=1)[:, :half]
    else:
        places = np.array(list(combinations(range(num_blocks), half)))
    chosen = np.zeros((len(places), num_blocks), dtype=np.bool_)
    np.put_along_axis(chosen, places, values=True, axis=1)
    return chosen
