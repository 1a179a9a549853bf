"""Plans of replays on a table of recorded trainings: proposals that a method draws at random come from the table.

A study draws no configuration twice. It begins with the default, as everywhere, if that was recorded. Methods that
propose by a model, change hyperparameters on the way or have a grid ask for configurations that were not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator

from benchmarks.banks.curves import key_of
from benchmarks.files import BenchmarkError
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import configurations_of
from hpo.core.study import Study
from hpo.replays.table_only import drawn_order, require_holds
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.search.randomness import RandomSearcher


class TableSearcher(BasicVariantGenerator):
    """Tune's searcher with a list of configurations, beyond which it has none.

    Args:
        configurations: the proposals, in order.
    """

    def __init__(self, configurations: Sequence[Config]) -> None:
        super().__init__(points_to_evaluate=[dict(config) for config in configurations])
        self._number = self._left = len(configurations)

    def next_trial(self) -> Trial | None:
        """Return the next trial; see `BasicVariantGenerator`.

        Raises:
            BenchmarkError: there is none.
        """
        if not self._left:
            raise BenchmarkError(
                f"all {self._number} recorded configurations are drawn, and units are left; take a smaller budget, or "
                "a larger bank"
            )
        self._left -= 1
        return super().next_trial()


def plan_of(study: Study) -> Plan:
    """Make the plan of a replayed study.

    Raises:
        BenchmarkError: the method cannot run this study, or the table has fewer configurations than its budget.
    """
    plan = registry.get(study.method).make_plan(study)
    if not is_table(study.benchmark) or not isinstance(plan.searcher, RandomSearcher):
        return plan
    return replace(plan, searcher=TableSearcher(_proposals(study, plan.searcher.first)))


def _proposals(study: Study, first: Sequence[Config]) -> list[Config]:
    """List the table's configurations: the opening, as far as it is recorded, then the others in a drawn order."""
    configurations = _recorded(study.benchmark)
    require_holds(len(configurations), study.budget)
    opening = {key_of(study.benchmark.complete(config)) for config in first}
    drawn = [configurations[place] for place in drawn_order(len(configurations), study.seed)]
    drawn.sort(key=lambda config: key_of(config) not in opening)  # stable
    return [{name: config[name] for name in study.benchmark.space} for config in drawn]


_known: dict[str, list[Config]] = {}
"""Recorded configurations of this process by benchmark: each replayed study asks for them."""


def _recorded(benchmark: Benchmark) -> list[Config]:
    """Return the configurations of a benchmark's bank, read once per process as its curves are."""
    content = benchmark.model_dump_json()
    if content not in _known:
        _known[content] = [of_one[0].config for of_one in configurations_of(benchmark)]
    return _known[content]


def is_table(benchmark: Benchmark) -> bool:
    """Tell whether a benchmark answers recorded configurations alone."""
    return benchmark.recorded is not None and benchmark.recorded.between == "table"


def asks_for_recorded(study: Study) -> bool:
    """Tell whether a table has all configurations that a study may ask for."""
    if registry.traits_of(study.method).is_single_config:
        default = key_of(study.benchmark.complete({}))
        return any(key_of(config) == default for config in _recorded(study.benchmark))
    return isinstance(registry.get(study.method).make_plan(study).searcher, RandomSearcher)
