"""Traits of methods: what comparisons and job arrays need to know of a method beside its plan. Pure.

Two methods belong beside every method at every budget. The one of a single configuration spends its own need. The
reference runs with the methods' budget, and again with twice of it: a method that does not beat the second is not worth
half the cost.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_BUDGET_RATIO = 2
"""Budget of the larger reference study, divided by that of the methods."""


@dataclass(frozen=True)
class Traits:
    """Traits of a method, none of which most have.

    Attributes:
        is_single_config: it trains one configuration and searches for none; no budget is its own.
        is_reference: methods are measured by their probability to beat it.
        is_grid: methods are measured by its cost, and by the time until they are as good.
        shares_proposals_by_journal: processes that share only a file can propose for one study.
        varies_within_trials: it changes hyperparameters within a trial, so that no curve of one configuration tells it.
    """

    is_single_config: bool = False
    is_reference: bool = False
    is_grid: bool = False
    shares_proposals_by_journal: bool = False
    varies_within_trials: bool = False

    def belongs_beside(self, own_budget: int, budget: int) -> bool:
        """Tell whether a contestant with a budget of its own belongs beside methods of another budget."""
        return self.is_single_config or (self.is_reference and own_budget == large_reference_budget(budget))


def large_reference_budget(budget: int) -> int:
    """Return the budget, in full trainings, of the larger reference study beside methods of this budget."""
    return REFERENCE_BUDGET_RATIO * budget
