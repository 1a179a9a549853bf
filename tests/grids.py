"""Points of a benchmark's manual grid, found without Tune."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from benchmarks.space import Config
from benchmarks.spec import Benchmark


def points_of(benchmark: Benchmark) -> Iterator[Config]:
    """Yield the points of the grid, the last axis varying fastest; none without a grid."""
    if benchmark.grid:
        for values in itertools.product(*benchmark.grid.values()):
            yield dict(zip(benchmark.grid, values, strict=True))
