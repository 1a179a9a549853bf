"""Compare a model with the share of a GPU's memory that a trial has where several train on one, before they start."""

from __future__ import annotations

import math

from benchmarks.check.room import GB, largest_lora_rank, lora_parameters, weight_shapes
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark, FineTune
from benchmarks.training.deepspeed import Precision, zero_stage
from benchmarks.training.memory import MIB, share_bytes
from benchmarks.zero.plan import ModelSize, plan_memory


def require_share(benchmark: Benchmark, gpu_name: str, gpu_bytes: int) -> None:
    """Make sure that the model states of a trial fit its share of a GPU.

    Args:
        benchmark: the benchmark of the trials, whose precision is settled.
        gpu_name: of the GPU, for the message.
        gpu_bytes: the GPU's whole memory; 0 where it is not known, which leaves it to the ranks.

    Raises:
        BenchmarkError: they do not fit.
    """
    sharing = benchmark.trials_per_gpu
    if not benchmark.trial.trains_model or sharing == 1 or not gpu_bytes:
        return
    finetune = benchmark.training_settings()
    precision: Precision = "fp32" if finetune.precision == "auto" else finetune.precision
    share, needed = share_bytes(gpu_bytes, sharing), state_bytes(benchmark, finetune, precision)
    if needed > share:
        raise BenchmarkError(
            f"trials_per_gpu is {sharing}, but weights, gradients and optimizer of a trial take {needed / GB:.1f} GB "
            f"in {precision}, and its share of {gpu_name} is {share / GB:.1f} GB of {gpu_bytes / GB:.1f} GB; lower "
            "trials_per_gpu, or train LoRA"
        )


def state_bytes(benchmark: Benchmark, finetune: FineTune, precision: Precision) -> int:
    """Estimate the bytes of a trial's weights, gradients and optimizer on its GPU; activations come on top.

    One rank has them whole at every stage of ZeRO above 0, so they are those of stage 1.
    """
    shapes, rank = weight_shapes(finetune.model), largest_lora_rank(benchmark)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    trained = lora_parameters(shapes, rank) if rank else parameters
    base = parameters * (4 if precision == "fp32" else 2) if rank else 0
    stage = min(1, zero_stage(finetune.deepspeed))
    plan = plan_memory(ModelSize(trained, 0), stage, _offloads(finetune), precision)
    return math.ceil(plan.device_mb * MIB) + base


def _offloads(finetune: FineTune) -> bool:
    """Tell whether the optimizer is on the host."""
    offload = finetune.deepspeed.get("zero_optimization", {}).get("offload_optimizer") or {}
    return bool(offload.get("device", "none") != "none")
