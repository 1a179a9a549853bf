"""Checkpoints on disk: their times and their deletion; at any time one per live trial.

Ray either keeps all of a trial's checkpoints or counts them trial by trial, and then may delete one that another
trial has been told to continue from. Here one is deleted once no live trial would continue from it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

MOST_OF_THE_TIME = 0.05
"""Share of a training's time that may go into checkpoints that no scheduler asked for."""


class Pace:
    """Times at which a running training gets a checkpoint, so that a failure or an interruption costs little of it.

    Args:
        every_seconds: at most so often.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._since: dict[str, float] = {}
        self._asked: set[str] = set()
        self._longest = 0.0

    def begin(self, trial_id: str, now: float) -> None:
        """Note that a trial begins, continues, or has written a checkpoint."""
        self._since[trial_id] = now
        self._asked.discard(trial_id)

    def is_due(self, trial_id: str, checkpoint_seconds: float, now: float) -> bool:
        """Tell whether a trial has to write a checkpoint after this unit.

        Args:
            trial_id: the trial.
            checkpoint_seconds: its time for checkpoints since the unit before.
            now: seconds since the study began.
        """
        self._longest = max(self._longest, checkpoint_seconds)
        if now - self._since.get(trial_id, now) < max(self._every_seconds, self._longest / MOST_OF_THE_TIME):
            return False
        self._asked.add(trial_id)
        return True

    def fail(self, trial_id: str) -> None:
        """Note a failed attempt: if it failed while writing a checkpoint, write no further optional one."""
        if trial_id in self._asked:
            self._every_seconds = math.inf
        self.end(trial_id)

    def end(self, trial_id: str) -> None:
        """Forget a trial that ended."""
        self._since.pop(trial_id, None)
        self._asked.discard(trial_id)


class Checkpoints:
    """The checkpoints that a study has written and not deleted yet."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, checkpoint: Any) -> None:
        """Add a checkpoint that was written."""
        self._paths.add(Path(checkpoint.path))

    def superseded(self, trials: Iterable[Trial]) -> set[Path]:
        """List the checkpoints from which none of these trials would continue."""
        return self._paths - {path for trial in trials if not trial.is_finished() for path in _needed_by(trial)}

    def prune(self, trials: Iterable[Trial]) -> None:
        """Delete the checkpoints from which none of these trials would continue."""
        for path in self.superseded(trials):
            shutil.rmtree(path, ignore_errors=True)
            self._paths.discard(path)


def _needed_by(trial: Trial) -> set[Path]:
    """Return the latest checkpoint, and the one that is being read."""
    results = (trial.latest_checkpoint_result, trial.temporary_state.restoring_from)
    return {Path(result.checkpoint.path) for result in results if result is not None and result.checkpoint}
