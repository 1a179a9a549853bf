"""Rates at which the rules of verdicts err and find, by simulation: `python -m hpo.planning.verdict_rates SCORES.csv`.

The scores are those of real studies, as `compare` writes them into `figure_confirmed_scores.csv`. Blocks are drawn from
them with replacement, so that the truth is known: it is what holds over all of them.

- **Family-wise error**: the methods' scores change places at random within each block, so that no method is better than
  another. A family (all pairs) errs if it calls one better or worse.
- **Wrong equivalences**: a family errs if it calls a pair equivalent that differs by the margin or more in half of all
  rows or more.
- **Flattery**: by how much the score of the method that is chosen as the best exceeds its mean over all rows, plain and
  corrected for having been chosen. A choice errs if the truly best method is called worse.
- **Coverage**: how often the interval of a mean difference holds the mean over all rows, for Student's t and for the
  percentile bootstrap.
- **Pairing**: how much of a difference's spread the shared block takes away: the standard deviation of the difference
  from random search within blocks, beside that of methods which share nothing.
- **Power**: the fewest blocks that resolve a normal difference in 80 of 100 cases.

It prints one JSON object. The same seed gives the same figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.spec import BenchmarkError, first_line
from hpo.analysis.statistics.estimates import CONFIDENCE, MIN_BLOCKS, Floats, mean_of
from hpo.analysis.statistics.paired_tests import ALPHA, MARGIN, equivalence, holm, signed_rank_p
from hpo.analysis.statistics.selection import Selection, choose_best

BLOCKS = (5, 8, 12, 20)
"""Numbers of blocks for which rates are given."""
FAMILIES = 400
"""Families drawn for each rate: one of 5 % is then known to 1.1 points (one standard error)."""
SPREADS, DIFFERENCES = (0.006, 0.012, 0.025), (0.005, 0.01, 0.02)
"""Standard deviations of paired differences, and true differences, on a scale from 0 to 1."""
POWER, MOST_BLOCKS, POWER_DRAWS = 0.8, 120, 400
RESAMPLES = 1000
REFERENCE = "random"
"""Method with which the others are paired."""


@dataclass(frozen=True)
class Rates:
    """The rates of families of one size.

    Attributes:
        blocks: number of blocks.
        family_wise_error: share of families with a false "better" or "worse", in [0, 1].
        wrong_equivalence: share of families with a false "equivalent".
        equivalences: mean number of pairs that a family calls equivalent.
        coverage: share of intervals of Student's t that hold the mean; NaN where there is no interval.
        coverage_of_bootstrap: the same of percentile bootstraps.
        flattery: mean of the chosen method's score less its true one, in the unit of the scores.
        flattery_of_corrected: the same of its score corrected for having been chosen.
        best_called_worse: share of families in which the truly best method is shown to be worse than the chosen one.
    """

    blocks: int
    family_wise_error: float
    wrong_equivalence: float
    equivalences: float
    coverage: float
    coverage_of_bootstrap: float
    flattery: float
    flattery_of_corrected: float
    best_called_worse: float


@dataclass(frozen=True)
class Needed:
    """The blocks that one comparison takes.

    Attributes:
        spread: standard deviation of the paired difference.
        difference: true difference.
        blocks: fewest blocks with a power of `POWER`; None if `MOST_BLOCKS` have less.
    """

    spread: float
    difference: float
    blocks: int | None


@dataclass(frozen=True)
class PairedSpread:
    """A method beside the reference, on the blocks of a table.

    Attributes:
        method: its name.
        spread: standard deviation of its own scores.
        correlation: with the reference's scores over blocks; NaN where one of them never varies.
        ties: share of blocks in which both have the same score.
        paired: standard deviation of the difference within blocks.
        apart: the same if blocks shared nothing: the root of the sum of both variances.
        worst: lowest difference of a block, in the unit of the scores.
    """

    method: str
    spread: float
    correlation: float
    ties: float
    paired: float
    apart: float
    worst: float


def pairings(table: pd.DataFrame, reference: str = REFERENCE) -> list[PairedSpread]:
    """Compare each method's scores with the reference's, block by block; none without the reference.

    Args:
        table: one row per block, one column per method.
        reference: a column.
    """
    if reference not in table:
        return []
    base, found = table[reference], []
    for method, own in table.drop(columns=reference).items():
        difference = own - base
        found.append(
            PairedSpread(
                str(method),
                float(own.std()),
                float(own.corr(base)),
                float((difference == 0).mean()),
                float(difference.std()),
                float((own.var() + base.var()) ** 0.5),
                float(difference.min()),
            )
        )
    return found


def rates(scores: Floats, blocks: int, families: int = FAMILIES, margin: float = MARGIN, seed: int = 0) -> Rates:
    """Simulate families of all pairs.

    Args:
        scores: `(rows, methods)`, one score of each method in each block.
        blocks: of a family.
        families: number of families.
        margin: of equivalence.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, blocks])
    drawn = [scores[rng.integers(len(scores), size=blocks)] for _ in range(families)]
    wrong = _differ(scores, margin)
    claims = [_equivalent(family, margin) for family in drawn]
    pairs = list(combinations(range(scores.shape[1]), 2))
    covered = [_covers(family, scores, pairs[rng.integers(len(pairs))], seed) for family in drawn]
    truth = scores.mean(axis=0)
    chosen = [_choose(family) for family in drawn]
    lucks = [(one.score - truth[int(one.winner)], (one.corrected or 0.0) - truth[int(one.winner)]) for one in chosen]
    return Rates(
        blocks=blocks,
        family_wise_error=float(np.mean([_any_resolved(rng.permuted(family, axis=1)) for family in drawn])),
        wrong_equivalence=float(np.mean([bool(claimed & wrong) for claimed in claims])),
        equivalences=float(np.mean([len(claimed) for claimed in claims])),
        coverage=float(np.mean([by_t for by_t, _ in covered])),
        coverage_of_bootstrap=float(np.mean([by_bootstrap for _, by_bootstrap in covered])),
        flattery=float(np.mean([plain for plain, _ in lucks])),
        flattery_of_corrected=float(np.mean([corrected for _, corrected in lucks])),
        best_called_worse=float(np.mean([str(truth.argmax()) in one.worse for one in chosen])),
    )


