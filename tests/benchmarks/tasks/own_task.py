"""The task of `yes_or_no` where the suite finds it: one more file in `benchmarks/tasks`, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec, tasks
from benchmarks.spec import Benchmark
from tests.studies import REPOSITORY

NAME = "yes_or_no"
SOURCE = Path(__file__).parent / f"{NAME}.py"


@contextmanager
def added(folder: Path) -> Iterator[None]:
    """Add the task in this process: the package of tasks has a second folder meanwhile."""
    shutil.copy(SOURCE, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
        yield
    sys.modules.pop(f"{tasks.__name__}.{NAME}", None)
    tasks.get.cache_clear()


def tree_with_task(folder: Path) -> Path:
    """Link the project's packages into a folder, with the task's file in `benchmarks/tasks`; for other processes."""
    for name in ("hpo", "slurm"):
        (folder / name).symlink_to(REPOSITORY / name)
    for package in ("benchmarks", "benchmarks/tasks"):
        (folder / package).mkdir()
        for path in (REPOSITORY / package).iterdir():
            if path.name not in ("tasks", "__pycache__"):
                (folder / package / path.name).symlink_to(path)
    shutil.copy(SOURCE, folder / "benchmarks/tasks")
    return folder


def content(folder: Path, number: int = 48, **changes: Any) -> dict[str, Any]:
    """Write data of the task, and return a benchmark on nano's model with it, ranked by accuracy."""
    nano = spec.load("nano").model_dump(mode="json", exclude_none=True)
    for seed, split in enumerate(("train", "validation", "test")):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in _lines(seed, number)))
        nano["finetune"]["data"][split] = {"file": str(path)}
    nano["finetune"] |= {"task": NAME, "max_length": 48, "max_answer_tokens": 4}
    nano |= {"name": "own", "metric": "accuracy", "mode": "max", "grid": {}}
    return {**nano, "resource": {"unit_samples": 48, "max_units": 2}, **changes}


def benchmark(folder: Path, **changes: Any) -> Benchmark:
    """Return the benchmark of `content`, while the task is added."""
    return Benchmark.model_validate(content(folder, **changes))


def _lines(seed: int, number: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    found = []
    for place in range(seed * number, (seed + 1) * number):  # no text is in two splits
        is_raining, town = draw.random() < 0.5, draw.choice(("Delft", "Ghent", "Turin"))
        sky = "rain" if is_raining else "sun"
        found.append({"text": f"{sky} in {town} {place}", "label": "yes" if is_raining else "no"})
    return found
