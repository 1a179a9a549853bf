"""HyperOpt's TPE: proposes where good trials are dense and bad ones are not, each trained to the end.

Paper: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011,
https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.

Behaviour: it begins as every method; then divides those so far into a few good ones and the rest,
estimates a density over configurations for each, l(x) and g(x), draws candidates from l and proposes the one with the
largest l(x) / g(x), which is the one of largest expected improvement. Trials that still run count as bad, so that
nothing is proposed twice at once. With `warm_start`, trials of earlier studies of the benchmark count from the
beginning, diverged ones as bad.
Limits: it does not stop bad trials, or model hyperparameters jointly: each has densities of its own. It draws the two
ends of an `int` domain half as often as the numbers between, since it rounds a real number.

Arguments and the paper's symbols: `initial_points` is the number of trials before the model, the default among them;
`start_with_default` and `warm_start` have no counterpart. gamma, the share of good trials, is HyperOpt's: 0.25 sqrt(n)
of n trials, rounded up, at most 25; there are 24 candidates.

`initial_points` is a third of the budget by default, at least 2, because HyperOpt's own 20 would make random search of
the default budget of 12 trainings. It counts trials that have ended, those of a warm start included.

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
from hpo.search.plan import Plan, TPEArguments


class Arguments(TPEArguments):
    """Arguments of HyperOpt's TPE."""


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan Ray's HyperOpt searcher, with no scheduler.

    Raises:
        BenchmarkError: the default lies outside the search space, or earlier studies cannot be read.
    """
    from hpo.search.searchers import tpe_plan

    return tpe_plan("hyperopt", study, arguments)
