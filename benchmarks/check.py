"""Check what a benchmark points at, before a process is started: model folder, data files, DeepSpeed values.

Reads files of this machine only; what comes from a hub is checked by the libraries that fetch it.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import steps
from benchmarks.files import is_file, is_folder, load_json
from benchmarks.space import Choice, Config
from benchmarks.spec import Benchmark, BenchmarkError, FineTune
from benchmarks.tasks import question_answering as squad
from benchmarks.training.deepspeed import Precision, fill

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
SET_BY_DEEPSPEED = {"batch_size_per_device", "gradient_accumulation_steps", "max_grad_norm"}


def check(benchmark: Benchmark) -> None:
    """Check a benchmark's files.

    Raises:
        BenchmarkError: the first thing that is missing or malformed.
    """
    if benchmark.finetune is None:
        return
    _check_model(benchmark.finetune)
    _check_deepspeed(benchmark, benchmark.finetune)
    _check_steps(benchmark)
    for split in (benchmark.finetune.data.train, benchmark.finetune.data.validation, benchmark.finetune.data.test):
        if split.file is not None:
            squad.read_split(split)


def _check_model(finetune: FineTune) -> None:
    folder = Path(finetune.model)
    if not folder.is_absolute():
        if not HUB_NAME.fullmatch(finetune.model):
            raise BenchmarkError(
                f"model {finetune.model!r}: neither a folder nor a name on the hub, such as bigscience/bloom-560m"
            )
        return
    if not is_folder(folder):
        raise BenchmarkError(f"model {folder}: no such folder")
    if not (folder / "config.json").is_file():
        raise BenchmarkError(f"model {folder}: config.json is missing; give a folder written by save_pretrained")
    if not list(folder.glob("*.safetensors")):
        raise BenchmarkError(f"model {folder}: no *.safetensors; save the weights with safe_serialization")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise BenchmarkError(
            f"model {folder}: no tokenizer ({' or '.join(TOKENIZER_FILES)}); "
            "save it there with tokenizer.save_pretrained"
        )


def _check_steps(benchmark: Benchmark) -> None:
    """Require that a unit trains at least a step, with the default and with the largest batch of the space."""
    steps.require_a_step(benchmark, benchmark.default, "default")
    largest = {
        name: max(int(value) for value in (domain.values if isinstance(domain, Choice) else (domain.high,)))
        for name, domain in benchmark.space.items()
        if name in ("batch_size_per_device", "gradient_accumulation_steps")
    }
    steps.require_a_step(benchmark, benchmark.hyperparameters(largest), "space")


def _check_deepspeed(benchmark: Benchmark, finetune: FineTune) -> None:
    """Whatever the search may propose must go with the DeepSpeed configuration."""
    precision: Precision = "fp32" if finetune.precision == "auto" else finetune.precision
    block = finetune.deepspeed
    if finetune.precision == "auto":  # the device decides; only the ranks know it
        block = {key: value for key, value in block.items() if key not in ("bf16", "fp16")}
    proposals: list[Config] = [{}] if not SET_BY_DEEPSPEED & set(benchmark.space) else []
    for name in sorted(SET_BY_DEEPSPEED & set(benchmark.space)):
        domain = benchmark.space[name]
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        proposals += [{name: value} for value in values]
    for proposal in proposals:
        hyperparameters = benchmark.hyperparameters(proposal)
        fill(block, hyperparameters, precision, finetune.ranks_per_trial, _hidden_size(finetune))


def _hidden_size(finetune: FineTune) -> int:
    path = Path(finetune.model) / "config.json"
    if not is_file(path):
        return 1  # a hub name; sizes of ZeRO's buckets do not matter here
    content = load_json(path)
    if not isinstance(content, dict):
        raise BenchmarkError(f"model {path}: expected a JSON object, found {type(content).__name__}")
    size = content.get("hidden_size") or content.get("n_embd") or 1
    if not isinstance(size, int):
        raise BenchmarkError(f"model {path}: hidden_size is {size!r}, but must be a whole number")
    return size
