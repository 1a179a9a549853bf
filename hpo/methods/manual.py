"""Manual grid: every combination of the values a person would try.

Behaviour: it runs the benchmark's default and then its `grid`, each point at the full resource, in the order of the
YAML file. Each seed moves the grid by a random offset, around the ends of the search space (Cranley and Patterson 1976,
https://doi.org/10.1137/0713071): its author knows where the optimum lies, and a search does not.
Limits: it does not learn from results, stop bad trials or look between its values. A budget below the size of the
grid and one more leaves the last points out.

Arguments and the paper's symbols: `shift` moves the grid; false runs it as it is written. `start_with_default=false`
leaves out the default, with which every other method begins too. `concurrency` stands for how people run grids: 1 is
one after the other.

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
from hpo.search.plan import Plan, SearchArguments

TRAITS = Traits(is_grid=True)


class Arguments(SearchArguments):
    """Arguments of the manual grid."""

    shift: bool = Field(True, description="move the grid by a random offset of the seed; false runs it as written")
    concurrency: int = Field(0, ge=0, description="trials at once; 1 is serial, 0 as many as devices allow")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan the grid, through Tune's own grid search.

    Raises:
        BenchmarkError: the benchmark has no grid.
    """
    from ray import tune
    from ray.tune.search import BasicVariantGenerator
    from ray.tune.search.variant_generator import generate_variants

    from hpo.search.randomness import opening
    from hpo.search.space import rotated

    if not study.benchmark.grid:
        raise BenchmarkError(f"benchmark {study.benchmark.name} has no `grid`; add one to run the manual grid")
    grid, space = study.benchmark.grid, study.benchmark.space
    values = rotated(grid, space, study.seed) if arguments.shift else grid
    axes = {name: tune.grid_search(list(axis)) for name, axis in values.items()}
    default = study.benchmark.complete({})
    rest = {name: default[name] for name in space if name not in axes}
    points = [{**rest, **spec["config"]} for _, spec in generate_variants({"config": axes})]
    first = opening(study, arguments)
    listed = [*first, *(point for point in points if study.full_config(point) not in map(study.full_config, first))]
    return Plan(
        searcher=BasicVariantGenerator(points_to_evaluate=listed),
        space=dict.fromkeys(space),
        num_samples=len(listed),
        concurrency=arguments.concurrency or None,
        is_list=True,
    )
