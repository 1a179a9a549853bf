"""Compare a benchmark's precision with the devices that its trials get."""

from __future__ import annotations

from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.spec import Benchmark
from benchmarks.training.deepspeed import precision_on


def check_device(benchmark: Benchmark, gpu_name: str | None, compute_capability: tuple[int, int] | None) -> None:
    """Check that the devices can compute in the benchmark's precision.

    Args:
        benchmark: the benchmark.
        gpu_name: of the GPUs that trials get; None where they get CPU cores.
        compute_capability: of the least of these GPUs; None where it is not known, which leaves the check to ranks.

    Raises:
        BenchmarkError: precision is fp16 without a GPU, or bf16 on a GPU before Ampere; or the DeepSpeed block fixes
            another precision than the device takes.
    """
    finetune = benchmark.finetune
    if finetune is None or (gpu_name is not None and compute_capability is None):
        return
    here = precision_on(finetune.precision, compute_capability, gpu_name)
    if finetune.precision == "auto":
        check_deepspeed(benchmark, finetune, here)
