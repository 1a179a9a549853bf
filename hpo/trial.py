"""The class Trainable around a benchmark's trial: one `step` is one resource unit and its evaluation.

With `reuse_actors=True` Tune calls `reset_config` instead of making a new actor, and the ranks inside go on
with imports, data and base weights in place. Each result carries the seconds since the last one by part, the
waiting for Tune's next call included, so that the parts of an actor's life add up to its length.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks.ranks import TrialProcess, open_trial
from benchmarks.spec import Config
from hpo.study import Study, is_diverged, objective

PARTS = ("startup", "train", "evaluate", "checkpoint", "idle")


class TrialActor(tune.Trainable):
    """A trial, and after it the next one, on the same warm ranks."""

    _process: TrialProcess | None = None

    def setup(self, config: Config, study: Study, cpus_per_rank: int, gpus_per_rank: int) -> None:
        """Start the ranks and the first trial."""
        self._study = study
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last_mark = time.monotonic()
        self._process = open_trial(study.benchmark, cpus_per_rank, gpus_per_rank)
        self._start(config)

    def reset_config(self, new_config: Config) -> bool:
        """Start the next trial on the same ranks."""
        self._mark("idle")
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One unit."""
        self._mark("idle")
        assert self._process is not None
        metrics = self._process.run_unit()
        train_seconds, evaluate_seconds = metrics.pop("train_seconds"), metrics.pop("evaluate_seconds")
        self._mark("train")
        self._seconds["train"] -= evaluate_seconds
        self._seconds["evaluate"] += evaluate_seconds
        del train_seconds  # what is left of the call is training: the mailbox between actor and ranks included
        diverged = is_diverged(self._study.benchmark, metrics)
        result: dict[str, Any] = {
            **metrics,
            "objective": objective(self._study.benchmark, metrics),
            "diverged": diverged,
            "done": diverged,
            **{f"{part}_seconds": seconds for part, seconds in self._seconds.items()},
        }
        self._seconds = dict.fromkeys(PARTS, 0.0)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Tune where a scheduler pauses or clones."""
        self._mark("idle")
        assert self._process is not None
        self._process.save(Path(checkpoint_dir))
        self._mark("checkpoint")

    def load_checkpoint(self, checkpoint: str) -> None:
        """Called by Tune before a paused or cloned trial goes on."""
        self._mark("idle")
        assert self._process is not None
        self._process.load(Path(checkpoint))
        self._mark("checkpoint")

    def cleanup(self) -> None:
        """End the ranks with the actor."""
        if self._process is not None:
            self._process.close()

    def _start(self, config: Config) -> None:
        assert self._process is not None
        self._process.start(config, self._study.seed)
        self._mark("startup")

    def _mark(self, part: str) -> None:
        """Book the time since the last mark."""
        now = time.monotonic()
        self._seconds[part] += now - self._last_mark
        self._last_mark = now


def loggable(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those that are not numbers: stores keep NaN badly, and a missing point reads as what it is."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}
