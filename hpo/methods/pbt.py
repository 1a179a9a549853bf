"""PBT: a population trained side by side, whose worst members keep taking over the best and vary them.

Paper: Jaderberg et al., "Population Based Training of Neural Networks", 2017, https://arxiv.org/abs/1711.09846.

Behaviour: it trains as many members as the budget has full trainings, each for the full resource. Every
`interval_units` units the worst quarter copies weights, optimizer state and hyperparameters of a member of the best
quarter (truncation selection), then explores: each hyperparameter is drawn anew with probability
`resample_probability`, else scaled by 0.8 or 1.2, a choice moved by one place along its list; values stay in the
space. The result is a schedule of hyperparameters, not a configuration.
Limits: it does not save anything on bad members: all units are spent, in full trainings. It does not run members
asynchronously, as the paper's large populations do: all meet at each exchange, so that a seed gives one sequence
of decisions on any number of devices. A member that has diverged waits there and then takes over a good one; the units
it missed are not spent elsewhere.

Arguments and the paper's symbols: `interval_units` is the "ready" condition (0 for a fifth of the full training),
`exploit_share` the truncation's 20 %, `resample_probability` the chance of a fresh draw; `shrink` and `grow` the
factors.

When to use it: where a schedule matters (learning rate, regularisation) and as many full trainings as the
population can be paid for. Its winner is reproduced by replaying its schedule, which is stored with it.

Logged metrics: of each member at each unit also `hp.<name>`, the hyperparameters it trained that unit with. Its
curve jumps where it took over another. The tag `hpo.exploits` counts how often; the artifact `schedule.json` is the
lineage of its weights: the configurations, each with the unit it took effect at, that trained them from the start.

Cost: one full training per member; each unit is counted once, for the member that trained it. Every exchange writes
a checkpoint per member, of which the latest is kept, and reads one.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from benchmarks.space import Choice
from hpo.core.budget import PerTrial
from hpo.core.study import Study
from hpo.core.traits import Traits
from hpo.search.plan import Plan, SearchArguments

TRAITS = Traits(varies_within_trials=True)


class Arguments(SearchArguments):
    """Arguments of PBT."""

    interval_units: int = Field(0, ge=0, description="units between exchanges; 0 for a fifth of the full training")
    exploit_share: float = Field(0.25, gt=0, le=0.5, description="share of members replaced, and copied, at each")
    resample_probability: float = Field(0.25, ge=0, le=1, description="chance that a value is drawn anew")
    shrink: float = Field(0.8, gt=0, le=1, description="the smaller factor of a number that is not drawn anew")
    grow: float = Field(1.2, ge=1, description="the larger factor")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's PBT, synchronous and corrected.

    Raises:
        BenchmarkError: the budget pays for no population, the interval leaves no exchange, or the model itself is
            searched.
    """
    from hpo.search.randomness import opening, random_searcher
    from hpo.search.schedulers.population import (
        PopulationScheduler,
        interval_units,
        into_space,
        population_size,
        require_exchangeable,
    )
    from hpo.search.space import to_tune

    require_exchangeable(study)
    space = study.benchmark.space
    mutations: dict[str, Any] = {
        name: list(domain.values) if isinstance(domain, Choice) else to_tune({name: domain})[name]
        for name, domain in space.items()
    }
    scheduler = PopulationScheduler(
        study,
        perturbation_interval=interval_units(study, arguments.interval_units),
        hyperparam_mutations=mutations,
        quantile_fraction=arguments.exploit_share,
        resample_probability=arguments.resample_probability,
        perturbation_factors=(arguments.grow, arguments.shrink),
        custom_explore_fn=lambda config: into_space(space, config),
    )
    return Plan(
        searcher=random_searcher(study, opening(study, arguments)),
        space=to_tune(space),
        num_samples=population_size(study),
        scheduler=scheduler,
        admission=PerTrial(study.max_units, replaces_diverged=True),
        paused=population_size(study),
    )
