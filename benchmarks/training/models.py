"""A model and its tokenizer, read from a folder or the hub, and the trained model written to a folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import BenchmarkError, first_line
from benchmarks.training import lora

if TYPE_CHECKING:
    import torch


def load_tokenizer(model: str) -> Any:
    """Load the model's fast tokenizer, set up for left padding.

    Raises:
        BenchmarkError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True, trust_remote_code=False, padding_side="left")
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"model {model}: its tokenizer cannot be loaded ({first_line(error)})") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: str) -> Any:
    """Load the model in fp32 on the CPU, from safetensors only.

    Raises:
        BenchmarkError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"model {model}: cannot be loaded ({first_line(error)}); give a hub name this machine can reach, "
            "or a folder with config.json and *.safetensors"
        ) from None


def trial_model(base_model: Any, hp: Hyperparameters) -> Any:
    """Make a fresh copy of the base model, on the CPU, with the parts that the trial's hyperparameters add."""
    model = copy.deepcopy(base_model)
    if hp.lora_rank:
        lora.inject(model, hp)
    if hp.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def write_model(model: Any, weights: dict[str, torch.Tensor], tokenizer: Any, folder: Path) -> None:
    """Write a model with other weights, as safetensors, and its tokenizer.

    Args:
        model: one of the architecture that the weights belong to.
        weights: by name.
        tokenizer: its end and padding tokens become those of the model's generation.
        folder: where to write; made if need be.
    """
    model.generation_config.update(  # a plain `generate` then ends as `predict` does
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
