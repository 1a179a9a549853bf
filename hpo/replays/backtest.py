"""Gains of ASHA over random search on a bank: `python -m hpo.replays.backtest` prints JSON for `benchmarks.measure`.

Both draw configurations from the table in the same order, choose by the metric on validation, and are scored by that on
test. See `hpo.replays.table_only`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from hpo.analysis.statistics.estimates import mean_of
from hpo.replays.table_only import TableStudy, TrainingTable, asha, random_search
from hpo.terminal import errors


def gains(table: TrainingTable, budget: int, seeds: int, devices: int) -> dict[str, Any]:
    """Return the mean gain on test of ASHA over random search, with the ends of its 95 % interval.

    Args:
        table: the recorded trainings.
        budget: full trainings of each study.
        seeds: pairs of studies.
        devices: of each study.

    Raises:
        BenchmarkError: the table has fewer configurations than a study draws.
    """
    scores = []
    for seed in range(seeds):
        pair = asha(table, seed, budget, devices), random_search(table, seed, budget, devices)
        scores.append([_score(table, study, seed) for study in pair])
    both = table.sign * np.array(scores)
    found = mean_of(list(both[:, 0] - both[:, 1]))
    interval = found.interval
    return {
        "budget": budget,
        "gain": found.value,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "asha": float(np.mean(np.array(scores)[:, 0])),
        "random": float(np.mean(np.array(scores)[:, 1])),
    }


def _score(table: TrainingTable, study: TableStudy, seed: int) -> float:
    """Return the score on test of the training in full of a study's incumbent; not a number if it found none."""
    curves = table.curves(seed)
    found = study.incumbent(table, curves)
    return math.nan if found is None else curves[found[0]].test


def main() -> int:
    """Measure each bank at each budget, and print it."""
    parser = argparse.ArgumentParser(prog="python -m hpo.replays.backtest", description=__doc__.split("\n")[0])
    parser.add_argument("banks", type=Path, nargs="+")
    parser.add_argument("--budgets", required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    given = parser.parse_args()
    try:
        _measure(given)
    except BenchmarkError as error:
        errors.show(str(error))
        return 2
    return 0


def _measure(given: argparse.Namespace) -> None:
    for path in given.banks:
        table = TrainingTable.of_bank(banks.read(path))
        for budget in map(int, given.budgets.split(",")):
            print(json.dumps({"bank": path.stem, **gains(table, budget, given.seeds, given.devices)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
