"""Out of memory: recognise it in an error, compare what configurations ask of memory, and make a micro-batch smaller.

Pure. Every part of the suite that has to know whether a training ran out of memory asks this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config
from benchmarks.spec import Benchmark

OUT_OF_MEMORY = "out of memory"
"""First words of the reason for which a trial fails that ran out of memory."""
IN_EVALUATION = "in evaluation"
"""First words of an error of an evaluation that ran out of memory: no smaller micro-batch would help it."""
MAX_TEXT = 300
"""Characters of an error's line that are kept."""
SIGNS = re.compile(
    "|".join(
        (
            r"\bOutOfMemoryError\b",  # torch's, and Ray's memory monitor's
            r"(^|[\s.:])\w*MemoryError(:|$)",  # Python's and numpy's
            r"\b(CUDA|HIP|XPU|MPS backend) out of memory\b",
            r"\b(CUDA|HIP)( driver)? error: out of memory",
            r"\bCUDA_ERROR_OUT_OF_MEMORY\b|\bcudaErrorMemoryAllocation\b",
            r"\bCU(BLAS|DNN|SOLVER|SPARSE)_STATUS_\w*ALLOC\w*FAILED\b",
            r"Cuda failure .{0,6}out of memory|Failed to (CUDA )?(host )?\w*alloc\b",  # NCCL
            r": [Oo]ut [Oo]f [Mm]emory\s*([.,;(\[]|$)",  # CUDA by Triton and others, SLURM's srun
            r"DefaultCPUAllocator",
            r"\bstd::bad_alloc\b",
            r"Cannot allocate memory",  # the system's ENOMEM
            r"\boom[-_]kill|\bOUT_OF_MEMORY\b",  # SLURM
            r"running low on memory|killed due to memory pressure|NODE_OUT_OF_MEMORY",  # Ray's memory monitor
        )
    )
)
"""Pattern of the line of an error or a log that tells of it."""


# ---- recognising it


def innermost(error: Any) -> Any:
    """Return the error that a process raised, without Ray's wrapping."""
    while getattr(error, "cause", None) is not None:
        error = error.cause
    return error


def sign_in(text: str) -> str:
    """Return the line of an error or a log that tells that memory ran out; empty if none does."""
    lines = (line.strip() for line in text.splitlines())
    return next((line[:MAX_TEXT] for line in lines if SIGNS.search(line)), "")


def sign_of(error: Any) -> str:
    """Return the line that tells that memory ran out, of an error or of the one that Ray wrapped; empty if none does.

    Ray's message on a dead process is no sign: it guesses at the killer of processes among other causes.
    """
    cause = innermost(error)
    return sign_in(f"{type(cause).__name__}: {cause}")


def failure_reason(benchmark: Benchmark, config: Config, error: Any) -> str:
    """Return the reason for which a trial fails that ran out of memory; empty if it did not.

    Args:
        benchmark: the trial's.
        config: its hyperparameters, over the benchmark's default.
        error: the error that ended it, or the text of one.
    """
    sign = sign_in(error) if isinstance(error, str) else sign_of(error)
    return f"{OUT_OF_MEMORY}: {sign}; asked for by {asked(benchmark, config)}" if sign else ""


def asked(benchmark: Benchmark, config: Config) -> str:
    """Write the settings of a configuration that decide how much memory its training takes."""
    hp = benchmark.hyperparameters(config)
    length = {"max_length": benchmark.training_settings().max_length} if benchmark.trial.trains_model else {}
    settings: Mapping[str, object] = {
        "batch_size_per_device": hp.batch_size_per_device,
        **length,
        "lora_rank": hp.lora_rank,
        "gradient_checkpointing": hp.gradient_checkpointing,
    }
    return ", ".join(f"{name} {value}" for name, value in settings.items())


# ---- comparing

MEMORY_DRIVERS = ("batch_size_per_device", "lora_rank", "gradient_checkpointing")
"""Hyperparameters that decide how much memory a training takes."""


