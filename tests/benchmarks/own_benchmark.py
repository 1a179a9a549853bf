"""A small benchmark file of the tests, written with values changed or removed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.spec import Benchmark, load

REMOVED = object()
LEARNING_RATE = {"type": "loguniform", "low": 1.0e-5, "high": 1.0e-2}
BATCH_SIZE = {"type": "choice", "values": [8, 16]}
BASE: dict[str, Any] = {
    "name": "own",
    "description": "A benchmark of the tests.",
    "resource": {"unit_samples": 100, "max_units": 9},
    "default": {"learning_rate": 1.0e-4},
    "space": {"learning_rate": LEARNING_RATE, "batch_size_per_device": BATCH_SIZE},
    "grid": {"learning_rate": [1.0e-4, 1.0e-3], "batch_size_per_device": [8, 16]},
    "finetune": {
        "model": "owner/model",
        "data": {split: {"file": f"{split}.json"} for split in ("train", "validation", "test")},
    },
}
HYPERPARAMETERS = (
    "learning_rate, batch_size_per_device, gradient_accumulation_steps, weight_decay, warmup_ratio, "
    "lr_scheduler, max_grad_norm, adam_beta1, adam_beta2, adam_epsilon"
)


def write(folder: Path, changes: Mapping[str, Any]) -> Path:
    """Write a benchmark file: `BASE` with the values at dotted keys replaced or removed."""
    content = copy.deepcopy(BASE)
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[key] = value
        if value is REMOVED:
            del section[key]
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def load_with(folder: Path, changes: Mapping[str, Any]) -> Benchmark:
    return load(str(write(folder, changes)))


def write_text(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path
