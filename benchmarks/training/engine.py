"""A trial's DeepSpeed engine: precision, optimizer, decay groups, hyperparameters, checkpoints and weights.

Hyperparameters are written into every param group after a restore, because a restored optimizer brings the values of
the trial that saved it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.files import BenchmarkError
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.training.checkpoint.writer import Writer, view, written_by
from benchmarks.training.deepspeed import Precision, precision_on
from benchmarks.training.model.zero3 import ZERO_3, release_modules
from benchmarks.training.process import import_deepspeed, load_random_states, save_random_states

if TYPE_CHECKING:  # torch and deepspeed cost seconds to import; only processes that train pay for them
    import torch

    from benchmarks.training.checkpoint.keeper import Memory
    from benchmarks.training.model.base import BaseModel
    from benchmarks.training.model.shares import BaseInShares

CHECKPOINT_TAG = "unit"
RANDOM_STATES = "random-states-{rank}.safetensors"
"""File of a checkpoint for each rank."""


def require_precision(settled: str) -> Precision:
    """Check that this rank's device has an arithmetic; "auto" is the driver's to settle, once for all ranks.

    Raises:
        BenchmarkError: it is "auto", or the device does not have it.
    """
    if settled == "auto":
        raise BenchmarkError(
            "precision is auto, but a rank takes fp32, bf16 or fp16; settle it with benchmarks.check.device first"
        )
    return choose_precision(settled)


def choose_precision(wanted: str) -> Precision:
    """Choose the arithmetic that "auto" means on this process's device, and check any other wish.

    Raises:
        BenchmarkError: the device does not have it.
    """
    import torch

    if not torch.cuda.is_available():
        return precision_on(wanted, None)
    return precision_on(wanted, torch.cuda.get_device_capability(), torch.cuda.get_device_name())


def make_engine(model: Any, hp: Hyperparameters, config: dict[str, Any], device: torch.device) -> Any:
    """Make a DeepSpeed engine around a model.

    Args:
        model: it is moved to the device, unless ZeRO 3 has built it in shares, which lie there.
        hp: the trial's hyperparameters.
        config: the DeepSpeed configuration, filled in.
        device: this rank's.
    """
    import torch

    if not any(hasattr(weight, "ds_id") for weight in model.parameters()):
        model.to(device)
    model.train()
    optimizer = torch.optim.AdamW(
        decay_groups(model, hp.weight_decay),
        lr=hp.learning_rate,
        betas=(hp.adam_beta1, hp.adam_beta2),
        eps=hp.adam_epsilon,
        fused=True,
    )
    engine, *_ = import_deepspeed().initialize(model=model, optimizer=optimizer, config=config)
    _undo_first_step(engine)
    return engine


def _undo_first_step(engine: Any) -> None:
    """Undo the step on zero gradients by which DeepSpeed's bf16 optimizer of stage 0 allocates Adam's moments.

    It would leave Adam's bias correction a step ahead, and the fp32 weights decayed once.
    """
    wrapped = getattr(engine.optimizer, "optimizer", None)
    if wrapped is None or not wrapped.state:  # ZeRO's optimizers leave the moments to the first step
        return
    for state in wrapped.state.values():
        for tensor in state.values():
            tensor.zero_()
    engine.optimizer.refresh_fp32_params()


def end_engine(engine: Any) -> None:
    """Free an engine with everything that it has allocated, once its caller lets go of it."""
    stage = engine.zero_optimization_stage()
    engine.destroy()
    if stage == ZERO_3:
        release_modules()


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make param groups as Hugging Face Trainer does: biases and norms are not decayed."""
    import torch
    from transformers.trainer_pt_utils import get_parameter_names

    not_decayed = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], not_decayed))
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay, "decays": True},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]  # LoRA trains neither biases nor norms


def write_hyperparameters(engine: Any, hp: Hyperparameters) -> None:
    """Write weight decay and Adam's numbers into every param group of the engine's optimizer, and the gradient norm.

    ZeRO's optimizers, and those of 16-bit training, clip gradients themselves, by a norm that a restore takes from the
    checkpoint; a plain optimizer is clipped by the engine, by its own configuration.
    """
    if hasattr(engine.optimizer, "clip_grad"):
        engine.optimizer.clip_grad = hp.max_grad_norm
    for group in engine.optimizer.param_groups:
        group["weight_decay"] = hp.weight_decay if group["decays"] else 0.0
        group["betas"] = (hp.adam_beta1, hp.adam_beta2)
        group["eps"] = hp.adam_epsilon


