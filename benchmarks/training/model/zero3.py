"""ZeRO 3, where ranks hold shares of the weights: whole weights for an evaluation, and release of an ended engine."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.training.process import import_deepspeed

ZERO_3 = 3


@contextmanager
def gathered(engine: Any, enabled: bool = True) -> Iterator[None]:
    """Hold all weights of an engine's model whole meanwhile: they are gathered once, not in each forward pass.

    DeepSpeed's hooks are off meanwhile. They would release a weight after each use, and compare the order of modules
    with the other ranks in forward passes, of which ranks may take unequally many here.
    """
    if not enabled:
        yield
        return
    weights = list(engine.module.parameters())
    with import_deepspeed().zero.GatheredParameters(weights), _without_hooks(engine.optimizer.parameter_offload):
        yield


@contextmanager
def _without_hooks(offload: Any) -> Iterator[None]:
    """Take off the hooks by which DeepSpeed follows a model's modules, and put them back in their order."""
    handles = [*offload.forward_hooks, *offload.backward_hooks, offload.fwd_pre_hook]
    own = {handle.id for handle in handles}
    registers = {id(hooks): hooks for handle in handles if (hooks := handle.hooks_dict_ref()) is not None}
    before = [(hooks, dict(hooks)) for hooks in registers.values()]
    for hooks, all_hooks in before:
        for number in own & set(all_hooks):
            del hooks[number]
    try:
        yield
    finally:
        for hooks, all_hooks in before:
            hooks.clear()
            hooks.update(all_hooks)


def release_modules() -> None:
    """Forget the modules that DeepSpeed's globals keep after an engine of ZeRO 3 is destroyed.

    A forward pass pushes its modules on a stack, whose first entry DeepSpeed never pops, and from which an exception
    pops nothing. A cache of the parameters that each module releases holds modules too. Together they would keep 20
    bytes per parameter of every trial.
    """
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    parameter_offload.FWD_MODULE_STACK.clear()
    traced = vars(PartitionedParameterCoordinator)["_PartitionedParameterCoordinator__params_to_release"]
    for wrapped in inspect.getclosurevars(traced).nonlocals.values():  # a decorator for profiles hides the cache
        wrapped.cache_clear()
