"""Make a bank of trainings of another program: CSV in the format of docs/import.md, or opda's JSON lines.

One line of opda's files (github nicholaslourie/opda, `data/deberta`; Lourie, Cho and He 2023,
https://arxiv.org/abs/2311.09480), shortened::

    {"iteration": 1, "learning_rate": 6.7e-06, "warmup_steps": 105, "total_model_steps": 7012, "learning_curves":
     {"matched": [[1000, 0.8495], [7012, 0.8741]], "mismatched": [[1000, 0.8449], [7012, 0.8723]]}}

Its trainings have different numbers of steps, so a unit is a share of a training's own steps, and has the last score
that was measured by then. The set that chooses, `matched`, is validation; the other is test. It has no seconds and no
seeds.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PositiveInt, ValidationError

from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankOutcome, BankSession, BankTraining, BankUnit
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError, read_text
from benchmarks.out_of_memory import sign_in
from benchmarks.space import Config, Strict
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TRAIN_LOSS
from hpo.recording.files import header_of
from hpo.workflows import importing
from hpo.workflows.import_events import ExternalTrial

ACCURACY = "accuracy"
ITERATION, CURVES = "iteration", "learning_curves"
Curve = Annotated[tuple[tuple[PositiveInt, float], ...], Field(min_length=1)]


# ---- CSV


def of_csv(path: Path, benchmark: Benchmark, seed: int, accelerator: str) -> Bank:
    """Return the trainings of a CSV file.

    Trials whose hyperparameters change on the way are left out.

    Args:
        path: the file.
        benchmark: the benchmark that was trained.
        seed: of all trainings.
        accelerator: name of the devices.

    Raises:
        BenchmarkError: the file cannot be used, or has no trial of one configuration.
    """
    content = importing.read(path, benchmark)
    session = BankSession(
        key=f"import {content.checksum[:16]}", accelerator=accelerator, origin=f"imported from {content.name}"
    )
    single = [trial for trial in content.trials.values() if len(trial.schedule) == 1]
    if not single:
        raise BenchmarkError(f"{path}: every trial changes its hyperparameters on the way, so a bank can hold none")
    trainings = {one.identity: one for trial in single for one in [_of_trial(trial, benchmark, seed, session.key)]}
    if len(trainings) < len(single):
        raise BenchmarkError(
            f"{path}: {len(single) - len(trainings)} trials repeat a configuration; give each seed a file of its own"
        )
    header = header_of(benchmark).model_copy(update={"sessions": (session,)})
    return Bank(header, tuple(trainings.values()))


def _of_trial(trial: ExternalTrial, benchmark: Benchmark, seed: int, session: str) -> BankTraining:
    names = [metric.name for metric in benchmark.metrics]
    outcome: Any = trial.outcome
    units = [
        BankUnit(
            unit=row.unit,
            metrics={name: row.metrics[name] for name in names if name in row.metrics},
            train_loss=row.metrics.get(TRAIN_LOSS),
            peak_memory_mb=row.peak_memory_mb,
            train_seconds=row.seconds,
        )
        for row in trial.rows
        if trial.reports(row)
    ]
    return BankTraining(
        source="import",
        config=benchmark.hyperparameters(trial.rows[0].config).model_dump(),
        seed=seed,
        session=session,
        outcome="out_of_memory" if outcome == "failed" and sign_in(trial.reason) else outcome,
        reason=trial.reason,
        units=tuple(units),
    )


# ---- opda


class OpdaCurves(Strict):
    """Learning curves of a line: pairs of step and accuracy, by evaluation set."""

    matched: Curve
    mismatched: Curve


class OpdaLine(Strict):
    """A line of opda's files; every other key is a hyperparameter."""

    model_config = ConfigDict(extra="allow")

    iteration: int
    total_model_steps: PositiveInt
    learning_curves: OpdaCurves

    @property
    def config(self) -> Config:
        """Its hyperparameters, the number of steps among them, by which trainings differ in cost."""
        return {"total_model_steps": self.total_model_steps, **(self.model_extra or {})}


def of_opda(path: Path, max_units: int, licence: str) -> Bank:
    """Return the trainings of a file of opda's.

    Args:
        path: the file, a JSON object per line.
        max_units: units of a training, at least 1; each is an equal share of its steps.
        licence: of the file.

    Raises:
        BenchmarkError: a line cannot be used; names file and line.
    """
    if max_units < 1:
        raise BenchmarkError(f"units is {max_units}, but must be >= 1")
    text = read_text(path)
    lines = [_line(path, number, row) for number, row in enumerate(text.splitlines(), start=1) if row.strip()]
    if not lines:
        raise BenchmarkError(f"{path}: has no line, but needs a JSON object per training")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    session = BankSession(
        key=f"import {checksum[:16]}",
        accelerator="",
        origin=f"imported from {path.name}; a unit is 1/{max_units} of a training's steps, with its last score",
    )
    names = tuple(lines[0].config)
    trainings: dict[Any, BankTraining] = {}
    for number, line in enumerate(lines, start=1):
        if set(line.config) != set(names):
            odd = ", ".join(sorted(set(line.config) ^ set(names)))
            raise BenchmarkError(f"{path}, line {number}: has other hyperparameters than line 1 ({odd})")
        training = _of_line(path, number, line, max_units, session.key)
        trainings[training.identity] = training
    header = Header(
        name=path.name.partition(".")[0],
        description="Fine-tunings of another program, imported.",
        licence=licence,
        max_units=max_units,
        metric=ACCURACY,
        hyperparameters=names,
        metrics=(ACCURACY,),
        modes=("max",),
        sessions=(session,),
    )
    return Bank(header, tuple(trainings.values()))


def _line(path: Path, number: int, text: str) -> OpdaLine:
    try:
        return OpdaLine.model_validate(json.loads(text))
    except ValidationError as error:
        raise BenchmarkError(f"{path}, line {number}: {explained(error, OpdaLine)}") from None
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path}, line {number}: not valid JSON ({error})") from None


def _of_line(path: Path, number: int, line: OpdaLine, max_units: int, session: str) -> BankTraining:
    outcome: BankOutcome = "completed"
    curves = line.learning_curves
    for name, curve in (("matched", curves.matched), ("mismatched", curves.mismatched)):
        steps = [step for step, _ in curve]
        if steps != sorted(set(steps)) or steps[-1] != line.total_model_steps:
            raise BenchmarkError(
                f"{path}, line {number}: the steps of {name} must rise and end at total_model_steps, "
                f"{line.total_model_steps}"
            )
    try:
        return BankTraining(
            source="import",
            config=line.config,
            seed=0,
            session=session,
            outcome=outcome,
            units=tuple(
                BankUnit(unit=unit, metrics={ACCURACY: _measured_by(curves.matched, unit, max_units)})
                for unit in range(1, max_units + 1)
            ),
            test={ACCURACY: curves.mismatched[-1][1]},
        )
    except ValidationError as error:
        raise BenchmarkError(f"{path}, line {number}: {explained(error, BankTraining)}") from None


def _measured_by(curve: Sequence[tuple[int, float]], unit: int, max_units: int) -> float:
    """Return the last value that was measured by the end of a unit; before the first evaluation, its value.

    A straight line between two evaluations would average their noise, so that early looks seemed surer than they are.
    """
    steps, values = zip(*curve, strict=True)
    by_then = bisect_right(steps, unit * steps[-1] // max_units)
    return float(values[max(0, by_then - 1)])
