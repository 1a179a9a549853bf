"""Compare a benchmark's precision with the devices of this machine."""

from __future__ import annotations

from benchmarks.check.deepspeed import check_deepspeed
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from benchmarks.training.deepspeed import Precision


def check_device(benchmark: Benchmark, has_gpu: bool, best: Precision | None) -> None:
    """Check that the devices can compute in the benchmark's precision.

    Args:
        benchmark: the benchmark.
        has_gpu: whether trials get GPUs.
        best: the precision that "auto" stands for on this machine; None on a cluster, whose nodes decide.

    Raises:
        BenchmarkError: a device cannot, or the DeepSpeed block fixes another precision than the device takes.
    """
    finetune = benchmark.finetune
    if finetune is None:
        return
    if finetune.precision == "fp16" and not has_gpu:
        raise BenchmarkError("precision is fp16, but there is no GPU; take fp32, bf16 or auto")
    if finetune.precision == "bf16" and has_gpu and best == "fp16":
        raise BenchmarkError("precision is bf16, but this GPU has no bf16 (from Ampere on); take fp16, fp32 or auto")
    if finetune.precision == "auto" and best is not None:
        check_deepspeed(benchmark, finetune, best)
