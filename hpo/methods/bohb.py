"""BOHB: HyperBand whose configurations come from a density model of the good ones.

Paper: Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018,
https://arxiv.org/abs/1807.01774.

Behaviour: it runs HyperBand's brackets (see `hyperband`). A new configuration is drawn at random with probability
`random_fraction`; otherwise from a kernel density estimate of the best results, the one of 64 draws with the
largest ratio of good to bad density. The model is that of the largest budget (rung) with enough results. Every
result at every rung reaches it, those of trials that are stopped there included.
Limits: it does not build a model early: with d hyperparameters a rung needs 2 (d + 1) results. In a space of 5 and a
budget of 12 full trainings the first round of brackets, two thirds of the budget, is HyperBand with random
draws. A diverged trial counts as the worst result of the rung it would have reached.

Arguments and the paper's symbols: `reduction_factor` is eta, `random_fraction` is rho, `min_points` is N_min (0 for
d + 1, the least that the implementation allows), `top_percent` is 100 q, `num_draws` is N_s, `bandwidth_factor` is
b_w. R is the benchmark's `max_units`.

When to use it: for budgets of several rounds of brackets, where early rankings mean something.

Logged metrics: as for every method; see `hyperband` for units and idling.

Cost: as HyperBand; fitting and sampling the model takes some hundredths of a second per trial.
"""

from __future__ import annotations

from pydantic import Field

from hpo.core.study import Study
from hpo.search.plan import Plan, SearchArguments


class Arguments(SearchArguments):
    """Arguments of BOHB; the defaults are the paper's."""

    reduction_factor: int = Field(3, ge=2, description="each rung keeps 1/x of the trials (eta); divides max_units")
    random_fraction: float = Field(1 / 3, ge=0, le=1, description="share of configurations drawn at random (rho)")
    min_points: int = Field(0, ge=0, description="good results a model needs; 0 for hyperparameters + 1 (N_min)")
    top_percent: int = Field(15, ge=1, le=99, description="percentage of results that count as good (100 q)")
    num_draws: int = Field(64, ge=1, description="draws from the model, of which the best is proposed (N_s)")
    bandwidth_factor: float = Field(3, gt=0, description="widens the density drawn from (b_w)")


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's HyperBandForBOHB and TuneBOHB, with brackets and the way of results corrected.

    Raises:
        BenchmarkError: the reduction factor does not divide the benchmark's `max_units`.
    """
    from hpo.search.bohb_search import BohbScheduler, BohbSearch
    from hpo.search.randomness import Draws, opening
    from hpo.search.schedulers.brackets import make_brackets

    brackets = make_brackets(study, arguments.reduction_factor)
    draws = Draws(study, opening(study, arguments))
    scheduler = BohbScheduler(brackets, study.benchmark.mode)
    settings = {
        "random_fraction": arguments.random_fraction,
        "min_points_in_model": arguments.min_points or None,
        "top_n_percent": arguments.top_percent,
        "num_samples": arguments.num_draws,
        "bandwidth_factor": arguments.bandwidth_factor,
    }
    return Plan(
        searcher=BohbSearch(study, settings, brackets.rungs(brackets.halvings)[0], draws),
        space={},
        num_samples=study.budget_units,
        scheduler=scheduler,
        admission=scheduler,
        paused=brackets.trials_in_a_round(study.budget_units),
    )
