"""Check a benchmark before a process is started: all that ranks would meet first, in one sentence each.

`check` reads files of this machine and imports neither torch nor transformers; every command that names a benchmark
calls it. `start.check_start` takes seconds, and is for commands that start a training next: it loads the tokenizer and
builds the model without memory. `device.settle_precision` settles the precision on the devices that were found.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import steps
from benchmarks.check import config, data, weights
from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.space import Choice
from benchmarks.spec import Benchmark


def check(benchmark: Benchmark) -> list[str]:
    """Check a benchmark's files.

    Returns:
        Warnings, such as of splits that share questions.

    Raises:
        BenchmarkError: the first thing that is missing or malformed.
    """
    if not benchmark.trial.trains_model:
        return []
    finetune = benchmark.training_settings()
    folder = Path(finetune.model)
    if not folder.is_absolute():
        config.require_hub_name(finetune.model)
    else:
        content = config.read(folder)
        weights.check_folder(folder)
        config.check_content(f"model {folder}", content, finetune)
    check_deepspeed(benchmark, finetune)
    _check_steps(benchmark)
    splits = data.read_local(finetune)
    data.check_longest_record(finetune, splits)
    return data.shared(benchmark.task, splits)


def _check_steps(benchmark: Benchmark) -> None:
    """Require that a unit trains at least a step, with the default and with the largest batch of the space."""
    steps.require_a_step(benchmark, benchmark.default, "default")
    largest = {
        name: max(int(value) for value in (domain.values if isinstance(domain, Choice) else (domain.high,)))
        for name, domain in benchmark.space.items()
        if name in ("batch_size_per_device", "gradient_accumulation_steps")
    }
    steps.require_a_step(benchmark, benchmark.hyperparameters(largest), "space")
