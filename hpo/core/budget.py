"""The budget of a study, and the accounts on which its trials reserve units. Pure.

Units are reserved before they are spent. A method that may stop a trial at any unit reserves one at a time, so its
study ends at the budget exactly. A method that trains to the end reserves full trainings, and one that promotes in
brackets reserves whole brackets, so neither begins a part that it could not finish. `hpo.engine.budgeted` asks these
accounts before it creates a trial and before it grants a unit. No trial is cut off within a unit. Failed units count:
they were spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from benchmarks.clock import REAL, Clock

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

INTERRUPTED = "interrupted"
"""First word of the reason for a study's end, if the study can be resumed."""


class Budget:
    """Units spent and reserved, by account: a trial, or the group of trials that share a reservation.

    Args:
        units: units that may be spent.
        deadline_seconds: seconds after which no unit is granted any more; None for no cap.
        clock: the study's clock.
    """

    def __init__(self, units: int, deadline_seconds: float | None = None, clock: Clock = REAL) -> None:
        self.units, self.spent, self.revoked_because = units, 0, ""
        self._reserved: dict[str, int] = {}
        self._granted: dict[str, str] = {}
        self._clock, self._began, self._deadline_seconds = clock, clock.now(), deadline_seconds

    @property
    def free(self) -> int:
        """Units that are neither spent nor reserved."""
        return self.units - self.spent - sum(self._reserved.values())

    @property
    def revoked(self) -> bool:
        """True once the study has to end at once."""
        return bool(self.revoked_because)

    @property
    def is_closed(self) -> bool:
        """True once no further unit is granted, however many are left."""
        return self.revoked or self._is_late()

    def reserve(self, account: str, units: int) -> None:
        """Set units aside for an account, in addition to its reservation."""
        self._reserved[account] = self._reserved.get(account, 0) + units

    def spend(self, account: str, trial_id: str = "") -> None:
        """Count a unit as trained by a trial of this account."""
        self.spent += 1
        self._granted.pop(trial_id, None)
        if self._reserved.get(account, 0):
            self._reserved[account] -= 1

    def can_grant(self, account: str, trial_id: str = "") -> bool:
        """Tell whether a trial may train another unit, from its account's reservation or else from the free units.

        Units that other trials of the account have been granted and not trained yet belong to those trials.
        """
        return not self._is_late() and (self._has_left(account, trial_id) or self.free >= 1)

    def grant(self, account: str, trial_id: str = "") -> None:
        """Let a trial train another unit; reserve one if its account has none left."""
        if not self._has_left(account, trial_id):
            self.reserve(account, 1)
        self._granted[trial_id] = account

    def _has_left(self, account: str, trial_id: str) -> bool:
        others = sum(of == account and holder != trial_id for holder, of in self._granted.items())
        return self._reserved.get(account, 0) > others

    def withdraw(self, trial_id: str) -> None:
        """End a trial: return its granted, untrained units to its account."""
        self._granted.pop(trial_id, None)

    def release(self, account: str) -> None:
        """Free the units that an account has not spent."""
        self._reserved.pop(account, None)

    def revoke(self, reason: str = INTERRUPTED) -> None:
        """End the study: every trial ends now, within its unit. The first reason stands."""
        self.revoked_because = self.revoked_because or reason

    def go_on(self, seconds: float, deadline_seconds: float | None, clock: Clock) -> None:
        """Continue the study in a new process and by its clock, this many seconds after its beginning."""
        self._clock = clock
        self._began, self._deadline_seconds = clock.now() - seconds, deadline_seconds

    def _is_late(self) -> bool:
        return self._deadline_seconds is not None and self._clock.now() - self._began >= self._deadline_seconds


def is_interruption(reason: str) -> bool:
    """Tell whether a study that ended for this reason can be resumed."""
    return reason.startswith(INTERRUPTED)


class Admission(Protocol):
    """The reservation of a new trial."""

    @property
    def replaces_diverged(self) -> bool:
        """Tell whether the scheduler gives a diverged trial other weights instead of ending it."""

    def cost(self, free_units: int) -> int | None:
        """Return the units that the next trial has to reserve, or None if the free units do not suffice."""

    def admit(self, free_units: int) -> None:
        """Take note that the next trial is created, for the cost of so many free units."""

    def account_of(self, trial: Trial) -> str:
        """Return the account of a trial."""

    def is_over(self, account: str) -> bool:
        """Tell whether an account without a live trial will never have another."""

    def on_trial_retry(self, trial: Trial) -> None:
        """Take note that a failed trial is tried again, from its checkpoint or from the beginning."""

    def on_trial_drop(self, trial: Trial) -> None:
        """Take note that a trial ends before it has begun, and that another may take its place."""


@dataclass(frozen=True)
class PerTrial:
    """One reservation for each trial alone.

    Attributes:
        units: 1 where the scheduler may stop trials anywhere, a full training where each is to finish.
        replaces_diverged: see `Admission`.
    """

    units: int
    replaces_diverged: bool = False

    def cost(self, free_units: int) -> int | None:
        """See `Admission`."""
        return self.units if self.units <= free_units else None

    def admit(self, free_units: int) -> None:
        """See `Admission`."""

    def account_of(self, trial: Trial) -> str:
        """See `Admission`."""
        return str(trial.trial_id)

    def is_over(self, account: str) -> bool:
        """See `Admission`."""
        return True

    def on_trial_retry(self, trial: Trial) -> None:
        """See `Admission`."""

    def on_trial_drop(self, trial: Trial) -> None:
        """See `Admission`."""
