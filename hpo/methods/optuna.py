"""Optuna's TPE: good and bad trials modelled by their densities, each trained to the end.

Paper: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019,
https://arxiv.org/abs/1907.10902; the algorithm is that of Bergstra et al. 2011,
https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.

Behaviour: it begins as every method; then divides those so far into a few good ones and the rest,
estimates a density over configurations for each, l(x) and g(x), draws candidates from l and proposes the one with the
largest l(x) / g(x). It differs from HyperOpt's in the share of good trials and in how it sets the widths of the
densities. Trials that still run count as bad, so that nothing is proposed twice at once. With `warm_start`, trials
of earlier studies of the benchmark count from the beginning, diverged ones as bad.
Limits: it does not stop bad trials: the paper's pruning is a scheduler's part here. Unlike HyperOpt, and unlike
Optuna before version 5, it models hyperparameters jointly (`multivariate`, Optuna's own default).

Arguments and the paper's symbols: `initial_points` is Optuna's `n_startup_trials`; `start_with_default` is its
`enqueue_trial` and `warm_start` its `add_trial`. gamma, the share of good trials, is Optuna's: a tenth of the trials,
rounded up, at most 25; there are 24 candidates.

`initial_points` is a third of the budget by default, at least 2, because Optuna's own 10 would leave the model two
trials of the default budget of 12 trainings. It counts trials that have ended, those of a warm start included.

When to use it: where no early result can be trusted to rank configurations, and the budget is well beyond
`initial_points`; below that it is random search. `warm_start` where the benchmark was searched before: such a study
rests on more than its budget, and does not compare with studies that began from nothing. Of many trials, all but
the latest 25 weigh less.

Logged metrics: none of its own. A study's and its trials' are those of every method; a trial ends at the full resource
or where it diverges, unless a cap in device-hours stops it. `warm_start` is among the study's parameters.

Cost: one full training per trial. Proposals are made one at a time in the driver and take milliseconds; with d devices
a proposal lacks the results of the d - 1 trials that run.
"""

from __future__ import annotations

from hpo.core.study import Study
from hpo.core.traits import Traits
from hpo.search.plan import Plan, TPEArguments

TRAITS = Traits(shares_proposals_by_journal=True)


class Arguments(TPEArguments):
    """Arguments of Optuna's TPE."""


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's Optuna searcher, with no scheduler.

    Raises:
        BenchmarkError: the default lies outside the search space, or earlier studies cannot be read.
    """
    from hpo.search.searchers import tpe_plan

    return tpe_plan("optuna", study, arguments)
