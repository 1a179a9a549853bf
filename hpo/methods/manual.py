"""Manual grid: every combination of the values a person would try.

Behaviour: it runs the benchmark's `grid`, each point at the full resource, in the order of the YAML file.
Limits: it does not learn from results, stop bad trials, look between its values, or depend on the seed except
through training. A budget below the size of the grid leaves the last points out.

Arguments and the paper's symbols: none but `concurrency`, which stands for how people run grids: 1 is one after
the other.

When to use it: as the baseline that people know. Random search covers each axis better at the same cost
wherever some hyperparameters matter more than others (Bergstra and Bengio 2012,
https://jmlr.org/papers/v13/bergstra12a.html).

Logged metrics: as for every method.

Cost: one full training per point.
"""

from __future__ import annotations

from pydantic import Field

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.core.traits import Traits
from hpo.search.plan import MethodArguments, Plan

TRAITS = Traits(is_grid=True)


class Arguments(MethodArguments):
    """Arguments of the manual grid."""

    concurrency: int = Field(0, ge=0, description="trials at once; 1 is serial, 0 as many as devices allow")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan the grid, through Tune's own grid search.

    Raises:
        BenchmarkError: the benchmark has no grid.
    """
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    if not study.benchmark.grid:
        raise BenchmarkError(f"benchmark {study.benchmark.name} has no `grid`; add one to run the manual grid")
    return Plan(
        searcher=BasicVariantGenerator(),
        space={name: tune.grid_search(list(values)) for name, values in study.benchmark.grid.items()},
        num_samples=1,
        concurrency=arguments.concurrency or None,
    )
