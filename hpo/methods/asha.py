"""ASHA (stopping): many short trials, each stopped at a rung unless it is in the best third so far.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
https://arxiv.org/abs/1810.05934.

Behaviour: it compares trials at rungs r, r*eta, r*eta^2, ... of the resource. By default it is the stopping variant: a
trial that reaches a rung goes on if it is among the best 1/eta of all that have reached it so far, and is stopped
otherwise. `promotion=true` is the paper's rule: each trial pauses at its rung, and a free device takes the best
trial of the highest rung that is among the best 1/eta there, or a new one if no rung has such a trial. No trial
waits for a whole rung in either. The default, with which it begins, trains to the end in any case.
Limits: the stopping variant does not resume a stopped trial, and early arrivals, compared with few, go on too easily.
Promotion has neither fault, but keeps a checkpoint of each paused trial until the study ends. It has no model of its
own to choose configurations: `searcher` draws them at random as in the paper, or by TPE over the trials so far, which
are ranked by resource reached first and metric second. TPE begins after 20 (HyperOpt) or 10 (Optuna) trials have
ended. It learns from ended trials only, so promotion goes with random draws alone.

Arguments and the paper's symbols: `reduction_factor` is eta, `grace_units` is r (minimum resource); R, the
maximum resource, is the benchmark's `max_units`; s (minimum early-stopping rate) is 0. `promotion` is `get_job` of
the paper's algorithm 2.

When to use it: when a third or less of a training already ranks configurations roughly. If rankings cross
late, it discards slow starters.

Logged metrics: as for every method; the units of a stopped trial are the rung at which it was stopped, or at which it
waited in vain.

Cost: most trials end after `grace_units`, so a budget of full trainings buys several times as many trials. With
promotion, each trial writes a checkpoint at its rung, and the disk holds one of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE, Plan, SearchArguments, SearcherName

if TYPE_CHECKING:  # a method's arguments are read without Ray
    from ray.tune.schedulers import TrialScheduler


class Arguments(SearchArguments):
    """Arguments of ASHA."""

    reduction_factor: float = Field(3, gt=1, description="share 1/x of trials that each rung promotes (eta)")
    grace_units: int = Field(1, ge=1, description="units every trial gets before the first rung (r)")
    searcher: Literal["random", "hyperopt", "optuna"] = Field("random", description="proposes the configurations")
    promotion: bool = Field(False, description="pause trials at rungs and promote them later, as in the paper")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan ASHA: Ray's asynchronous HyperBand with one bracket, which stops trials, or the paper's promotion.

    Raises:
        BenchmarkError: the first rung lies at or beyond the full resource, or TPE is to learn from paused trials.
    """
    from hpo.search.randomness import opening
    from hpo.search.schedulers.stopping_rules import FirstInFull
    from hpo.search.searchers import make_searcher

    _check(study, arguments)
    first = opening(study, arguments)
    name: SearcherName = arguments.searcher
    searcher, space = make_searcher(name, study, first=first)
    return Plan(
        searcher,
        space,
        num_samples=study.budget_units,  # each trial costs at least one unit, so no more than that many can exist
        scheduler=(_promoting if arguments.promotion else _stopping)(study, arguments, keeps_first=bool(first)),
        admission=FirstInFull(study.max_units) if first else None,
        paused=study.budget_units // arguments.grace_units if arguments.promotion else 0,
    )


def _check(study: Study, arguments: Arguments) -> None:
    """Refuse what ASHA cannot run; see `plan`."""
    if arguments.grace_units >= study.max_units:
        raise BenchmarkError(
            f"grace_units is {arguments.grace_units}, but must be < max_units, which is {study.max_units} "
            f"in benchmark {study.benchmark.name}"
        )
    if arguments.promotion and arguments.searcher != "random":
        raise BenchmarkError(
            f"searcher is {arguments.searcher}, but must be random with promotion=true: a model learns from trials "
            "that have ended, and paused ones end with the study"
        )


def _stopping(study: Study, arguments: Arguments, keeps_first: bool) -> TrialScheduler:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    from hpo.search.schedulers.stopping_rules import AshaKeepingFirst

    return (AshaKeepingFirst if keeps_first else AsyncHyperBandScheduler)(
        time_attr=TIME_ATTRIBUTE,
        metric=OBJECTIVE,
        mode=study.benchmark.mode,
        grace_period=arguments.grace_units,
        reduction_factor=arguments.reduction_factor,
        max_t=study.max_units,
        brackets=1,
    )


def _promoting(study: Study, arguments: Arguments, keeps_first: bool) -> TrialScheduler:
    from hpo.search.schedulers.promotion import PromotingAsha

    return PromotingAsha(
        study.benchmark.mode, arguments.grace_units, arguments.reduction_factor, study.max_units, keeps_first
    )
