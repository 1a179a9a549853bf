"""ASHA by the paper's promotion rule, which Ray Tune does not have: a trial pauses at its rung and may go on later.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2,
https://arxiv.org/abs/1810.05934. Ray's scheduler decides once, as a trial arrives, so early arrivals are compared with
few others and go on too easily. Here a free device asks for a job, as in the paper: the best trial of the highest rung
that is among the best 1/eta there, else a new one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE


def rung_units(grace_units: int, reduction_factor: float, max_units: int) -> list[int]:
    """Return the units of the rungs r, r * eta, r * eta^2, ... below the full resource, rounded up."""
    units, rung = list[int](), float(grace_units)
    while rung < max_units:
        units += [math.ceil(rung)] if math.ceil(rung) not in [*units, max_units] else []
        rung *= reduction_factor
    return units


@dataclass
class Rung:
    """The trials that have reached a rung.

    Attributes:
        units: its resource.
        losses: the objective of each at the rung, by Tune's trial id; lower is better.
        promoted: those that were let go on.
    """

    units: int
    losses: dict[str, float] = field(default_factory=dict)
    promoted: set[str] = field(default_factory=set)

    def promotable(self, reduction_factor: float) -> list[str]:
        """List the trials among the best 1/eta, rounded down, that were not let go on yet; the best first."""
        best = sorted(self.losses, key=lambda trial: self.losses[trial])
        return [trial for trial in best[: int(len(best) / reduction_factor)] if trial not in self.promoted]


class PromotingAsha(FIFOScheduler):
    """ASHA that pauses each trial at each rung, and promotes the best of a rung whenever a device is free.

    Args:
        mode: "min" or "max".
        grace_units: units of the first rung, r in the paper.
        reduction_factor: share 1/x of a rung that may go on, eta.
        max_units: the full resource, R.
        keeps_first: lets the first trial pass every rung; it counts there as promoted.
    """

    def __init__(self, mode: str, grace_units: int, reduction_factor: float, max_units: int, keeps_first: bool) -> None:
        super().__init__()
        self._sign = 1.0 if mode == "min" else -1.0
        self._reduction_factor, self._keeps_first = reduction_factor, keeps_first
        self._rungs = [Rung(units) for units in rung_units(grace_units, reduction_factor, max_units)]
        self._first: str | None = None
        self._live: dict[str, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a new trial; see `TrialScheduler`."""
        self._first = self._first or trial.trial_id
        self._live[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Let a trial pause at each rung, except the first, and one that had gone on and was set back by a failure."""
        rung = next((rung for rung in self._rungs if rung.units == result[TIME_ATTRIBUTE]), None)
        if rung is None:
            return str(TrialScheduler.CONTINUE)
        rung.losses.setdefault(trial.trial_id, self._sign * result[OBJECTIVE])
        if self._keeps_first and trial.trial_id == self._first:
            rung.promoted.add(trial.trial_id)
        return str(TrialScheduler.CONTINUE if trial.trial_id in rung.promoted else TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the next job: a promoted trial if a device is free, else one that has not begun, or is tried again."""
        pending = next((trial for trial in self._live.values() if trial.status == Trial.PENDING), None)
        return (self._promote() if self._has_free_device(tune_controller) else None) or pending

    def _has_free_device(self, tune_controller: Any) -> bool:
        """Tell whether a device waits for a job: Tune asks all the time, and would settle the next one too early."""
        controller = tune_controller._tune_controller  # schedulers get a wrapper, which hides the actors
        is_idle = all(trial.status == Trial.PAUSED for trial in self._live.values())
        return bool(controller._actor_cache.num_cached_objects) or is_idle

    def _promote(self) -> Trial | None:
        """Promote the best trial of the highest rung that has one."""
        for rung in reversed(self._rungs):
            for trial_id in rung.promotable(self._reduction_factor):
                trial = self._live.get(trial_id)
                if trial is not None and trial.status == Trial.PAUSED:
                    rung.promoted.add(trial_id)
                    return trial
        return None

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Forget a trial that has ended; its results stay in the rungs."""
        self._live.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that has failed for good; its results stay in the rungs."""
        self._live.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that was ended from outside; its results stay in the rungs."""
        self._live.pop(trial.trial_id, None)

    def debug_string(self) -> str:
        """See `TrialScheduler`."""
        return f"ASHA with promotion: {sum(len(rung.promoted) for rung in self._rungs)} promoted"
