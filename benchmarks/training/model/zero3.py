"""ZeRO 3, where ranks hold shares of the weights: whole weights for an evaluation, and release of an ended engine."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.training.process import import_deepspeed

ZERO_3 = 3
EVALUATION = -1
"""Stand-in for a module's number that keeps a weight in use; DeepSpeed counts modules from 0."""


@contextmanager
def gathered(module: Any, enabled: bool = True) -> Iterator[None]:
    """Hold all weights of a model whole meanwhile: they are gathered once, not in each forward pass.

    DeepSpeed's hooks release a weight after each use unless another module is still using it.
    """
    if not enabled:
        yield
        return
    weights = list(module.parameters())
    with import_deepspeed().zero.GatheredParameters(weights):
        for weight in weights:
            weight.ds_active_sub_modules.add(EVALUATION)
        try:
            yield
        finally:
            for weight in weights:
                weight.ds_active_sub_modules.discard(EVALUATION)


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
