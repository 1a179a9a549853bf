"""Settle a benchmark's precision on the devices that its trials get: once, before ranks start."""

from __future__ import annotations

from typing import Any

from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.devices.visible import look_at_visible
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.deepspeed import precision_on

ONLY_ON_GPUS = {
    "zero_optimization": ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients"),
    "aio": ("use_gds",),
}
"""Keys of a DeepSpeed block, by section, that DeepSpeed has for GPUs alone."""


def settle_precision(
    benchmark: Benchmark, gpu_name: str | None, compute_capability: tuple[int, int] | None
) -> Benchmark:
    """Put the precision that "auto" means on these devices into a benchmark, as its ranks train it.

    Args:
        benchmark: the benchmark.
        gpu_name: of the GPUs that trials get; None where they get CPU cores.
        compute_capability: of the least of these GPUs.

    Returns:
        a benchmark for ranks alone; studies are compared by the one that the user gave.

    Raises:
        BenchmarkError: precision is fp16 without a GPU, or bf16 on a GPU before Ampere; or the DeepSpeed block does not
            go with the precision that the device takes, or needs a GPU where there is none.
    """
    if not benchmark.trial.trains_model:
        return benchmark
    if gpu_name is not None and compute_capability is None:
        raise BenchmarkError(f"the driver does not tell the compute capability of {gpu_name}; look at nvidia-smi")
    finetune = benchmark.training_settings()
    if gpu_name is None:
        _require_no_gpu_needed(finetune.deepspeed)
    here = precision_on(finetune.precision, compute_capability, gpu_name)
    if finetune.precision == "auto":
        check_deepspeed(benchmark, finetune, here)
    return benchmark.model_copy(update={"finetune": finetune.model_copy(update={"precision": here})})


def settle_here(benchmark: Benchmark) -> Benchmark:
    """Settle a benchmark's precision on the GPUs that this process may use, or on its CPU cores.

    For commands that train in their own process; a study settles it on the devices of its trials.

    Raises:
        BenchmarkError: see `settle_precision`; or CUDA_VISIBLE_DEVICES cannot be followed.
    """
    gpus, _ = look_at_visible()
    least = min((gpu.compute_capability for gpu in gpus), default=None)
    return settle_precision(benchmark, gpus[0].name if gpus else None, least)


def _require_no_gpu_needed(block: dict[str, Any]) -> None:
    """Refuse keys of a DeepSpeed block that only GPUs compute."""
    for section, names in ONLY_ON_GPUS.items():
        values = block.get(section)
        for name in names:
            if isinstance(values, dict) and values.get(name) is True:
                raise BenchmarkError(
                    f"deepspeed.{section}.{name} is true, but there is no GPU, which it needs; remove that key"
                )
