"""The benchmark's default configuration, trained with several seeds: the result without any search.

Behaviour: it trains `default` of the benchmark `repeats` times at the full resource, with seeds of their own for
model initialisation, dropout and data order, derived from the study's seed.
Limits: it does not search. It spends `repeats` full trainings of the budget, not all of it.

Arguments and the paper's symbols: `repeats` is the number of seeds.

When to use it: always, once. A method has to beat it to be worth anything, and the spread over its seeds is the
noise that differences between configurations have to exceed (Bouthillier et al. 2021,
https://arxiv.org/abs/2103.03098).

Logged metrics: as for every method; each trial's tag `hpo.seed` is the seed it trained with.

Cost: one full training per repeat.
"""

from __future__ import annotations

from pydantic import Field

from hpo.core.study import TRAINING_SEED, Study, training_seeds
from hpo.core.traits import Traits
from hpo.search.plan import MethodArguments, Plan

TRAITS = Traits(is_single_config=True)


class Arguments(MethodArguments):
    """Arguments of the default configuration."""

    repeats: int = Field(4, ge=1, description="trainings, each with a seed of its own; even, to fill two devices")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan one trial per seed, without those that the budget cannot pay for."""
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    seeds = training_seeds(study.seed, arguments.repeats)
    space = {TRAINING_SEED: tune.grid_search(seeds)}
    return Plan(searcher=BasicVariantGenerator(), space=space, num_samples=1, is_list=True)
