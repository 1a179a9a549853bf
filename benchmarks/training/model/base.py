"""The model that all trials of a session start from, kept once in the trials' precision.

DeepSpeed makes its fp32 masters from the weights that it is given, after rounding them to 16 bits. So the base is kept
in 16 bits, and a trial's copy of it costs 2 bytes per parameter, on the GPU where the base itself is: no copy in fp32,
no way over the bus.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.training import memory
from benchmarks.training.deepspeed import Precision
from benchmarks.training.model import lora

if TYPE_CHECKING:
    import torch

MAX_BASE_SHARE = 0.1
"""Share of a GPU's memory that a base may take; a training of it in 16 bits takes eight times its own memory."""


@dataclass(frozen=True)
class BaseModel:
    """The model that every trial starts from.

    Attributes:
        module: as it was loaded, in fp32 on the CPU, or as `kept_for` has placed it.
        new_weights: names of the weights that its files lack and that each trial draws by its own seed.
        device: where the copies of trials lie.
    """

    module: Any
    new_weights: tuple[str, ...] = ()
    device: torch.device | None = None

    def kept_for(self, precision: Precision, device: torch.device) -> BaseModel:
        """Round the weights to the trials' precision and move them to the GPU, or into pinned memory, in place.

        Weights that each trial draws stay in fp32, so that a seed draws the same numbers in every precision.
        """
        drawn = {id(self.module.get_parameter_or_buffer(name)) for name in self.new_weights}
        for weight in self.module.parameters():
            if weight.is_floating_point() and id(weight) not in drawn:
                weight.data = weight.data.to(torch_type(precision))
        if device.type == "cuda":
            _place(self.module, device)
        return BaseModel(self.module, self.new_weights, device)

    def for_trial(self, hp: Hyperparameters) -> Any:
        """Make a fresh copy, with the parts that a trial's hyperparameters add, and draw new weights.

        Everything that is drawn comes from torch's generator, which the trial has seeded.
        """
        module = self._copy()
        if self.new_weights:
            draw(module, self.new_weights)
        weights = (module.get_parameter_or_buffer(name) for name in self.new_weights)
        drawn = [weight for weight in weights if weight.requires_grad]
        with_parts(module, hp)
        for weight in drawn:  # LoRA freezes all that it is put into, but a random weight is of no use untrained
            weight.requires_grad_(True)
        return module

    def whole(self, hp: Hyperparameters) -> Any:
        """Make a copy in fp32 on the CPU, in which LoRA's updates are merged without rounding."""
        import torch

        return self.for_trial(hp).to("cpu", torch.float32)

    def plain(self) -> Any:
        """Make a copy in fp32 on the CPU, without the parts of any trial."""
        import torch

        return self._copy().to("cpu", torch.float32)

    @property
    def outline(self) -> Any:
        """Model of the same architecture, on which padding and caches are checked."""
        return self.module

    def _copy(self) -> Any:
        """Copy the module, each weight straight to the trials' device; weights that are tied stay one."""
        import torch

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().to(self.device or tensor.device, copy=True, non_blocking=True)

        copies: dict[int, Any] = {
            id(p): torch.nn.Parameter(moved(p), p.requires_grad) for p in self.module.parameters()
        }
        copies |= {id(buffer): moved(buffer) for buffer in self.module.buffers()}
        return copy.deepcopy(self.module, copies)


def with_parts(module: Any, hp: Hyperparameters) -> Any:
    """Add the parts of a trial's hyperparameters to its model: LoRA, gradient checkpointing."""
    if hp.lora_rank:
        lora.inject(module, hp)
    if hp.gradient_checkpointing:
        module.activation_checkpointing_enable({"use_reentrant": False})
    return module


def torch_type(precision: Precision) -> torch.dtype:
    """Return torch's name of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def is_kept_on_gpu(base_bytes: int, gpu_bytes: int) -> bool:
    """Tell whether a base stays on a GPU beside its trials; otherwise it waits in pinned memory of the host.

    Args:
        base_bytes: of the base in the trials' precision.
        gpu_bytes: of the GPU's memory, or of this process's share of it.
    """
    return base_bytes <= MAX_BASE_SHARE * gpu_bytes


def _place(module: Any, device: torch.device) -> None:
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if is_kept_on_gpu(size, memory.gpu_bytes(device) or 0):
        module.to(device)
        return
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.pin_memory()  # copies from it to the GPU need not wait


def draw(module: Any, names: Sequence[str]) -> None:
    """Draw weights anew, each as the model's own initialisation does, and touch no other."""
    drawn = {id(module.get_parameter_or_buffer(name)) for name in names}
    for part in module.modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        for tensor in own:
            tensor._is_hf_initialized = id(tensor) not in drawn
        part._is_hf_initialized = all(tensor._is_hf_initialized for tensor in own)
    module.initialize_weights()
