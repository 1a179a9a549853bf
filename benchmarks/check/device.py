"""Compare a benchmark's precision with the devices of this machine."""

from __future__ import annotations

from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.spec import Benchmark
from benchmarks.training.deepspeed import Precision, precision_on


def check_device(benchmark: Benchmark, has_gpu: bool, best: Precision | None) -> None:
    """Check that the devices can compute in the benchmark's precision.

    Args:
        benchmark: the benchmark.
        has_gpu: whether trials get GPUs.
        best: the precision that "auto" stands for on this machine; None on a cluster, whose nodes decide.

    Raises:
        BenchmarkError: precision is fp16 and there is no GPU, or the DeepSpeed block fixes another precision than the
            device takes. bf16 is not refused: GPUs before Ampere compute in it too, slowly.
    """
    finetune = benchmark.finetune
    if finetune is None:
        return
    if not has_gpu:
        precision_on(finetune.precision, None)
    if finetune.precision == "auto" and best is not None:
        check_deepspeed(benchmark, finetune, best)
