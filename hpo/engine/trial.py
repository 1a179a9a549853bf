"""The class Trainable around a benchmark's trial: one `step` is one resource unit and its evaluation.

With `reuse_actors=True` Tune calls `reset_config` instead of making a new actor, and the ranks inside go on
with imports, data and base weights in place. Each result carries the seconds since the last one by part, the
waiting for Tune's next call included, and each checkpoint those of its writing, so that the parts of an actor's life
add up to its length; an actor may end after a checkpoint, without another result. An actor's first
result also has statistics of the data, which only the ranks know: they read and tokenise them.

A unit that runs out of memory is trained again from where the trial began, with smaller micro-batches and the same
effective batch, unless the benchmark says otherwise. The lost time is booked as failed. Later trials of the actor begin
with micro-batches that are not known to run out.

A checkpoint may be lost, since its node died before it reached the disk. Its trial is then trained again from the
beginning, by the schedule that the checkpoint's folder names: its own, and those of the members that it has taken over.
That time is booked as failed too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.actor import ActorHandle

from benchmarks.clock import Clock
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.out_of_memory import IN_EVALUATION, Demand, demand_of, rescued, sign_of, with_micro_batch
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.record_scores import pack
from benchmarks.tasks.task import TokenStatistics
from benchmarks.training.checkpoint.keeper import LostCheckpointError
from benchmarks.training.ranks import open_ranks
from benchmarks.trials.trial import TrialProcess
from hpo.core import ownership
from hpo.core.ledger import FAILED, PARTS
from hpo.core.results import MICRO_BATCH, PRECISION, RECORDS, TOKENS, TRAINED_AGAIN
from hpo.core.study import Schedule, Study, is_diverged, objective, training_of
from hpo.engine import checkpoints
from hpo.engine.best_unit import BestUnit

UNITS = "units"
"""File of a checkpoint with the units that its trial had trained."""
BEST = "best_unit.json"
"""File of a checkpoint with the trial's best unit so far; see `hpo.engine.best_unit`."""
FITTING = "micro_batch"
"""File of a checkpoint with the micro-batch that its trial was rescued with; absent if it needed no rescue."""


