"""LoRA: low-rank updates of the linear layers in place of training all weights.

Hu et al. 2021, https://arxiv.org/abs/2106.09685. The layers are those of `peft`, put into the model itself, which stays
of its own class: its callers need not know. Weights that a trial draws by its seed are trained beside the updates (see
`base.BaseModel.for_trial`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import torch

ADAPTER = "default"
TARGETS = "all-linear"
"""Every linear layer but the one that gives logits."""


def settings(hp: Hyperparameters) -> dict[str, Any]:
    """Return the keyword arguments of `peft.LoraConfig`."""
    return {
        "task_type": "CAUSAL_LM",
        "r": hp.lora_rank,
        "lora_alpha": hp.lora_alpha,
        "lora_dropout": hp.lora_dropout,
        "target_modules": TARGETS,
    }


def inject(model: Any, hp: Hyperparameters) -> None:
    """Give a model's linear layers their updates, from torch's random numbers, and freeze everything else."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(**settings(hp)), model, ADAPTER)


def merged(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the weights of a plain model: the updates added to the weights that they update.

    Args:
        model: one with updates, on the CPU; it is changed.
        weights: its trained weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model.load_state_dict(weights)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
    state = model.state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
