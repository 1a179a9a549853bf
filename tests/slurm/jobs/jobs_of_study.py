"""A study's folder, and jobs that write to it, without SLURM and without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.tasks.task import TokenStatistics
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.results import Outcome
from hpo.search import registry
from slurm import arrays, study_folder
from slurm.profile import Profile
from slurm.study_folder import SubmittedStudy

RATES = (1e-3, 1e-4, 1e-2)
CLUSTER = Profile.model_validate({"node": {"cpus": 1}})


def make_folder(place: Path) -> Path:
    """A study of three trials."""
    study = registry.get("random").study(spec.load("synthetic"), 0, 3, None, {})
    configs: tuple[Config, ...] = tuple({"learning_rate": rate, "batch_size_per_device": 8} for rate in RATES)
    order = arrays.prepare(study, "asynchronous", CLUSTER, 2, "the command")
    made = place / "study"
    made.mkdir()
    replace(order, proposals=configs).write(made)
    return made


class Job:
    """Writes a job's log; an event a second, from `at` on."""

    def __init__(self, folder: Path, name: str, at: float = 0.0) -> None:
        self._study, self.path = SubmittedStudy.read(folder).study, study_folder.log_of(folder, name)
        self._name, self._trial, self.at = name, "", at

    def _tell(self, *events: core.Event) -> Job:
        for event in events:
            event_log.append(self.path, event)
        self.at += 1.0
        return self

    def reserve(self, accelerator: str = "cpu") -> Job:
        return self._tell(core.Reserved(self.at, 1, self._name, accelerator))

    def release(self) -> Job:
        return self._tell(core.Released(self.at, self._name))

    def begin(self, trial: int) -> Job:
        self._trial = str(trial)
        config = {"learning_rate": RATES[trial]}
        proposed = core.proposed(self._study, self._trial, trial, config, self.at)
        return self._tell(proposed, core.Began(self.at, self._trial, 1))

    def unit(self, unit: int, loss: float = 1.0, tokens: Sequence[TokenStatistics] = ()) -> Job:
        seconds = {"startup": 0.25, "train": 0.5, "evaluate": 0.25}
        metrics = {"train_loss": loss, "eval_loss": loss, "f1": 0.5, "perplexity": 2.0, "exact_match": 0.5}
        is_lost = not math.isfinite(loss)
        return self._tell(core.Unit(self.at, self._trial, unit, loss, is_lost, metrics, seconds, tokens=tuple(tokens)))

    def end(self, outcome: Outcome = "completed", reason: str = "") -> Job:
        failed = [core.Failed(self.at, self._trial, reason)] if outcome == "failed" else []
        return self._tell(*failed, core.Ended(self.at, self._trial, outcome, reason))

    def try_again(self, reason: str) -> Job:
        failed = core.Failed(self.at, self._trial, reason), core.Retried(self.at, self._trial, reason)
        return self._tell(*failed, core.Began(self.at, self._trial, 1))

    def skip(self, trial: int) -> Job:
        return self._tell(core.Skipped(self.at, 1, str(trial)))

    def whole(self, trial: int, loss: float) -> Job:
        """A trial from its begin to its end."""
        self.begin(trial)
        for unit in range(1, 10):
            self.unit(unit, loss + 1 / unit)
        return self.end()
