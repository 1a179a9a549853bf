"""Settle a benchmark's precision on the devices that its trials get: once, before ranks start."""

from __future__ import annotations

from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.devices.visible import look_at_visible
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.deepspeed import precision_on


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
            go with the precision that the device takes.
    """
    if not benchmark.trial.trains_model:
        return benchmark
    if gpu_name is not None and compute_capability is None:
        raise BenchmarkError(f"the driver does not tell the compute capability of {gpu_name}; look at nvidia-smi")
    finetune = benchmark.training_settings()
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
