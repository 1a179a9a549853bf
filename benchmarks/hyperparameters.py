"""Hyperparameters of a fine-tuning trial, with Hugging Face Trainer's defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    PositiveFloat,
)

from benchmarks.files import BenchmarkError
from benchmarks.space import Count, Strict


class Hyperparameters(Strict):
    """Hyperparameters of a fine-tuning trial that a search may vary, with Hugging Face Trainer's defaults.

    Attributes:
        learning_rate: peak learning rate of AdamW.
        batch_size_per_device: samples in one forward pass of one rank.
        gradient_accumulation_steps: forward passes per optimizer step.
        weight_decay: decoupled decay, on all weights but biases and norms.
        warmup_ratio: share of the full training over which the rate rises from 0.
        lr_scheduler: how the rate falls after warm-up; it reaches its end at the full resource.
        max_grad_norm: gradient norm above which gradients are scaled down; 0 turns clipping off.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the denominator of Adam's update.
        lora_rank: rank of the updates that LoRA learns for every linear layer, all other weights of the model's files
            staying as they are (Hu et al. 2021, https://arxiv.org/abs/2106.09685); 0 trains all weights.
        lora_alpha: the updates count lora_alpha / lora_rank times.
        lora_dropout: share of the updates' inputs that is dropped in training.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them: less memory, a
            third more computing, the same result.
    """

    learning_rate: PositiveFloat = 5e-5
    batch_size_per_device: Count = 8
    gradient_accumulation_steps: Count = 1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lr_scheduler: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: PositiveFloat = 1e-8
    lora_rank: Annotated[int, Field(ge=0, lt=2**31)] = 0
    lora_alpha: PositiveFloat = 16.0
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gradient_checkpointing: bool = False


FIXED_IN_A_TRIAL = ("lora_rank", "lora_alpha", "lora_dropout", "gradient_checkpointing")
"""Hyperparameters that shape the model, and so cannot change within a trial."""


def require_same_model(first: Hyperparameters, later: Hyperparameters) -> None:
    """Refuse a change within a trial that would need other weights or another model around them.

    Raises:
        BenchmarkError: a hyperparameter of `FIXED_IN_A_TRIAL` changes; names it and both values.
    """
    for name in FIXED_IN_A_TRIAL:
        before, after = getattr(first, name), getattr(later, name)
        if before != after:
            raise BenchmarkError(f"{name} changes from {before} to {after}, but cannot change within a trial")
