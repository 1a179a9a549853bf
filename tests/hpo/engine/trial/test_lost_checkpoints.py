"""Checkpoints that are lost with the node that had them in memory: their trials are trained again, to the same end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.space import Choice
from benchmarks.training.checkpoint.keeper import LostCheckpointError
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.core.study import Study
from hpo.engine.in_process import InProcess, Unstored
from hpo.engine.runner import Finished, execute
from hpo.engine.trial import TrialActor
from hpo.search import registry
from tests.hpo.engine.in_process import run, synthetic

pytestmark = pytest.mark.slow
METHODS = ("hyperband", "bohb", "pbt", "pb2")
"""Methods whose trials pause or take over others."""


def study_of(method: str, rescue_from: float | None = None, **given: Any) -> Study:
    benchmark = synthetic()
    assert benchmark.synthetic is not None
    if rescue_from is not None:
        settings = benchmark.synthetic.model_copy(update={"memory_limit": rescue_from})
        sizes = Choice(type="choice", values=(4, 8, 16, 32))
        changes = {"synthetic": settings, "space": {**benchmark.space, "batch_size_per_device": sizes}}
        benchmark = benchmark.model_copy(update=changes)
    return registry.get(method).study(benchmark, 1, 8, None, given)


def lose(monkeypatch: pytest.MonkeyPatch, every: int) -> list[str]:
    """Let every so many trials that continue from a checkpoint find that its node has died; returns the lost ones."""
    load, continue_from, continued, lost = SyntheticTrial.load, TrialActor.load_checkpoint, [0], ["none yet"]

    def count(actor: TrialActor, checkpoint: str) -> None:
        continued[0] += 1
        if continued[0] % every == 0:
            lost.append("")
        continue_from(actor, checkpoint)

    def load_or_lose(trial: SyntheticTrial, folder: Path) -> None:
        if not lost[-1]:
            lost[-1] = folder.name
            raise LostCheckpointError(f"checkpoint {folder}: lost")
        load(trial, folder)

    monkeypatch.setattr(TrialActor, "load_checkpoint", count)
    monkeypatch.setattr(SyntheticTrial, "load", load_or_lose)
    return lost


def told(finished: Finished) -> list[tuple[Any, ...]]:
    rows = finished.books.rows
    return [(row.schedule, row.outcome, row.units, row.trained_units, row.objective, row.micro_batch) for row in rows]


@pytest.mark.parametrize("rescue_from", [None, 8.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_study_that_loses_some_equals_one_that_loses_none(
    method: str, rescue_from: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of a population are trained again by the schedule of those that they have taken over."""
    study = study_of(method, rescue_from)
    whole = run(study, InProcess(1))
    lost = lose(monkeypatch, every=3)
    found = run(study, InProcess(1))
    assert len(lost) > 1
    assert told(found) == told(whole)
    assert not any(row.failures for row in found.books.rows)  # it is no failed attempt
    assert found.shares.seconds["failed"] > 0


def test_the_screen_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lose(monkeypatch, every=2)
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    study = study_of("hyperband")
    execute(study, "python -m hpo", Console(file=out, width=160), InProcess(1), open_tracker=Unstored)
    assert "lost its checkpoint with a node: 1 units trained again" in out.getvalue()
