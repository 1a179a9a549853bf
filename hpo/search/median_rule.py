"""Median stopping that never pauses a trial."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler


class UnpausedMedianRule(MedianStoppingRule):
    """Median stopping rule without pauses; Ray's pauses a trial at every unit, and each pause costs a checkpoint."""

    def _on_insufficient_samples(self, tune_controller: Any, trial: Trial, time: float) -> str:
        return str(TrialScheduler.CONTINUE)
