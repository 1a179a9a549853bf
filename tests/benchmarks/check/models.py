"""Folders of models as people have them: nano's, with one thing wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.space import Space
from benchmarks.spec import HERE, Benchmark, FineTune, load

NANO_MODEL = HERE / "assets/nano/model"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1808800\n"


def model_folder(folder: Path, without: str = "", **config: Any) -> Path:
    """Copy nano's model, one of its files left out, with other values in its configuration."""
    copy = Path(shutil.copytree(NANO_MODEL, folder / "model"))
    if without:
        (copy / without).unlink()
    if config:
        content = json.loads((NANO_MODEL / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**content, **config}))
    return copy


def nano_with(space: dict[str, Any] | None = None, **changes: Any) -> Benchmark:
    """Return `nano` with other values in its `finetune` block, and perhaps with more domains."""
    nano = load("nano")
    finetune = FineTune.model_validate({**nano.training_settings().model_dump(), **changes})
    domains = {**nano.space, **TypeAdapter(Space).validate_python(space or {})}
    return nano.model_copy(update={"finetune": finetune, "space": domains})