@dataclass(frozen=True)
class Demand:
    """Demand of a training for memory: no part of it grows without the training taking more.

    The longest sequence counts too, but all trials of a benchmark share it.

    Attributes:
        micro_batch: samples of a forward pass on one device.
        rank: of LoRA; infinite where all weights are trained.
        keeps_activations: no gradient checkpointing.
    """

    micro_batch: int
    rank: float
    keeps_activations: bool

    def covers(self, other: Demand) -> bool:
        """Tell whether this one asks for the memory of another at least, in each part."""
        return (
            self.micro_batch >= other.micro_batch
            and self.rank >= other.rank
            and self.keeps_activations >= other.keeps_activations
        )

    def growth_over(self, other: Demand) -> float:
        """Multiply the factors by which parts of this one are larger than those of another, at least 1.

        Parts that are no numbers count twice: full training beside LoRA, and kept activations.
        """
        is_full, keeps = self.rank > other.rank and self.rank == math.inf, self.keeps_activations
        rank = 2.0 if is_full else 1.0 if self.rank <= other.rank else self.rank / other.rank
        checkpointing = 2.0 if keeps and not other.keeps_activations else 1.0
        return max(1.0, self.micro_batch / other.micro_batch) * rank * checkpointing


def demand_of(hp: Hyperparameters) -> Demand:
    """Return the demand of a training with these hyperparameters."""
    return Demand(hp.batch_size_per_device, hp.lora_rank or math.inf, not hp.gradient_checkpointing)


def least_demand(benchmark: Benchmark, config: Config) -> Demand:
    """Return the least demand that a configuration can be trained with: if it is rescued, with micro-batches of 1."""
    demand = demand_of(benchmark.hyperparameters(config))
    return Demand(1, demand.rank, demand.keeps_activations) if benchmark.rescue else demand


# ---- rescue


def rescued(hp: Hyperparameters) -> Hyperparameters | None:
    """Make the micro-batch smaller and the accumulation larger, for the same effective batch.

    The micro-batch is halved, or divided by its smallest prime factor where it is odd.

    Returns:
        The hyperparameters; None if the micro-batch is 1 already.
    """
    size = hp.batch_size_per_device
    if size == 1:
        return None
    factor = next((divisor for divisor in range(2, math.isqrt(size) + 1) if size % divisor == 0), size)
    changes = {
        "batch_size_per_device": size // factor,
        "gradient_accumulation_steps": hp.gradient_accumulation_steps * factor,
    }
    return hp.model_copy(update=changes)


def with_micro_batch(config: Config, hp: Hyperparameters) -> Config:
    """Return a configuration with the micro-batch and the accumulation of rescued hyperparameters."""
    batch = {name: getattr(hp, name) for name in ("batch_size_per_device", "gradient_accumulation_steps")}
    return {**config, **batch}


def in_micro_batches(benchmark: Benchmark, config: Config, micro_batch: int | None) -> Config:
    """Return a configuration as a rescued trial was trained with it.

    Args:
        benchmark: the trial's.
        config: its hyperparameters, over the benchmark's default.
        micro_batch: samples of a forward pass that fit; None if the trial was not rescued.
    """
    hp = benchmark.hyperparameters(config)
    if micro_batch is None or hp.batch_size_per_device <= micro_batch:
        return config
    while hp.batch_size_per_device > micro_batch and (less := rescued(hp)):
        hp = less
    return with_micro_batch(config, hp)


def rescued_schedule(
    benchmark: Benchmark, schedule: Sequence[tuple[int, Config]], reason: str
) -> list[tuple[int, Config]]:
    """Return the next configurations that a rescue tries in place of a schedule's; none if no rescue is possible.

    Args:
        benchmark: the training's.
        schedule: configurations, each with the units trained before it takes effect, the first with 0.
        reason: the error of the training.
    """
    if not benchmark.rescue or not sign_in(reason) or IN_EVALUATION in reason:
        return []
    less = rescued(benchmark.hyperparameters(schedule[0][1]))
    size = less.batch_size_per_device if less else 0
    return [(begin, in_micro_batches(benchmark, config, size)) for begin, config in schedule] if less else []
