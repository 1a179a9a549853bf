"""Stored studies and confirmations of synthetic, made by hand."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import spec
from benchmarks.space import Config
from hpo.analysis.compare import Result
from hpo.analysis.records import Records
from hpo.analysis.standings import Standing
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import fresh_seeds, schedule_digest

BY_LOSS = spec.load("synthetic")
BENCHMARK = BY_LOSS.model_copy(update={"metric": "f1", "mode": "max"})
"""Tuned by F1, by which methods are then compared."""
PARTS = {"startup": 0.1, "train": 0.5, "evaluate": 0.2, "checkpoint": 0.0, "idle": 0.2, "failed": 0.0}


def config_of(method: str, seed: int) -> Config:
    """A configuration no other study came to."""
    return {
        "learning_rate": 1e-4 * (1 + seed) + 1e-7 * sum(map(ord, method)),
        "batch_size_per_device": 8,
        "weight_decay": 0.0,
    }


def study(method: str, seed: int = 0, budget: int = 12, loss: float = 1.0, **changes: Any) -> StudyRecord:
    """A finished study of two device-hours, the incumbent of which had this loss."""
    metrics = {
        "device_hours": 2.0,
        "gpu_hours": 0.0,
        "wall_seconds": 3600.0,
        "units": 108.0,
        "best_eval_loss": loss,
        "best_f1": 1 / (1 + loss),
    }
    metrics |= {f"device_hours_{part}": 2.0 * share for part, share in PARTS.items()}
    best = {"config": config_of(method, seed), "metrics": {"eval_loss": loss, "f1": 1 / (1 + loss)}, "units": 9}
    files = {"best_config.json": json.dumps(best), "trials.csv": "trial,outcome\n0,completed\n1,stopped\n2,completed\n"}
    given: dict[str, Any] = {"variant": "", "tags": {"hpo.accelerator": "cpu"}, "started": seed, **changes}
    run_id = given.pop("run_id", f"{method}{seed}{budget}")
    metrics |= given.pop("metrics", {})
    files |= given.pop("files", {})
    return StudyRecord(run_id, method, seed=seed, budget=budget, metrics=metrics, files=files, **given)


def trained(schedule: list[tuple[int, Config]], block: int, *scores: float | None) -> list[Confirmation]:
    """A configuration's fresh trainings, one a score: its F1 on test; None for one that diverged."""
    digest = schedule_digest(BENCHMARK, schedule)
    return [
        Confirmation(digest, seed, score is None, {} if score is None else scored(score), 10.0)
        for seed, score in zip(fresh_seeds(block, len(scores)), scores, strict=True)
    ]


def scored(f1: float) -> dict[str, float]:
    test = {"test_f1": f1, "test_exact_match": f1 - 0.1, "test_eval_loss": 2 - f1}
    return {**test, "f1": f1 + 0.01, "exact_match": f1, "eval_loss": 1 - f1}


def confirmed(record: StudyRecord, *scores: float | None) -> list[Confirmation]:
    assert record.schedule is not None
    return trained(record.schedule, record.seed, *scores)


def records(studies: list[StudyRecord], trainings: list[Confirmation] | None = None, **changes: Any) -> Records:
    given = {"confirmation_hours": 0.5, "left_out": [], **changes}
    return Records(given.pop("benchmark", BENCHMARK), "digest", studies, trainings or [], **given)


def standing(result: Result, name: str) -> Standing:
    [found] = [one for one in result.standings if one.name == name]
    return found
