"""Tasks made by hand: confirmed F1 of a few methods, on benchmarks that differ in name alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpo.analysis.across.task_scores import TaskScores, task_of
from hpo.analysis.studies import Confirmation, StudyRecord
from tests.hpo.analysis.stored import BENCHMARK, confirmed, records, study

EFFECTS = {"asha": 0.06, "bohb": 0.02, "hyperopt": 0.0, "random": 0.0}
"""Mean F1 of each method above that of random search."""


def task(
    name: str,
    scores: Mapping[str, Sequence[float | None]],
    budget: int = 12,
    tags: Mapping[str, str] | None = None,
    digest: str = "",
    **changes: Any,
) -> TaskScores:
    """A task with these F1 of each method by seed; None for a study that is not confirmed."""
    studies: list[StudyRecord] = []
    trainings: list[Confirmation] = []
    known = {"hpo.accelerator": "cpu", "hpo.protocol": "2", **(tags or {})}
    for method, found in scores.items():
        for seed, score in enumerate(found):
            one = study(method, seed, budget=budget, tags=known)
            studies.append(one)
            trainings += [] if score is None else confirmed(one, score)
    content = BENCHMARK.model_copy(update={"name": name})
    stored = records(studies, trainings, benchmark=content, **changes)
    return task_of(replace(stored, digest=digest or f"digest of {name}"))


def drawn(
    number: int, seeds: int = 6, spread: float = 0.01, seed: int = 0, effects: Mapping[str, float] = EFFECTS
) -> list[TaskScores]:
    """Tasks whose methods differ by these effects, with a level of their own and normal noise."""
    rng = np.random.default_rng(seed)
    levels = [0.6 + 0.02 * which for which in range(number)]
    return [
        task(
            f"task{which}",
            {name: rng.normal(level + effect, spread, size=seeds).tolist() for name, effect in effects.items()},
        )
        for which, level in enumerate(levels)
    ]
