"""Median stopping that never pauses a trial."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler


class UnpausedMedianRule(MedianStoppingRule):
    """Ray pauses a trial at every unit until others have caught up; a checkpoint each time, for nothing."""

    def _on_insufficient_samples(self, tune_controller: Any, trial: Trial, time: float) -> str:
        return str(TrialScheduler.CONTINUE)
