"""Studies and confirmations in a store, as exports find them, and the files that an export leaves."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.core.results import PRECISION
from hpo.core.study import CONFIRMS, SCHEDULE, TRAINING_SEED, Schedule, Study, fresh_seeds
from hpo.report.model_card import CARD_FILE
from hpo.store.tracker import Tracker
from hpo.workflows import export
from tests.hpo.told import Told

GOOD: Config = {"learning_rate": 0.0012345678901234567, "batch_size_per_device": 8, "weight_decay": 0.01}
OTHER: Config = {"learning_rate": 2e-05, "batch_size_per_device": 16, "weight_decay": 0.0}


def named(benchmark: Benchmark, request: pytest.FixtureRequest) -> Benchmark:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", request.node.name)[-99:].lstrip("-_.")
    return benchmark.model_copy(update={"name": name})


def store(
    study: Study,
    *trials: tuple[dict[str, Any], dict[str, float]],
    accelerator: str = "cpu",
    precision: str = "",
) -> None:
    """Store a finished study as the driver does: trials by proposal and metrics, NaN losses for a diverged one."""
    told = Told(study, Tracker(study, accelerator, "python -m hpo run"))
    for number, (proposal, metrics) in enumerate(trials):
        name = str(number)
        told.begin(name, proposal)
        diverged = not math.isfinite(metrics["eval_loss"])
        result = {"units": study.max_units, "objective": metrics["eval_loss"], "diverged": diverged, **metrics}
        result[PRECISION] = precision
        told.report(name, result, device_seconds=36.0)
        told.end(name)
    told.finish(at=3600.0)


def scores(eval_loss: float, f1: float = 0.5, **test: float) -> dict[str, float]:
    return {"eval_loss": eval_loss, "train_loss": eval_loss, "exact_match": f1 - 0.1, "f1": f1, **test}


def store_study(
    benchmark: Benchmark,
    method: str,
    seed: int = 0,
    config: Config = GOOD,
    eval_loss: float = 0.5,
    variant: str = "",
    schedule: Schedule = (),
    **settings: Any,
) -> None:
    proposal: dict[str, Any] = {SCHEDULE: schedule} if schedule else dict(config)
    store(Study(method, benchmark, seed, budget=3, variant=variant), (proposal, scores(eval_loss)), **settings)


def confirm(benchmark: Benchmark, block: int, f1: float, schedule: Schedule = ((0, GOOD),), repeats: int = 2) -> None:
    """Store confirmations of a configuration with a block's fresh seeds; NaN F1 for those that diverge."""
    trained = scores(0.5, 0.5, test_eval_loss=1 - f1, test_exact_match=f1 - 0.1, test_f1=f1)
    metrics = trained if math.isfinite(f1) else scores(math.nan)
    proposals = [
        {CONFIRMS: {TRAINING_SEED: seed, SCHEDULE: [[units, config] for units, config in schedule]}}
        for seed in fresh_seeds(block, repeats)
    ]
    store(Study("confirm", benchmark, budget=repeats, kind="confirmation"), *((p, metrics) for p in proposals))


def is_study(run: Run, seed: str) -> bool:
    return run.data.tags["hpo.kind"] == "study" and run.data.tags["hpo.seed"] == seed


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def card_of(exported: export.Exported) -> str:
    return (exported.folder / CARD_FILE).read_text()
