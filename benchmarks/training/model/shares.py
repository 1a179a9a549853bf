"""A base that no GPU holds: at ZeRO 3 each rank builds its shares of the weights, straight from the model's files."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import BenchmarkError, FineTune
from benchmarks.training import memory
from benchmarks.training.deepspeed import Precision, zero_stage
from benchmarks.training.model.base import BaseModel, torch_type, with_parts
from benchmarks.training.model.models import load_base_model
from benchmarks.training.model.zero3 import ZERO_3

if TYPE_CHECKING:
    import torch

Configure = Callable[[Hyperparameters], dict[str, Any]]
OUTLINE_LAYERS = 2
MAX_WHOLE_SHARE = 0.5
"""Share of a GPU's memory up to which a model is built whole and then shared out by DeepSpeed."""


@dataclass(frozen=True)
class BaseInShares:
    """The files that every trial starts from; the same interface as `base.BaseModel`.

    Attributes:
        model: hub name or folder.
        precision: the arithmetic of the trials.
        configure: makes the DeepSpeed configuration of a trial.
        outline: model of the same architecture and width with few layers, on which padding and caches are checked.
    """

    model: str
    precision: Precision
    configure: Configure
    outline: Any

    def kept_for(self, precision: Precision, device: torch.device) -> BaseInShares:
        """Return itself: the weights stay in their files."""
        return self

    def for_trial(self, hp: Hyperparameters) -> Any:
        """Build a trial's model in shares: no rank holds more than one layer whole."""
        with _building_in_shares(self.configure(hp)):
            module = load_base_model(self.model, dtype=torch_type(self.precision)).module
        return with_parts(module, hp)

    def whole(self, hp: Hyperparameters) -> Any:
        """Build the model in fp32 on the CPU, with the parts of a trial's hyperparameters."""
        return with_parts(self.plain(), hp)

    def plain(self) -> Any:
        """Load the model in fp32 on the CPU."""
        return load_base_model(self.model).module


def open_base(
    settings: FineTune, precision: Precision, device: torch.device, configure: Configure
) -> BaseModel | BaseInShares:
    """Open the weights that trials start from: whole, or in shares if no GPU could hold them.

    Args:
        settings: the benchmark's.
        precision: the arithmetic of the trials.
        device: this rank's.
        configure: makes the DeepSpeed configuration of a trial.

    Raises:
        BenchmarkError: the model cannot be used.
    """
    name, allowed = settings.model, settings.allow_new_weights
    stage, gpu_bytes = zero_stage(settings.deepspeed), memory.gpu_bytes(device)
    if stage == ZERO_3 and gpu_bytes is not None:
        shapes = load_base_model(name, allowed, device="meta")
        size = sum(weight.numel() for weight in shapes.module.parameters()) * torch_type(precision).itemsize
        if needs_shares(stage, size, gpu_bytes):
            require_no_new_weights(name, shapes.new_weights)
            return BaseInShares(name, precision, configure, _outline(shapes.module.config))
    return load_base_model(name, allowed)


def _outline(config: Any) -> Any:
    """Make a model with few layers and random weights, in fp32 on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = min(OUTLINE_LAYERS, text.num_hidden_layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def needs_shares(stage: int, model_bytes: int, gpu_bytes: int | None) -> bool:
    """Tell whether a model is too large to be built whole on a GPU, and is shared out at this stage of ZeRO.

    Args:
        stage: of ZeRO, 0 to 3.
        model_bytes: of the model in the trials' precision.
        gpu_bytes: of the GPU's whole memory; None without a GPU.
    """
    return stage == ZERO_3 and gpu_bytes is not None and model_bytes > MAX_WHOLE_SHARE * gpu_bytes


def require_no_new_weights(model: str, names: tuple[str, ...]) -> None:
    """Refuse weights that trials would draw in a model that is built in shares.

    Raises:
        BenchmarkError: there are some.
    """
    if names:
        raise BenchmarkError(
            f"model {model}: lacks {names[0]}, which each trial would draw by its own seed, but it is too large to be "
            "built on one GPU; save a model that has all its weights with save_pretrained"
        )


def share_bytes(model: Any, ranks: int, bytes_per_parameter: int) -> int:
    """Count the bytes of a model's weights that each rank holds at ZeRO 3, each weight rounded up to equal shares.

    Args:
        model: a `torch.nn.Module`, on the meta device too.
        ranks: of the trial.
        bytes_per_parameter: 2 in 16-bit training, else 4.
    """
    weights: list[torch.Tensor] = list(model.parameters())
    return bytes_per_parameter * sum(math.ceil(weight.numel() / ranks) for weight in weights)


@contextmanager
def _building_in_shares(config: dict[str, Any]) -> Iterator[None]:
    """Let transformers build models under `deepspeed.zero.Init`, and load each weight into its shares."""
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    held = HfDeepSpeedConfig(config)  # transformers keeps a weak reference alone
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del held
