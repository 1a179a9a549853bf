"""The class Trainable around a benchmark's trial: one `step` is one resource unit and its evaluation.

With `reuse_actors=True` Tune calls `reset_config` instead of making a new actor, and the ranks inside go on
with imports, data and base weights in place. Each result carries the seconds since the last one by part, the
waiting for Tune's next call included, so that the parts of an actor's life add up to its length. An actor's first
result also has statistics of the data, which only the ranks know: they read and tokenise them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.actor import ActorHandle

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics
from benchmarks.training.ranks import open_ranks
from benchmarks.trials.trial import TrialProcess
from hpo.core import ownership
from hpo.core.ledger import MEASURED
from hpo.core.results import PRECISION, TOKENS
from hpo.core.study import Study, is_diverged, objective, training_of
from hpo.engine import checkpoints

UNITS = "units"
"""File of a checkpoint with the units that its trial had trained."""


class TrialActor(tune.Trainable):
    """An actor that runs one trial after another on the same warm ranks."""

    _process: TrialProcess | None = None
    _tokens: Sequence[TokenStatistics] = ()
    _precision = ""
    _started = False

    def setup(
        self,
        config: Config,
        study: Study,
        cpus_per_rank: float,
        gpus_per_rank: float,
        pool: ActorHandle | None,
        reported: Mapping[str, int],
        home: Path,
    ) -> None:
        """Note the arguments; the ranks start with the first step, since Tune waits for this before its next actor."""
        self._study, self._config, self._reported, self._home = study, config, reported, home
        self._share = (cpus_per_rank, gpus_per_rank, pool)
        self._seconds = dict.fromkeys(MEASURED, 0.0)
        self._last_mark = time.monotonic()

    def reset_config(self, new_config: Config) -> bool:
        """Prepare the next trial on the same ranks."""
        self._config, self._started = new_config, False
        return True

    def step(self) -> dict[str, Any]:
        """Train and evaluate one unit."""
        self._mark("idle")
        process = self._ready()
        self._catch_up(process)
        self._follow_schedule(process)
        metrics = process.run_unit()
        evaluate_seconds = metrics.pop("evaluate_seconds")
        del metrics["train_seconds"]  # the rest of the call is training, the mailbox to the ranks included
        self._mark("train")
        self._seconds["train"] -= evaluate_seconds
        self._seconds["evaluate"] += evaluate_seconds
        self._units = int(metrics["units"])
        diverged = is_diverged(self._study.benchmark, metrics)
        if self._study.kind == "confirmation" and self._units == self._study.max_units and not diverged:
            metrics |= {f"test_{name}": score for name, score in process.evaluate("test").items()}
            self._mark("evaluate")
        result: dict[str, Any] = {
            **metrics,
            "objective": objective(self._study.benchmark, metrics),
            "diverged": diverged,
            TOKENS: self._tokens,
            PRECISION: self._precision,
            **{f"{part}_seconds": seconds for part, seconds in self._seconds.items()},
        }
        self._seconds, self._tokens = dict.fromkeys(MEASURED, 0.0), ()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint; called by Tune when a scheduler pauses or clones."""
        self._mark("idle")
        process, folder = self._ready(), checkpoints.new_folder(self._home, self.trial_id)
        process.save(folder)
        (folder / UNITS).write_text(str(self._units))
        checkpoints.point_to(folder, Path(checkpoint_dir))
        for written in (folder, Path(checkpoint_dir)):
            ownership.mark(written, self._home)
        self._mark("checkpoint")

    def restore(self, checkpoint_path: Any) -> None:
        """Check a checkpoint before a paused or cloned trial continues: Tune unpickles some of its files itself."""
        ownership.require_mark(Path(checkpoint_path.checkpoint.path), self._home)
        super().restore(checkpoint_path)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read a checkpoint; `restore` leads here."""
        self._mark("idle")
        folder = checkpoints.folder_of(Path(checkpoint), self._home)
        ownership.require_mark(folder, self._home)
        self._ready().load(folder)
        self._units = int((folder / UNITS).read_text())
        self._mark("checkpoint")

    def cleanup(self) -> None:
        """Leave the ranks warm for the next study."""
        if self._process is not None:
            self._process.close()

    def open_ranks(self, benchmark: Benchmark) -> TrialProcess:
        """Start the ranks of a benchmark whose trials need them, in this actor's placement group."""
        return open_ranks(benchmark, *self._share)

    def _ready(self) -> TrialProcess:
        """Return the ranks, with the current trial begun."""
        if self._process is None:
            self._process = self._study.benchmark.trial_process(self.open_ranks)
            self._tokens, self._precision = self._process.token_statistics(), self._process.precision()
        if not self._started:
            self._training, self._units = training_of(self._study, self._config), 0
            self._process.start(self._training.config, self._training.seed)
            self._started = True
            self._mark("startup")
        return self._process

    def _catch_up(self, process: TrialProcess) -> None:
        """Train again the units that were reported before the interruption and that no checkpoint has kept."""
        while self._units < self._reported.get(self.trial_id, 0):
            self._follow_schedule(process)
            self._units = int(process.run_unit()["units"])

    def _follow_schedule(self, process: TrialProcess) -> None:
        """Continue with a schedule's next configuration, through a checkpoint, as a member of a population does."""
        due = dict(self._training.schedule[1:]).get(self._units)
        if due is None:
            return
        folder = checkpoints.new_folder(self._home, self.trial_id)
        process.save(folder, to_disk=False)
        process.start(due, self._training.seed)
        process.load(folder)
        shutil.rmtree(folder)
        self._mark("checkpoint")

    def _mark(self, part: str) -> None:
        """Book the time since the last mark."""
        now = time.monotonic()
        self._seconds[part] += now - self._last_mark
        self._last_mark = now
