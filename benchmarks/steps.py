"""Optimizer steps of a training, and the learning rate at each of them. Pure: imports no torch.

The training loop, its learning-rate schedule and the exported arguments of Trainer count steps by these functions
alone. A resource unit is a number of samples, and a step takes a global batch of them: the loop trains up to the step
that ends nearest to a unit's boundary, and takes one more step where two are equally near.
"""

from __future__ import annotations

import math

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark, BenchmarkError


def global_batch_size(hp: Hyperparameters, ranks: int) -> int:
    """Count the samples of one optimizer step.

    Args:
        hp: the trial's hyperparameters.
        ranks: processes that train the trial together.
    """
    return hp.batch_size_per_device * hp.gradient_accumulation_steps * ranks


def steps_between(samples: int, boundary: int, global_batch: int) -> int:
    """Count the steps that bring a training as near to a boundary as whole steps can.

    Args:
        samples: seen so far; beyond the boundary by half a global batch at most.
        boundary: samples to reach.
        global_batch: samples of a step, at least 1.

    Returns:
        The quotient rounded to the nearest whole number, a half upwards. (Python's `round` takes the even neighbour of
        a half, so that the loop and its schedule would differ by a step.)
    """
    return max(0, (2 * (boundary - samples) + global_batch) // (2 * global_batch))


def total_steps(benchmark: Benchmark, hp: Hyperparameters) -> int:
    """Count the optimizer steps of a full training with one configuration, at least 1."""
    global_batch = global_batch_size(hp, benchmark.ranks_per_trial)
    return max(1, steps_between(0, benchmark.resource.total_samples, global_batch))


def warmup_steps(steps: int, hp: Hyperparameters) -> int:
    """Count the steps over which the learning rate rises, of all `steps` of a training, as Trainer counts them."""
    return math.ceil(steps * hp.warmup_ratio)


def learning_rate_factor(step: float, steps: int, hp: Hyperparameters) -> float:
    """Compute the schedule's factor in [0, 1] at `step` of `steps`: warm-up, then linear, cosine or constant.

    Equals `transformers.get_scheduler` at whole steps; a fraction occurs after a change of batch size.
    """
    warmup = warmup_steps(steps, hp)
    if step < warmup:
        return step / warmup
    if hp.lr_scheduler == "constant":
        return 1.0
    remaining = max(0.0, (steps - step) / max(1, steps - warmup))
    return remaining if hp.lr_scheduler == "linear" else 0.5 * (1.0 - math.cos(math.pi * remaining))


def require_a_step(benchmark: Benchmark, hp: Hyperparameters, whose: str) -> None:
    """Refuse a global batch with which the first unit would train nothing.

    Args:
        benchmark: one with a `finetune` block.
        hp: hyperparameters of a trial.
        whose: the source of the hyperparameters, for the message: "space" or "this configuration".

    Raises:
        BenchmarkError: the global batch is above twice the samples of a unit; names the largest that fits.
    """
    ranks, unit = benchmark.ranks_per_trial, benchmark.resource.unit_samples
    global_batch = global_batch_size(hp, ranks)
    if steps_between(0, unit, global_batch):
        return
    others = hp.gradient_accumulation_steps * ranks
    cure = f"take batch_size_per_device {2 * unit // others} at most, or " if 2 * unit >= others else ""
    raise BenchmarkError(
        f"{whose} has a global batch of {global_batch} samples (batch_size_per_device {hp.batch_size_per_device} x "
        f"gradient_accumulation_steps {hp.gradient_accumulation_steps} x {ranks} rank{'s' * (ranks > 1)}), of which "
        f"resource.unit_samples, {unit}, is less than half: the first unit would train nothing; the largest global "
        f"batch that fits is {2 * unit}: {cure}set unit_samples to {-(-global_batch // 2)} at least"
    )