class TrialActor(tune.Trainable):
    """An actor that runs one trial after another on the same warm ranks."""

    _process: TrialProcess | None = None
    _tokens: Sequence[TokenStatistics] = ()
    _precision = ""
    _started = False
    _units = 0
    _origin: Path | None = None
    _history: Schedule = ()
    _again: Schedule = ()
    _lost_units = 0
    _best: BestUnit | None = None

    def setup(
        self,
        config: Config,
        study: Study,
        cpus_per_rank: float,
        gpus_per_rank: float,
        pool: ActorHandle | None,
        reported: Mapping[str, int],
        home: Path,
        clock: Clock,
    ) -> None:
        """Note the arguments; the ranks start with the first step, since Tune waits for this before its next actor."""
        self._study, self._config, self._reported, self._home = study, config, reported, home
        self._share = (cpus_per_rank, gpus_per_rank, pool)
        self._too_large: list[Demand] = []
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._clock, self._last_mark = clock, clock.now()

    def reset_config(self, new_config: Config) -> bool:
        """Prepare the next trial on the same ranks."""
        self._config, self._started, self._units, self._origin = new_config, False, 0, None
        self._history, self._again, self._lost_units, self._best = (), (), 0, None
        return True

    def step(self) -> dict[str, Any]:
        """Train and evaluate one unit."""
        self._mark("idle")
        process, metrics = self._run_unit()
        evaluate_seconds = metrics.pop("evaluate_seconds")
        del metrics["train_seconds"]  # the rest of the call is training, the mailbox to the ranks included
        self._mark("train")
        self._seconds["train"] -= evaluate_seconds
        self._seconds["evaluate"] += evaluate_seconds
        self._units = int(metrics["units"])
        diverged = is_diverged(self._study.benchmark, metrics)
        value = self._objective(process, metrics)
        each: dict[str, list[float]] = {}
        if self._study.kind == "confirmation" and self._units == self._study.max_units and not diverged:
            if self._best is not None:
                self._best.return_to(process)
            test, each = process.evaluate_each("test")
            if self._best is not None:
                self._best.drop()
            metrics |= {f"test_{name}": score for name, score in test.items()}
            self._mark("evaluate")
        result: dict[str, Any] = {
            **metrics,
            "objective": value,
            "diverged": diverged,
            TOKENS: self._tokens,
            PRECISION: self._precision,
            **({TRAINED_AGAIN: self._lost_units} if self._lost_units else {}),
            **({RECORDS: {name: pack(values) for name, values in each.items()}} if each else {}),
            **({MICRO_BATCH: self._used.batch_size_per_device} if self._is_rescued else {}),
            **{f"{part}_seconds": seconds for part, seconds in self._seconds.items()},
        }
        self._seconds, self._tokens, self._lost_units = dict.fromkeys(PARTS, 0.0), (), 0
        return result

    def _objective(self, process: TrialProcess, metrics: Mapping[str, float]) -> float:
        """Return the result in the searcher's terms: the unit's, or the best unit's where the benchmark says so."""
        own = objective(self._study.benchmark, metrics)
        if not self._study.benchmark.selects_best:
            return own
        self._best = self._best or self._new_best()
        self._best.see(process, metrics)
        self._mark("checkpoint")
        return own if is_diverged(self._study.benchmark, metrics) or self._best.value is None else self._best.value

    def _new_best(self, **known: Any) -> BestUnit:
        """Make the record of the best unit; a confirmation keeps its weights, since it is scored on test."""
        is_scored = self._study.kind == "confirmation"
        place = partial(checkpoints.new_folder, self._home, self.trial_id) if is_scored else None
        return BestUnit(self._study.benchmark, place, **known)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint; called by Tune when a scheduler pauses or clones."""
        self._mark("idle")
        process, folder = self._ready(), checkpoints.new_folder(self._home, self.trial_id)
        process.save(folder)
        (folder / UNITS).write_text(str(self._units))
        checkpoints.write_schedule(folder, self._history or self._training.schedule)
        if self._best is not None:
            (folder / BEST).write_text(self._best.to_json())
        if self._is_rescued:
            (folder / FITTING).write_text(str(self._used.batch_size_per_device))
        checkpoints.point_to(folder, Path(checkpoint_dir))
        for written in (folder, Path(checkpoint_dir)):
            ownership.mark(written, self._home)
        checkpoints.write_seconds(Path(checkpoint_dir), self._since_last_mark())

    def restore(self, checkpoint_path: Any) -> None:
        """Check a checkpoint before a paused or cloned trial continues: Tune unpickles some of its files itself."""
        ownership.require_mark(Path(checkpoint_path.checkpoint.path), self._home)
        super().restore(checkpoint_path)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read a checkpoint; `restore` leads here."""
        self._mark("idle")
        folder = checkpoints.folder_of(Path(checkpoint), self._home)
        ownership.require_mark(folder, self._home)
        self._learn_from(folder)
        own, units = training_of(self._study, self._config).schedule, _units_of(folder)
        self._history = checkpoints.schedule_of(folder, own, units)
        self._ready(units)
        try:
            self._load(folder)
            self._origin = folder
            if (folder / BEST).exists():
                self._best = self._new_best(**json.loads((folder / BEST).read_text()))
        except LostCheckpointError:
            self._started, self._again, self._lost_units = False, self._history, units
        self._mark("checkpoint")

    def cleanup(self) -> None:
        """Leave the ranks warm for the next study."""
        if self._process is not None:
            self._process.close()

    def open_ranks(self, benchmark: Benchmark) -> TrialProcess:
        """Start the ranks of a benchmark whose trials need them, in this actor's placement group."""
        return open_ranks(benchmark, *self._share)

    # ---- the trial's process

    def _ready(self, units: int = 0) -> TrialProcess:
        """Return the ranks, with the current trial begun; with the configuration of a checkpoint of so many units."""
        if self._process is None:
            self._process = self._study.benchmark.trial_process(self.open_ranks, self._clock)
            self._tokens, self._precision = self._process.token_statistics(), self._process.precision()
        if not self._started:
            training = training_of(self._study, self._config)
            self._training = replace(training, schedule=tuple(self._again) or training.schedule)
            self._units = 0
            self._start(self._process, self._training.config_at(units))
            self._started = True
            self._mark("startup")
        return self._process

    def _start(self, process: TrialProcess, config: Config) -> None:
        """Begin with a configuration, or continue with it, with a micro-batch that is not known to run out."""
        self._given = self._study.benchmark.hyperparameters(config)
        self._used = self._fitting(self._given)
        process.start(with_micro_batch(config, self._used) if self._is_rescued else config, self._training.seed)

    def _load(self, folder: Path) -> None:
        assert self._process is not None
        self._process.load(folder)
        self._units = _units_of(folder)

    def _catch_up(self, process: TrialProcess, units: int) -> None:
        """Train again the units that were reported and that no checkpoint has kept."""
        while self._units < units:
            self._follow_schedule(process)
            metrics = process.run_unit()
            self._units = int(metrics["units"])
            self._objective(process, metrics)  # an actor that takes over knows of no earlier unit

    def _follow_schedule(self, process: TrialProcess) -> None:
        """Continue with a schedule's next configuration, through a checkpoint, as a member of a population does."""
        due = dict(self._training.schedule[1:]).get(self._units)
        if due is None:
            return
        folder = checkpoints.new_folder(self._home, self.trial_id)
        process.save(folder, to_disk=False)
        self._start(process, due)
        process.load(folder)
        shutil.rmtree(folder)
        self._mark("checkpoint")

    # ---- rescue

    @property
    def _is_rescued(self) -> bool:
        return self._used != self._given

    def _run_unit(self) -> tuple[TrialProcess, dict[str, float]]:
        """Train the next unit, with ever smaller micro-batches if it runs out of memory; return the ranks too."""
        reported = max(self._units, self._reported.get(self.trial_id, 0), self._lost_units)
        has_failed = self._lost_units > 0
        while True:
            process = self._ready()
            try:
                self._catch_up(process, reported)
                if has_failed:
                    self._mark(FAILED)
                self._follow_schedule(process)
                return process, process.run_unit()
            except Exception as error:
                if not self._can_be_rescued(error):
                    raise
            has_failed = True
            self._mark(FAILED)
            self._begin_again(process)

    def _can_be_rescued(self, error: Exception) -> bool:
        """Tell whether a smaller micro-batch may help."""
        sign = sign_of(error)
        is_there = self._origin is None or self._origin.exists()
        is_possible = self._study.benchmark.rescue and is_there and rescued(self._used) is not None
        return bool(sign) and IN_EVALUATION not in sign and is_possible

    def _begin_again(self, process: TrialProcess) -> None:
        """Go back to where the trial began or was loaded, on ranks that are sound."""
        self._too_large.append(demand_of(self._used))
        process.close()  # ranks that have died are replaced by the next ones, the others come back
        self._process, self._started = None, False
        self._ready(_units_of(self._origin) if self._origin else 0)
        if self._origin is not None:
            self._load(self._origin)
        self._mark(FAILED)

    def _fitting(self, hp: Hyperparameters) -> Hyperparameters:
        """Make the micro-batch smaller until it is not known to run out."""
        while any(demand_of(hp).covers(known) for known in self._too_large):
            less = rescued(hp)
            if less is None:
                break
            hp = less
        return hp

    def _learn_from(self, folder: Path) -> None:
        """Take over from a checkpoint that a trial was rescued: larger micro-batches than its own run out."""
        if (folder / FITTING).exists():
            config = training_of(self._study, self._config).config
            known = demand_of(self._study.benchmark.hyperparameters(config))
            self._too_large.append(replace(known, micro_batch=int((folder / FITTING).read_text()) + 1))

    def _mark(self, part: str) -> None:
        """Book the time since the last mark."""
        self._seconds[part] += self._since_last_mark()

    def _since_last_mark(self) -> float:
        """Return the seconds since the last mark, and mark."""
        before, self._last_mark = self._last_mark, self._clock.now()
        return self._last_mark - before


def _units_of(folder: Path) -> int:
    """Read the units that a checkpoint has been trained for."""
    return int((folder / UNITS).read_text())
