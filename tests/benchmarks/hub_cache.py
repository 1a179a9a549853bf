"""A model in the cache of the hub, read without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def tokens_of_sample(model: Path, cache: Path, special: bool) -> list[int]:
    """Put a model's folder into a cache, and tokenise a sample by it.

    The cache's place is read at import, so this takes a process of its own.

    Args:
        model: the folder.
        cache: the place of the cache.
        special: add the tokenizer's special tokens.
    """
    repository = cache / "models--some--model"
    shutil.copytree(model, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    script = (
        "from benchmarks.training.model.models import SAMPLE, load_tokenizer\n"
        f"print(load_tokenizer('some/model')(SAMPLE, add_special_tokens={special})['input_ids'])"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[int] = json.loads(done.stdout)
    return found