def write_learning_rate(engine: Any, rate: float) -> None:
    """Write the learning rate of the next step into every param group of the engine's optimizer."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def is_scaled_out(engine: Any) -> bool:
    """Tell whether fp16's dynamic loss scale is at its minimum after a skipped step: DeepSpeed raises at the next."""
    scaler: Any = getattr(engine.optimizer, "loss_scaler", None)
    if engine.was_step_applied() or not getattr(scaler, "dynamic", False):
        return False
    return bool(scaler.cur_scale <= scaler.min_scale)


def save_checkpoint(
    engine: Any,
    folder: Path,
    position: Mapping[str, int],
    rank: int,
    memory: Memory | None = None,
    left_out: Collection[str] = (),
) -> dict[str, int]:
    """Write weights, optimizer state, position and this rank's random states; every rank calls it.

    Args:
        engine: the trial's.
        folder: of the checkpoint, on the disk.
        position: of the trial in its training.
        rank: of this process.
        memory: of this node, which gets the files that it has room for, and brings them to the disk later.
        left_out: see `frozen_weights`.

    Returns:
        Bytes of each file that this rank has written, by its path within the folder.
    """
    writer = Writer(engine.checkpoint_engine, folder, memory, left_out)
    with written_by(engine, writer):
        engine.save_checkpoint(
            str(folder), CHECKPOINT_TAG, dict(position), save_latest=False, exclude_frozen_parameters=bool(left_out)
        )
    folder.mkdir(parents=True, exist_ok=True)  # on a node without rank 0
    states = RANDOM_STATES.format(rank=rank)
    save_random_states(folder / states)
    return {**writer.sizes, states: (folder / states).stat().st_size}


def load_checkpoint(
    engine: Any, folder: Path, rank: int, memory: Memory | None = None, left_out: Collection[str] = ()
) -> dict[str, Any]:
    """Restore everything that `save_checkpoint` wrote, hyperparameters included; returns the position.

    Raises:
        RuntimeError: the saved weights are not those of this trial's model.
    """
    needed = set(engine.module.state_dict()) - set(left_out) if left_out else ()
    writer = Writer(engine.checkpoint_engine, folder, memory, needed=needed)
    with written_by(engine, writer), view(folder, memory.paths(folder) if memory else {}) as seen:
        path, position = engine.load_checkpoint(
            str(seen), tag=CHECKPOINT_TAG, load_module_strict=not left_out, load_lr_scheduler_states=False
        )
    assert path is not None, f"no checkpoint in {folder}"
    load_random_states(folder / RANDOM_STATES.format(rank=rank))
    return dict(position)


def frozen_weights(engine: Any, base_model: BaseModel | BaseInShares) -> frozenset[str]:
    """Name the weights that a checkpoint need not have, since no step changes them: those of LoRA's base.

    A weight that is tied has several names. A base of which each trial draws weights by its seed is kept.
    """
    if getattr(base_model, "new_weights", ()):
        return frozenset()
    named = engine.module.named_parameters(remove_duplicate=False)
    return frozenset(name for name, weight in named if not weight.requires_grad)


def whole_weights(engine: Any, rank: int) -> dict[str, torch.Tensor]:
    """Copy all weights to the CPU of rank 0, none on the other ranks. ZeRO-3's shares are gathered one by one."""
    gathered_parameters = import_deepspeed().zero.GatheredParameters
    whole: dict[int, torch.Tensor] = {}  # by parameter, so that tied weights stay one
    named = engine.module.state_dict(keep_vars=True)
    for weight in named.values():
        with gathered_parameters([weight], enabled=hasattr(weight, "ds_id")):
            if rank == 0 and id(weight) not in whole:
                whole[id(weight)] = weight.detach().to("cpu", copy=True)
    return {name: whole[id(weight)] for name, weight in named.items()} if rank == 0 else {}
