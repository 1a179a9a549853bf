"""PB2: population based training that explores numbers by a bandit model, and copies choices from better members.

Paper: Parker-Holder et al., "Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits",
NeurIPS 2020, https://arxiv.org/abs/2002.02518.

Behaviour: it has a population and exchanges as PBT does (see `pbt`), but a member that takes over another chooses its
new hyperparameters by a Gaussian process: the improvement of the objective per unit, as a function of time, objective
and hyperparameters, maximised by an upper confidence bound. Every value lies within its bounds.
Limits: it does not explore choices (batch sizes, schedules), as PB2-Mix does (Parker-Holder et al., NeurIPS 2021,
https://nips.cc/virtual/2021/poster/28806): a member keeps those of the member it took over. Before the
model has data, at the first exchange, new values are drawn at random from the space.

Arguments and the paper's symbols: `interval_units` is t_ready (0 for a fifth of the full training), `exploit_share`
is lambda, the share of members replaced. The bounds are those of the search space, on its scale: logarithmic where
the space is.

When to use it: instead of PBT where the population is small, a dozen and fewer, and the space has at least one
numeric range.

Logged metrics: as for PBT.

Cost: as PBT; the model takes about a second of one core per replaced member, more in larger spaces.
"""

from __future__ import annotations

from pydantic import Field

from benchmarks.space import Choice
from benchmarks.spec import BenchmarkError
from hpo.core.budget import PerTrial
from hpo.core.study import Study
from hpo.core.traits import Traits
from hpo.search.plan import Plan, SearchArguments

TRAITS = Traits(varies_within_trials=True)


class Arguments(SearchArguments):
    """Arguments of PB2."""

    interval_units: int = Field(0, ge=0, description="units between exchanges; 0 for a fifth of the full training")
    exploit_share: float = Field(0.25, gt=0, le=0.5, description="share of members replaced, and copied, at each")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's PB2, synchronous and corrected, on the unit cube.

    Raises:
        BenchmarkError: the budget pays for no population, the interval leaves no exchange, no range is left to
            model, or the model itself is searched.
    """
    from hpo.search.randomness import opening, random_searcher
    from hpo.search.schedulers.bandit import Pb2Scheduler
    from hpo.search.schedulers.population import interval_units, population_size, require_exchangeable
    from hpo.search.space import to_tune

    require_exchangeable(study)
    ranges = {name: d for name, d in study.benchmark.space.items() if not isinstance(d, Choice)}
    if not ranges:
        raise BenchmarkError(
            f"the search space of benchmark {study.benchmark.name} has choices alone, but pb2 models numeric ranges; "
            "use pbt"
        )
    scheduler = Pb2Scheduler(
        study,
        ranges,
        perturbation_interval=interval_units(study, arguments.interval_units),
        quantile_fraction=arguments.exploit_share,
    )
    return Plan(
        searcher=random_searcher(study, opening(study, arguments)),
        space=to_tune(study.benchmark.space),
        num_samples=population_size(study),
        scheduler=scheduler,
        admission=PerTrial(study.max_units, replaces_diverged=True),
        paused=population_size(study),
    )
