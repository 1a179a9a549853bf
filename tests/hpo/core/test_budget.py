"""The budget of a study: the units that it grants, reserves, spends and releases."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpo.core.budget import Budget, PerTrial
from tests.hpo.engine.budgeted.parts import make_study


def granted(budget: Budget, account: str, trial_id: str = "") -> bool:
    """Grant a unit if there is one."""
    can = budget.can_grant(account, trial_id)
    if can:
        budget.grant(account, trial_id)
    return can


class TestBudget:
    @pytest.mark.parametrize("units", [1, 2, 9])
    def test_an_account_without_a_reservation_is_granted_every_free_unit(self, units: int) -> None:
        budget = Budget(units)
        spent = 0
        while granted(budget, "a"):
            budget.spend("a")
            spent += 1
        assert (spent, budget.spent, budget.free) == (units, units, 0)

    def test_reserved_units_are_not_free(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        assert (budget.free, budget.spent) == (5, 0)

    def test_spending_uses_the_reservation_up(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.spend("a")
        assert (budget.free, budget.spent) == (5, 1)

    def test_a_reservation_adds_to_what_an_account_has(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.reserve("a", 2)
        assert budget.free == 3

    def test_an_account_is_granted_its_reservation_where_nothing_is_free(self) -> None:
        budget = Budget(2)
        budget.reserve("a", 2)
        for _ in range(2):
            assert granted(budget, "a")
            budget.spend("a")
        assert not granted(budget, "a")

    def test_an_account_is_refused_what_another_has_reserved(self) -> None:
        budget = Budget(2)
        budget.reserve("b", 1)
        assert granted(budget, "a")
        budget.spend("a")
        assert not granted(budget, "a")
        assert granted(budget, "b")

    def test_an_account_is_granted_what_another_has_released(self) -> None:
        budget = Budget(2)
        budget.reserve("b", 2)
        assert not granted(budget, "a")
        budget.release("b")
        assert granted(budget, "a")

    def test_a_granted_unit_is_not_granted_to_another_account_as_well(self) -> None:
        budget = Budget(1)
        assert granted(budget, "a")
        assert not granted(budget, "b")

    def test_asking_twice_for_the_same_unit_reserves_one(self) -> None:
        budget = Budget(3)
        granted(budget, "a")
        granted(budget, "a")
        assert budget.free == 2

    def test_what_one_trial_of_an_account_was_granted_is_not_another_s(self) -> None:
        budget = Budget(2)
        budget.reserve("a", 2)
        assert [granted(budget, "a", trial) for trial in ("1", "2", "3")] == [True, True, False]
        budget.spend("a", "1")
        assert not granted(budget, "a", "1")
        assert granted(budget, "a", "2")

    def test_what_an_ended_trial_was_granted_goes_back_to_its_account(self) -> None:
        budget = Budget(1)
        budget.reserve("a", 1)
        assert granted(budget, "a", "1")
        budget.withdraw("1")
        assert granted(budget, "a", "2")

    def test_releasing_frees_what_has_not_been_spent(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.spend("a")
        budget.release("a")
        assert (budget.free, budget.spent) == (8, 1)

    def test_releasing_twice_frees_once(self) -> None:
        budget = Budget(9)
        budget.reserve("a", 4)
        budget.reserve("b", 4)
        budget.release("a")
        budget.release("a")
        assert budget.free == 5

    def test_an_unknown_account_may_be_released(self) -> None:
        """An account of a trial that ended before it began, for example."""
        budget = Budget(9)
        budget.release("a")
        assert budget.free == 9

    def test_no_deadline_means_no_cap(self) -> None:
        budget = Budget(1, deadline_seconds=None)
        assert not budget.is_closed
        assert granted(budget, "a")

    def test_a_deadline_ahead_changes_nothing(self) -> None:
        budget = Budget(1, deadline_seconds=3600.0)
        assert not budget.is_closed
        assert granted(budget, "a")

    def test_after_the_deadline_nothing_is_granted_reserved_units_included(self) -> None:
        budget = Budget(9, deadline_seconds=0.01)
        budget.reserve("a", 4)
        time.sleep(0.02)
        assert budget.is_closed
        assert not budget.revoked
        assert not granted(budget, "a")
        assert not granted(budget, "b")

    def test_a_revoked_budget_is_closed(self) -> None:
        budget = Budget(9)
        budget.revoke()
        assert budget.is_closed
        assert budget.revoked
        assert budget.revoked_because == "interrupted"

    def test_the_first_reason_to_revoke_stands(self) -> None:
        budget = Budget(9)
        budget.revoke("the searcher raised")
        budget.revoke()
        assert budget.revoked_because == "the searcher raised"

    def test_a_budget_is_neither_closed_nor_revoked_by_being_spent(self) -> None:
        """Running trials may still end well."""
        budget = Budget(1)
        budget.spend("a")
        assert not budget.is_closed
        assert not budget.revoked


class TestPerTrial:
    @pytest.mark.parametrize(("units", "free", "admitted"), [(1, 1, 1), (1, 0, None), (9, 9, 9), (9, 8, None)])
    def test_a_trial_begins_where_its_reservation_fits(self, units: int, free: int, admitted: int | None) -> None:
        assert PerTrial(units).cost(free) == admitted

    def test_accounts_are_not_shared(self, tmp_path: Path) -> None:
        one, other = make_study(tmp_path, Budget(9)).create(2)
        assert PerTrial(1).account_of(one) != PerTrial(1).account_of(other)

    def test_an_account_is_over_with_its_trial(self) -> None:
        assert PerTrial(1).is_over("a")


@pytest.mark.parametrize("account", ["a", "b", "unknown"])
def test_asking_whether_a_unit_can_be_granted_changes_nothing(account: str) -> None:
    budget = Budget(3)
    budget.reserve("a", 2)
    budget.grant("a", "first")
    before = repr(vars(budget))
    assert [budget.can_grant(account, trial) for trial in ("first", "second")] == [True, True]
    assert repr(vars(budget)) == before
