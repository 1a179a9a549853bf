"""Checkpoints on disk: one a live trial, whatever a scheduler keeps asking for.

Ray either keeps all of a trial's checkpoints or counts them trial by trial, and then may delete one that another
trial has been told to continue from. Here one is deleted once no live trial would continue from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial


class Checkpoints:
    """The checkpoints a study has written and not deleted yet."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, checkpoint: Any) -> None:
        """One was written."""
        self._paths.add(Path(checkpoint.path))

    def superseded(self, trials: Iterable[Trial]) -> set[Path]:
        """Those that none of these trials would continue from."""
        return self._paths - {path for trial in trials if not trial.is_finished() for path in _needed_by(trial)}

    def prune(self, trials: Iterable[Trial]) -> None:
        """Delete what none of these trials would continue from."""
        for path in self.superseded(trials):
            shutil.rmtree(path, ignore_errors=True)
            self._paths.discard(path)


def _needed_by(trial: Trial) -> set[Path]:
    """The latest checkpoint, and the one that is being read."""
    results = (trial.latest_checkpoint_result, trial.temporary_state.restoring_from)
    return {Path(result.checkpoint.path) for result in results if result is not None and result.checkpoint}
