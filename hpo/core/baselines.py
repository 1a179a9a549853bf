"""Contestants that belong beside every method at every budget. Pure.

The default configuration spends its own need. Random search runs with the methods' budget, and again with twice of
it: a method that does not beat the second is not worth half the cost.
"""

from __future__ import annotations

DEFAULT = "default"
"""Name of the contestant that is the benchmark's default configuration."""
RANDOM = "random"
MANUAL = "manual"
"""Name of the manual grid, whose cost others are measured by."""
RANDOM_BUDGET_RATIO = 2
"""Budget of the larger random search, divided by that of the methods."""


def large_random_budget(budget: int) -> int:
    """Return the budget, in full trainings, of the larger random search beside methods of this budget."""
    return RANDOM_BUDGET_RATIO * budget


def belongs_beside(method: str, own_budget: int, budget: int) -> bool:
    """Tell whether a contestant with a budget of its own belongs beside methods of another budget."""
    return method == DEFAULT or (method == RANDOM and own_budget == large_random_budget(budget))
