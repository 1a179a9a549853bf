"""ASHA: many short trials, of which the best third go on, asynchronously.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
https://arxiv.org/abs/1810.05934.

Behaviour: it compares trials at rungs r, r*eta, r*eta^2, ... of the resource; a trial that reaches a rung
goes on if it is among the best 1/eta of all that have reached it so far, and is stopped otherwise. No trial
trial waits for another. The default, with which it begins, trains to the end in any case.
Limits: it does not resume a stopped trial. The paper promotes the best of a rung whenever a worker is free;
Ray's scheduler decides once, when a trial reaches the rung, so early arrivals, compared with few, are
promoted too easily. It does not choose configurations either: `searcher` does, at random as in the paper, or
by TPE over the trials so far, which are ranked by resource reached first and metric second. TPE begins after
20 (HyperOpt) or 10 (Optuna) trials have ended.

Arguments and the paper's symbols: `reduction_factor` is eta, `grace_units` is r (minimum resource); R, the
maximum resource, is the benchmark's `max_units`; s (minimum early-stopping rate) is 0.

When to use it: when a third or less of a training already ranks configurations roughly. If rankings cross
late, it discards slow starters.

Logged metrics: as for every method; the units of a stopped trial are the rung at which it was stopped.

Cost: most trials end after `grace_units`, so a budget of full trainings buys several times as many trials.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE, Plan, SearchArguments, SearcherName


class Arguments(SearchArguments):
    """Arguments of ASHA."""

    reduction_factor: float = Field(3, gt=1, description="share 1/x of trials that each rung promotes (eta)")
    grace_units: int = Field(1, ge=1, description="units every trial gets before the first rung (r)")
    searcher: Literal["random", "hyperopt", "optuna"] = Field("random", description="proposes the configurations")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's asynchronous HyperBand with one bracket, which is ASHA.

    Raises:
        BenchmarkError: the first rung lies at or beyond the full resource.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler

    from hpo.search.randomness import opening
    from hpo.search.schedulers.stopping_rules import AshaKeepingFirst, FirstInFull
    from hpo.search.searchers import make_searcher

    if arguments.grace_units >= study.max_units:
        raise BenchmarkError(
            f"grace_units is {arguments.grace_units}, but must be < max_units, which is {study.max_units} "
            f"in benchmark {study.benchmark.name}"
        )
    first = opening(study, arguments)
    scheduler = (AshaKeepingFirst if first else AsyncHyperBandScheduler)(
        time_attr=TIME_ATTRIBUTE,
        metric=OBJECTIVE,
        mode=study.benchmark.mode,
        grace_period=arguments.grace_units,
        reduction_factor=arguments.reduction_factor,
        max_t=study.max_units,
        brackets=1,
    )
    name: SearcherName = arguments.searcher
    searcher, space = make_searcher(name, study, first=first)
    # Each trial costs at least one unit, so no more than that many can exist.
    admission = FirstInFull(study.max_units) if first else None
    return Plan(searcher, space, num_samples=study.budget_units, scheduler=scheduler, admission=admission)
