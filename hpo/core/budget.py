"""The budget of a study, and the two places where Ray Tune is held to it.

Units are reserved before they are spent. A method that may stop a trial at any unit reserves one at a time, so its
study ends at the budget exactly; one that trains to the end reserves full trainings, and one that promotes in
brackets reserves whole brackets, so neither begins what it could not finish. `BudgetedSearch` creates a trial only
where its reservation fits; `BudgetedScheduler` ends a trial at the full resource, at divergence, or where no
further unit is left. No trial is cut off within a unit. Failed units count: they were spent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

INTERRUPTED = "interrupted"
"""What the reason for a study's end begins with where it can go on another time."""


EVERY_TRIAL_FAILS = "every trial fails"
"""How the reason for a study's end begins where nothing can be found until its cause is mended."""


class Budget:
    """Units spent and reserved, by account: a trial, or the group of trials that share a reservation.

    Args:
        units: units that may be spent.
        deadline_seconds: wall-clock seconds after which no unit is granted any more; None for no cap.
    """

    def __init__(self, units: int, deadline_seconds: float | None = None) -> None:
        self.units, self.spent, self.revoked_because = units, 0, ""
        self._reserved: dict[str, int] = {}
        self._granted: dict[str, str] = {}
        self._began, self._deadline_seconds = time.monotonic(), deadline_seconds

    @property
    def free(self) -> int:
        """Units neither spent nor reserved."""
        return self.units - self.spent - sum(self._reserved.values())

    @property
    def revoked(self) -> bool:
        """Whether the study is to end at once."""
        return bool(self.revoked_because)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is granted any more, whatever is left."""
        return self.revoked or self._is_late()

    def reserve(self, account: str, units: int) -> None:
        """Set units aside for an account, on top of what it has."""
        self._reserved[account] = self._reserved.get(account, 0) + units

    def spend(self, account: str, trial_id: str = "") -> None:
        """A unit was trained by a trial of this account."""
        self.spent += 1
        self._granted.pop(trial_id, None)
        if self._reserved.get(account, 0):
            self._reserved[account] -= 1

    def grants_unit(self, account: str, trial_id: str = "") -> bool:
        """Whether a trial may train another unit: from its account's reservation, else from what is free.

        What other trials of the account have been granted and not trained yet is theirs.
        """
        if self._is_late():
            return False
        others = sum(of == account and holder != trial_id for holder, of in self._granted.items())
        if self._reserved.get(account, 0) <= others and self.free >= 1:
            self.reserve(account, 1)
        if self._reserved.get(account, 0) <= others:
            return False
        self._granted[trial_id] = account
        return True

    def withdraw(self, trial_id: str) -> None:
        """A trial ended; what it was granted and has not trained goes back to its account."""
        self._granted.pop(trial_id, None)

    def release(self, account: str) -> None:
        """What an account has not spent is free again."""
        self._reserved.pop(account, None)

    def revoke(self, reason: str = INTERRUPTED) -> None:
        """The study is to end: every trial now, within its unit. The first reason stands."""
        self.revoked_because = self.revoked_because or reason

    def go_on(self, seconds: float, deadline_seconds: float | None) -> None:
        """The study is taken up in a new process, so many seconds after its beginning."""
        self._began, self._deadline_seconds = time.monotonic() - seconds, deadline_seconds

    def _is_late(self) -> bool:
        return self._deadline_seconds is not None and time.monotonic() - self._began >= self._deadline_seconds


def is_interruption(reason: str) -> bool:
    """Whether a study that ended for this reason can go on."""
    return reason.startswith(INTERRUPTED)


class Admission(Protocol):
    """What a new trial reserves."""

    @property
    def replaces_diverged(self) -> bool:
        """Whether the scheduler gives a diverged trial other weights to go on with, instead of ending it."""

    def admit(self, free_units: int) -> int | None:
        """Units that the next trial has to reserve, or None if it cannot begin with what is free."""

    def account_of(self, trial: Trial) -> str:
        """The account of a trial."""

    def is_over(self, account: str) -> bool:
        """Whether an account that has no live trial left will never have another."""

    def on_trial_retry(self, trial: Trial) -> None:
        """A trial has failed and is tried again, from its checkpoint or from the beginning."""


@dataclass(frozen=True)
class PerTrial:
    """Each trial reserves for itself alone.

    Attributes:
        units: 1 where the scheduler may stop trials anywhere, a full training where each is to finish.
        replaces_diverged: see `Admission`.
    """

    units: int
    replaces_diverged: bool = False

    def admit(self, free_units: int) -> int | None:
        """As `Admission`."""
        return self.units if self.units <= free_units else None

    def account_of(self, trial: Trial) -> str:
        """As `Admission`."""
        return str(trial.trial_id)

    def is_over(self, account: str) -> bool:
        """As `Admission`."""
        return True

    def on_trial_retry(self, trial: Trial) -> None:
        """As `Admission`."""
