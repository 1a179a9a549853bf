"""Random search: independent draws from the search space, each trained to the end.

Paper: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012,
https://jmlr.org/papers/v13/bergstra12a.html.

Behaviour: it draws each trial's configuration from the space, seeded, and trains it at the full resource.
Limits: it does not learn from results or stop bad trials.

Arguments and the paper's symbols: none; the paper's S, the number of trials, is the budget.

When to use it: as the yardstick. A method that does not beat it at the same cost is not worth its complexity.

Logged metrics: as for every method.

Cost: one full training per trial; as many trials as the budget, more where some diverge.
"""

from __future__ import annotations

from hpo.core.study import Study
from hpo.core.traits import Traits
from hpo.search.plan import Plan, SearchArguments

TRAITS = Traits(is_reference=True)


class Arguments(SearchArguments):
    """Random search has no arguments of its own."""


def plan(study: Study, arguments: Arguments) -> Plan:
    """Plan draws until the budget is spent: a trial that diverges leaves its units to further ones."""
    from hpo.search.randomness import opening, random_searcher
    from hpo.search.space import to_tune

    return Plan(
        searcher=random_searcher(study, opening(study, arguments)),
        space=to_tune(study.benchmark.space),
        num_samples=study.budget_units,
    )
