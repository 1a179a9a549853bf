"""ZeRO 3, where each rank holds a share of every weight: release of an ended engine."""

from __future__ import annotations

import inspect

ZERO_3 = 3


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
