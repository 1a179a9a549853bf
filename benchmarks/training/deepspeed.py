"""Fill the "auto" values of a DeepSpeed configuration from a trial's hyperparameters; refuse mismatches.

"auto" follows Hugging Face's integration (https://huggingface.co/docs/transformers/deepspeed), so the same
file works unchanged as `TrainingArguments(deepspeed=...)`. A value that is not "auto" must agree with the
trial: a fixed batch size in the file would otherwise silently win over the one being tuned.

`optimizer` and `scheduler` blocks are refused: their values are tuned, and a value in the file would bypass
the search. (In Hugging Face's integration an `optimizer` block also drops the decay groups: biases and norms
would be decayed.)
"""

from __future__ import annotations

import math
from typing import Any, Literal

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import BenchmarkError

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
FIRST_WITH_BF16 = 8
"""Major compute capability from which a GPU computes in bf16: Ampere's."""
BLOCKS_THAT_ARE_TUNED = ("optimizer", "scheduler")
SECTIONS = ("bf16", "fp16", "zero_optimization")


def precision_on(wanted: str, compute_capability: tuple[int, int] | None, gpu_name: str | None = None) -> Precision:
    """Settle the arithmetic of a trial on a device; the one rule for "auto".

    Args:
        wanted: one of `PRECISIONS`, or "auto": bf16 where the GPU computes in it, fp16 on an older GPU, fp32 on a CPU.
        compute_capability: of the GPU, major and minor, as its driver tells it; None on a CPU.
        gpu_name: of the GPU, for the message.

    Raises:
        BenchmarkError: fp16 without a GPU, or bf16 on a GPU before Ampere, where it is emulated or missing.
    """
    if wanted == "fp16" and compute_capability is None:
        raise BenchmarkError("precision is fp16, but there is no GPU; use fp32, bf16 or auto")
    has_bf16 = compute_capability is None or compute_capability[0] >= FIRST_WITH_BF16
    if wanted == "bf16" and compute_capability is not None and not has_bf16:
        major, minor = compute_capability
        raise BenchmarkError(
            f"precision is bf16, but {gpu_name or 'the GPU'} has compute capability {major}.{minor}, and GPUs compute "
            f"in bf16 from {FIRST_WITH_BF16}.0 (Ampere) on; use fp16, fp32 or auto"
        )
    if wanted != "auto":
        return wanted  # type: ignore[return-value]  # the benchmark's field and the option allow these alone
    if compute_capability is None:
        return "fp32"
    return "bf16" if has_bf16 else "fp16"


def fill(
    block: dict[str, Any],
    hyperparameters: Hyperparameters,
    precision: Precision,
    world_size: int,
    hidden_size: int,
) -> dict[str, Any]:
    """Fill in a DeepSpeed configuration.

    Args:
        block: the benchmark's configuration, with "auto" where a value follows from the trial.
        hyperparameters: the trial's.
        precision: the arithmetic of the trial.
        world_size: ranks of the trial.
        hidden_size: the model's width, which sizes ZeRO-3's buckets.

    Raises:
        BenchmarkError: a fixed value that disagrees with the trial, an `optimizer` or `scheduler` block, a section
            that is none, or fp16 at stage 0.
    """
    for name in BLOCKS_THAT_ARE_TUNED:
        if name in block:
            raise BenchmarkError(
                f"deepspeed.{name}: remove this block; the search sets the {name} from `space` and `default`"
            )
    for name in SECTIONS:
        if not isinstance(block.get(name, {}), dict) and block[name] != "auto":
            raise BenchmarkError(f"deepspeed.{name} is {block[name]!r}, but must be an object, such as {{}}")
    known = _known_values(hyperparameters, precision, world_size, hidden_size)
    if precision == "fp16" and zero_stage(block) == 0:
        raise BenchmarkError(
            "precision is fp16 and zero_optimization.stage is 0: DeepSpeed does not scale the loss there with the "
            "optimizer used here; take stage 1 or higher, or bf16 or fp32"
        )
    filled, mismatches = _fill_level(block, known, path="deepspeed")
    if mismatches:
        raise BenchmarkError("; ".join(mismatches) + '; write "auto" there')
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"):
        filled.setdefault(key, known[key])
    for name in ("bf16", "fp16"):
        filled.setdefault(name, {}).setdefault("enabled", precision == name)  # left out, DeepSpeed takes false
    filled.setdefault("steps_per_print", 2**31 - 1)
    _end_timers(filled)
    return filled


def _end_timers(filled: dict[str, Any]) -> None:
    """Switch off DeepSpeed's throughput timers, which wait for the device twice per forward pass, unless asked for."""
    timers = filled.setdefault("timers", {})
    throughput = timers.setdefault("throughput", {}) if isinstance(timers, dict) else None
    if isinstance(throughput, dict):
        throughput.setdefault("enabled", False)


def zero_stage(block: dict[str, Any]) -> Any:
    """Return the stage of ZeRO that a DeepSpeed configuration names, unchecked; 0 if it names none."""
    zero = block.get("zero_optimization", {})
    return zero.get("stage", 0) if isinstance(zero, dict) else None


def _known_values(hp: Hyperparameters, precision: Precision, world_size: int, hidden_size: int) -> dict[str, Any]:
    """Return the values that "auto" stands for, by key; nested keys as nested dictionaries."""
    return {
        "train_micro_batch_size_per_gpu": hp.batch_size_per_device,
        "gradient_accumulation_steps": hp.gradient_accumulation_steps,
        "train_batch_size": hp.batch_size_per_device * hp.gradient_accumulation_steps * world_size,
        "gradient_clipping": hp.max_grad_norm,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_optimization": {
            "reduce_bucket_size": hidden_size * hidden_size,
            "stage3_prefetch_bucket_size": math.floor(0.9 * hidden_size * hidden_size),
            "stage3_param_persistence_threshold": 10 * hidden_size,
        },
    }


TUNABLE_IN_FILE = {"reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"}


def _fill_level(block: dict[str, Any], known: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    filled, mismatches = {}, []
    for key, value in block.items():
        here, expected = f"{path}.{key}", known.get(key)
        if isinstance(value, dict):
            nested = expected if isinstance(expected, dict) else {}
            filled[key], deeper = _fill_level(value, nested, here)
            mismatches += deeper
        elif value == "auto":
            if expected is None or isinstance(expected, dict):
                raise BenchmarkError(f'{here}: "auto" has no meaning here; give a value')
            filled[key] = expected
        else:
            filled[key] = value
            if expected is not None and value != expected and key not in TUNABLE_IN_FILE:
                mismatches.append(f"{here} is {value!r}, but the trial has {expected!r}")
    return filled, mismatches
