"""Memory of a training, estimated before it runs.

Model states alone: weights, gradients, Adam's two moments and, in 16-bit training, the fp32 copy of the weights.
Activations, logits, buffers of the communication and the CUDA context (half a GiB and more) come on top.

ZeRO 2 and 3 in 16 bits are estimated by DeepSpeed's own functions
(https://deepspeed.readthedocs.io/en/latest/memory.html). They count gradients in fp32 too. Their figures for the host
are the need of loading or of offload, times 1.5 for buffers: an upper bound rather than a mean. The rest follows the
ZeRO paper (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054, section 3.1); DeepSpeed has no function for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.spec import BenchmarkError, first_line
from benchmarks.training.deepspeed import Precision
from benchmarks.training.memory import MIB

ADAM = 8
"""Bytes per parameter: two moments in fp32."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, and of its largest layer, which ZeRO-3 gathers at once."""

    parameters: int
    largest_layer: int


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of the model states of one rank, MiB; without a GPU both kinds are in the host's memory.

    Attributes:
        device_mb: on the device that computes.
        host_mb: on the host, for each rank of a node.
    """

    device_mb: float
    host_mb: float


def model_size(model: str) -> ModelSize:
    """Read the size of a hub name or a local folder from its configuration; no weights are read or made.

    Raises:
        BenchmarkError: there is no configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"model {model}: its configuration cannot be loaded ({first_line(error)})") from None
    with torch.device("meta"):
        return size_of(AutoModelForCausalLM.from_config(config))


def size_of(model: Any) -> ModelSize:
    """Count the parameters of a `torch.nn.Module`; weights that are tied count once."""
    layers = [sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()]
    return ModelSize(sum(p.numel() for p in model.parameters()), max(layers))


def plan_memory(
    size: ModelSize, stage: int | None, offload: bool, precision: Precision, ranks_per_node: int = 1, nodes: int = 1
) -> MemoryPlan:
    """Estimate the memory of the model states of one rank.

    Args:
        size: the model's.
        stage: ZeRO 0 to 3, or None without DeepSpeed.
        offload: the optimizer is on the host, and at stage 3 the parameters too.
        precision: of the arithmetic.
        ranks_per_node: at least 1.
        nodes: at least 1.
    """
    if stage in (2, 3) and precision != "fp32":
        return _by_deepspeed(size, stage, offload, ranks_per_node, nodes)
    weights, gradients, optimizer = _bytes_per_parameter(stage, precision)
    ranks = ranks_per_node * nodes
    shared = {
        "optimizer": stage is not None and stage >= 1,
        "gradients": stage is not None and stage >= 2,
        "weights": stage == 3,
    }
    optimizer /= ranks if shared["optimizer"] else 1
    gradients /= ranks if shared["gradients"] else 1
    weights /= ranks if shared["weights"] else 1
    # Stage 1 keeps whole gradients until they have been accumulated.
    on_host = (optimizer + gradients * shared["gradients"] + weights * shared["weights"]) if offload else 0.0
    on_device = optimizer + gradients + weights - on_host
    return MemoryPlan(on_device * size.parameters / MIB, on_host * size.parameters / MIB)


def _bytes_per_parameter(stage: int | None, precision: Precision) -> tuple[float, float, float]:
    """Count weights, gradients and optimizer. Trainer alone computes under autocast and keeps fp32 weights."""
    if stage is None:
        return 4, 4, ADAM
    if precision == "fp32":
        return 4, 4, ADAM + (4 if stage > 0 else 0)  # ZeRO's optimizer updates a copy of the weights it owns
    return 2, 2, ADAM + 4


def _by_deepspeed(size: ModelSize, stage: int, offload: bool, ranks_per_node: int, nodes: int) -> MemoryPlan:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    if stage == 2:
        host, device = estimate_zero2_model_states_mem_needs(size.parameters, ranks_per_node, nodes, offload)
    else:
        host, device, _ = estimate_zero3_model_states_mem_needs(
            size.parameters, size.largest_layer, ranks_per_node, nodes, offload, offload
        )
    return MemoryPlan(device / MIB, host / ranks_per_node / MIB)
