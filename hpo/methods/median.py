"""Median stopping: a trial whose best result is worse than the median of the others' averages so far is stopped.

Paper: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2,
https://doi.org/10.1145/3097983.3098043.

Behaviour: it draws configurations at random. At every unit from `grace_units` on, a trial is stopped if its best
objective by then is worse than the median of the running averages, up to the same unit, of the other trials that
have got as far. The default, with which it begins, trains to the end in any case.
Limits: it does not keep a fixed share: if the later trials are good, most go on. It decides nothing before
`min_trials` others have reached the unit; the first trials always run to the end.

Arguments and the paper's symbols: none are named there; the rule has no other parameters.

When to use it: as the simplest early stopping, with no assumption on the shape of learning curves. It saves less
than ASHA.

Logged metrics: as for every method.

Cost: between random search and ASHA.
"""

from __future__ import annotations

from pydantic import Field

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE, Plan, SearchArguments


class Arguments(SearchArguments):
    """Arguments of median stopping."""

    grace_units: int = Field(1, ge=1, description="units every trial gets; averages begin there")
    min_trials: int = Field(3, ge=1, description="other trials that must have reached a unit before it decides there")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's median stopping rule, which never pauses here.

    Raises:
        BenchmarkError: the grace period is the full resource.
    """
    from hpo.search.randomness import opening, random_searcher
    from hpo.search.schedulers.stopping_rules import FirstInFull, MedianRuleKeepingFirst, UnpausedMedianRule
    from hpo.search.space import to_tune

    if arguments.grace_units >= study.max_units:
        raise BenchmarkError(
            f"grace_units is {arguments.grace_units}, but must be < max_units, which is {study.max_units} "
            f"in benchmark {study.benchmark.name}"
        )
    first = opening(study, arguments)
    scheduler = (MedianRuleKeepingFirst if first else UnpausedMedianRule)(
        time_attr=TIME_ATTRIBUTE,
        metric=OBJECTIVE,
        mode=study.benchmark.mode,
        grace_period=arguments.grace_units,
        min_samples_required=arguments.min_trials,
    )
    return Plan(
        searcher=random_searcher(study, first),
        space=to_tune(study.benchmark.space),
        num_samples=study.budget_units,
        scheduler=scheduler,
        admission=FirstInFull(study.max_units) if first else None,
    )
