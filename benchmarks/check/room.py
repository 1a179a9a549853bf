"""Compare the checkpoints that a study may keep with the disk that is to have them, before it starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmarks.check.weights import read_header, weight_files
from benchmarks.files import BenchmarkError
from benchmarks.space import Choice
from benchmarks.spec import Benchmark, FineTune
from benchmarks.training.deepspeed import FIRST_WITH_BF16, Precision, zero_stage

GB = 1e9
PADDING = 0.2
"""Bytes per parameter beside weights and moments: DeepSpeed pads each rank's share, and writes some weights twice."""
RANDOM_STATES = 20_000
"""Bytes of a rank's random states, and of the names and shapes beside the weights."""
Shapes = Mapping[str, tuple[int, ...]]


def require_room(
    benchmark: Benchmark,
    checkpoints: int,
    method: str,
    compute_capability: tuple[int, int] | None = None,
    folder: Path = Path("unfinished"),
) -> None:
    """Make sure that the disk of a study's folder has room for its checkpoints.

    Args:
        benchmark: the benchmark of its trials.
        checkpoints: that it may keep at once: of trials that wait, and those that are being written.
        method: the name of its method.
        compute_capability: of the GPU; None on a CPU.
        folder: that has the checkpoints; it need not exist yet.

    Raises:
        BenchmarkError: the disk has less room.
    """
    if not benchmark.trial.trains_model:
        return
    each = checkpoint_bytes(benchmark, benchmark.training_settings(), compute_capability)
    place = folder if folder.exists() else Path()
    free = shutil.disk_usage(place).free
    if checkpoints * each > free:
        raise BenchmarkError(
            f"{folder.absolute()}: its disk has {free / GB:.1f} GB free, but {method} may keep {checkpoints} "
            f"checkpoints of {each / GB:.2f} GB there at once, {checkpoints * each / GB:.1f} GB in all; run in a "
            "folder on a larger disk, lower the budget, or take a method that pauses no trial, such as asha"
        )


def checkpoint_bytes(
    benchmark: Benchmark, finetune: FineTune, compute_capability: tuple[int, int] | None = None
) -> int:
    """Estimate the bytes of a trial's checkpoint, all ranks' files together.

    Args:
        benchmark: its space and default tell whether trials train all weights or LoRA's.
        finetune: its training.
        compute_capability: of the GPU; None on a CPU.
    """
    shapes = weight_shapes(finetune.model)
    rank = largest_lora_rank(benchmark)
    trained = lora_parameters(shapes, rank) if rank else sum(math.prod(shape) for shape in shapes.values())
    per_parameter = bytes_per_parameter(zero_stage(finetune.deepspeed), _precision(finetune, compute_capability))
    return math.ceil(trained * per_parameter) + RANDOM_STATES * finetune.ranks_per_trial


def bytes_per_parameter(stage: int, precision: Precision) -> float:
    """Count the bytes that a checkpoint has for each weight that is trained.

    Two moments of Adam and the fp32 weights are 12. At ZeRO 0 to 2 the weights that the model computes with are written
    beside the fp32 ones, except at stage 0 in fp32, where they are these.
    """
    is_one_copy = stage == 3 or (stage == 0 and precision == "fp32")
    bytes_in_use = 4 if precision == "fp32" else 2
    return 12 + (0 if is_one_copy else bytes_in_use) + PADDING


def largest_lora_rank(benchmark: Benchmark) -> int:
    """Return the largest rank of LoRA that trials may have; 0 if one may train all weights."""
    domain = benchmark.space.get("lora_rank")
    if domain is None:
        return benchmark.default.lora_rank
    values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    return 0 if 0 in values else int(max(value for value in values if isinstance(value, int | float)))


def lora_parameters(shapes: Shapes, rank: int) -> int:
    """Count LoRA's weights at most: updates of every matrix, the embedding's included, which has none."""
    return sum(rank * sum(shape) for shape in shapes.values() if len(shape) == 2)


def weight_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights by name: from the files of a folder, or a hub name's configuration."""
    folder = Path(model)
    if folder.is_absolute():
        headers = [read_header(path) for path in weight_files(folder)]
        return {name: tuple(value["shape"]) for header in headers for name, value in header.items()}
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model, trust_remote_code=False))
    return {name: tuple(weight.shape) for name, weight in built.named_parameters()}


def _precision(finetune: FineTune, compute_capability: tuple[int, int] | None) -> Precision:
    if finetune.precision != "auto":
        return finetune.precision
    if compute_capability is None:
        return "fp32"
    return "bf16" if compute_capability[0] >= FIRST_WITH_BF16 else "fp16"
