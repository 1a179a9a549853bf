"""Optimizer steps of a training, and the learning rate at each of them. Pure: imports no torch."""

from __future__ import annotations

import math

from benchmarks.hyperparameters import Hyperparameters


def learning_rate_factor(step: float, total_steps: int, hp: Hyperparameters) -> float:
    """Compute the schedule's factor in [0, 1] at `step` of `total_steps`: warm-up, then linear, cosine or constant.

    Equals `transformers.get_scheduler` at whole steps; a fraction occurs after a change of batch size.
    """
    warmup_steps = math.ceil(total_steps * hp.warmup_ratio)
    if step < warmup_steps:
        return step / warmup_steps
    if hp.lr_scheduler == "constant":
        return 1.0
    remaining = max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    return remaining if hp.lr_scheduler == "linear" else 0.5 * (1.0 - math.cos(math.pi * remaining))