def blocks_for(spread: float, difference: float, draws: int = POWER_DRAWS, seed: int = 0) -> Needed:
    """Count the blocks that resolve a normal difference with a power of `POWER`, by bisection.

    Args:
        spread: standard deviation of the paired difference, above 0.
        difference: the true one.
        draws: number of simulated comparisons.
        seed: of the draws.
    """
    samples = np.random.default_rng(seed).normal(difference, spread, size=(draws, MOST_BLOCKS))

    def power(blocks: int) -> float:
        none = [0.0] * blocks
        return float(np.mean([signed_rank_p(sample[:blocks].tolist(), none) < ALPHA for sample in samples]))

    low, high = 1, MOST_BLOCKS
    if power(high) < POWER:
        return Needed(spread, difference, None)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle + 1, high)
    return Needed(spread, difference, high)


def _choose(family: Floats) -> Selection:
    """Choose the best method, named by its column; costs are equal, so that the mean decides."""
    scores = {str(method): dict(enumerate(column)) for method, column in enumerate(family.T.tolist())}
    return choose_best(scores, dict.fromkeys(scores, 0.0), higher_is_better=True)


def _pairs(scores: Floats) -> Iterator[tuple[list[float], list[float]]]:
    columns = scores.T.tolist()
    return iter(combinations(columns, 2))


def _any_resolved(family: Floats) -> bool:
    return min(holm([signed_rank_p(a, b) for a, b in _pairs(family)])) < ALPHA


def _equivalent(family: Floats, margin: float) -> set[int]:
    """Return the pairs, by number, that the rules call equivalent."""
    corrected = holm([equivalence(a, b, margin).p_value for a, b in _pairs(family)])
    return {number for number, p_value in enumerate(corrected) if p_value < ALPHA}


def _differ(scores: Floats, margin: float) -> set[int]:
    """Return the pairs that are within the margin in half of all rows at most."""
    found = (equivalence(a, b, margin) for a, b in _pairs(scores))
    return {number for number, one in enumerate(found) if 2 * one.within <= one.num_blocks}


def _covers(family: Floats, scores: Floats, pair: tuple[int, int], seed: int) -> tuple[float, float]:
    """Tell whether the intervals of a pair's mean difference hold it, by Student's t and by bootstrap; NaN without."""
    a, b = pair
    differences, truth = family[:, a] - family[:, b], float(np.mean(scores[:, a] - scores[:, b]))
    interval = mean_of(differences.tolist()).interval
    by_t = float(interval.low <= truth <= interval.high) if interval else float("nan")
    means = np.random.default_rng(seed).choice(differences, size=(RESAMPLES, len(differences))).mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return by_t, float(low <= truth <= high)


def simulate(scores: Floats, families: int = FAMILIES) -> dict[str, object]:
    """Return all rates of a table of scores, as they are printed."""
    differences = np.array([np.subtract(*pair) for pair in _pairs(scores)])
    ties = np.mean(np.abs(differences) < MARGIN, axis=1)
    return {
        "methods": scores.shape[1],
        "rows": scores.shape[0],
        "ties": [float(ties.min()), float(np.median(ties)), float(ties.max())],
        "skewness": float(np.median(np.abs(stats.skew(differences, axis=1)))),
        "rates": [asdict(rates(scores, blocks, families)) for blocks in BLOCKS],
        "needed": [asdict(blocks_for(spread, difference)) for spread in SPREADS for difference in DIFFERENCES],
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read confirmed scores of the first metric: a row per block that all methods have, a column per method.

    Args:
        path: a CSV file with the columns `method`, `seed`, `score` and, if there are several, `metric`.

    Raises:
        BenchmarkError: it cannot be read, or has fewer than two methods or `MIN_BLOCKS` blocks in common.
    """
    try:
        rows = pd.read_csv(path)
        metric = rows["metric"].iloc[0] if "metric" in rows else None
        chosen = rows if metric is None else rows[rows["metric"] == metric]
        table = chosen.pivot(index="seed", columns="method", values="score").dropna()
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BenchmarkError(
            f"{path}: holds no confirmed scores ({first_line(error)}); give `compare`'s figure_confirmed_scores.csv"
        ) from None
    if table.shape[0] < MIN_BLOCKS or table.shape[1] < 2:
        raise BenchmarkError(
            f"{path}: has {table.shape[1]} methods with {table.shape[0]} blocks in common, but it takes 2 with "
            f"{MIN_BLOCKS}; run more seeds of the same methods"
        )
    return table


def read_scores(path: Path) -> Floats:
    """Read confirmed scores: `(blocks, methods)`; see `read_table`."""
    scores: Floats = read_table(path).to_numpy(dtype=np.float64)
    return scores


def main(arguments: Sequence[str]) -> None:
    """Simulate with the scores of a file and print the rates."""
    file, *number = arguments
    table = read_table(Path(file))
    found = simulate(table.to_numpy(dtype=np.float64), *map(int, number))
    print(json.dumps({**found, "pairings": [asdict(one) for one in pairings(table)]}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
