"""Settings of `trainer_reference.py`, the plain Trainer script that sessions are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.spec import Benchmark


def trainer_settings(benchmark: Benchmark, folder: Path, total_steps: int, **arguments: Any) -> dict[str, Any]:
    """Return settings under which the script trains as a session does with seed 3.

    Args:
        benchmark: the session's.
        folder: gets the script's output.
        total_steps: steps of the training.
        arguments: of `TrainingArguments`.
    """
    assert benchmark.finetune is not None
    return {
        "model": benchmark.finetune.model,
        "file": str(benchmark.finetune.data.train.file),
        "limit": 512,
        "max_length": benchmark.finetune.max_length,
        "max_answer_tokens": benchmark.finetune.max_answer_tokens,
        "deepspeed": benchmark.finetune.deepspeed,
        "seed": 3,
        "total_steps": total_steps,
        "output": str(folder / "trainer"),
        "arguments": {"learning_rate": 1e-3, **arguments},
    }
