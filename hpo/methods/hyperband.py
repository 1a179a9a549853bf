"""HyperBand: successive halving in several brackets, from many short trials to few long ones.

Paper: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18, 2018,
https://arxiv.org/abs/1603.06560.

Behaviour: bracket s begins with n = ceil((s_max + 1) / (s + 1) * eta^s) random configurations at R / eta^s units,
keeps the best 1/eta of them at each rung, and trains those on to the next. Brackets run from the most aggressive
(s = s_max) to plain random search at the full resource (s = 0), and then again while the budget lasts. A trial
that waits for its rung is paused and continues from its checkpoint: no unit is trained twice.
Limits: it does not choose configurations (they are random draws), or decide before a whole rung is there. It begins
no bracket that the budget cannot finish; the last one is made smaller to fit, so less than one full training of
the budget can be left. A diverged trial leaves its bracket, and its place is not filled again. Rungs keep the best
1/eta rounded up, as Ray does, where the paper rounds down: 5 trials leave 2 and not 1.

Arguments and the paper's symbols: `reduction_factor` is eta; R, the maximum resource, is the benchmark's
`max_units`; s_max is the largest s with which every rung is a whole number of units. With R = 9 and eta = 3 one
round of brackets is 9 + 5 + 3 = 17 trials and 75 units, 8 1/3 full trainings.

When to use it: when it is not known how early rankings can be trusted: each bracket hedges differently. With
many devices ASHA wastes less time waiting.

Logged metrics: as for every method. Units of a trial are those it reached; `idle` in the ledger holds the waits at
rungs where no other trial could run.

Cost: the same units in every bracket, roughly. Each pause writes a checkpoint and each promotion reads one.
"""

from __future__ import annotations

from pydantic import Field

from hpo.core.study import Study
from hpo.search.plan import Plan, SearchArguments


class Arguments(SearchArguments):
    """Arguments of HyperBand."""

    reduction_factor: int = Field(3, ge=2, description="each rung keeps 1/x of the trials (eta); divides max_units")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's HyperBand with its brackets corrected.

    Raises:
        BenchmarkError: the reduction factor does not divide the benchmark's `max_units`.
    """
    from hpo.search.randomness import opening, random_searcher
    from hpo.search.schedulers.brackets import BracketScheduler, make_brackets
    from hpo.search.space import to_tune

    brackets = make_brackets(study, arguments.reduction_factor)
    scheduler = BracketScheduler(brackets, study.benchmark.mode)
    return Plan(
        searcher=random_searcher(study, opening(study, arguments)),
        space=to_tune(study.benchmark.space),
        num_samples=study.budget_units,
        scheduler=scheduler,
        admission=scheduler,
        paused=brackets.trials_in_a_round(study.budget_units),
    )
