"""What makes two studies' trials the same experiment: model, data, resource and metric, not where they lie."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.spec import SPLITS, Benchmark, FineTune

NOT_TRAINED: dict[str, Any] = {"description": True, "space": True, "grid": True}
NOT_TRAINED |= {"resource": {"checkpoint_seconds"}, "finetune": {"timeout_seconds"}}
"""What no result depends on."""
DIGEST_LENGTH = 16


def digest(benchmark: Benchmark) -> str:
    """A checksum of all that a trial's result depends on beyond its configuration and seed.

    The search space is left out: a trial means the same whatever space proposed it. Files count by content, a local
    model by its weights, so that two checkouts of one benchmark agree.
    """
    content = benchmark.model_dump(mode="json", exclude=NOT_TRAINED)
    if benchmark.finetune is not None:
        content["finetune"] |= {"model": _model(benchmark.finetune), "data": _data(benchmark.finetune)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def _model(finetune: FineTune) -> list[str]:
    """A hub name as it is; of a local folder the checksums of its weights."""
    files = sorted(Path(finetune.model).glob("*.safetensors"))
    return [_checksum(path) for path in files] if files else [finetune.model]


def _data(finetune: FineTune) -> dict[str, Any]:
    splits = {}
    for name in SPLITS:
        split = getattr(finetune.data, name)
        splits[name] = split.model_dump(mode="json")
        if split.file is not None:
            splits[name]["file"] = _checksum(split.file)
    return splits


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
