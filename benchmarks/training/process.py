"""A rank's process: settings that come before torch, the process group, DeepSpeed made quiet, and random states."""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import gc
import os
import random
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # from malloc.h


def prepare_process(threads: int, keep_freed_memory: bool = True) -> None:
    """Make the settings that a process needs before it imports torch and deepspeed. Call once, first.

    Args:
        threads: CPU threads for tensor operations.
        keep_freed_memory: tell glibc not to hand freed pages back after every step; measured on 2 cores,
            up to half of a CPU step was the kernel taking pages and giving them back (`benchmarks.measure.speed`).
    """
    if keep_freed_memory:
        _keep_freed_memory()
    set_up_threads(threads)
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # DeepSpeed asks torch to unpickle everything in a checkpoint
    import torch

    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"


def set_up_threads(threads: int) -> None:
    """Set the variables that OpenMP reads once, as torch is imported.

    Threads that wait for the last one of them sleep, unless OMP_WAIT_POLICY says otherwise. By OpenMP's default they
    spin, and may take from the last one the core that it waits for: beside other work, a step of two threads took
    several times as long (`benchmarks.measure.speed`). The policy changes no sum.

    Args:
        threads: CPU threads for tensor operations.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_freed_memory() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)


def join_process_group(
    rank: int = 0, world_size: int = 1, local_rank: int = 0, store: Any = None, timeout_seconds: float | None = None
) -> None:
    """Join the process group of a trial's ranks; without arguments, a group of one. Joining again does nothing.

    Args:
        rank: this process's place, from 0.
        world_size: ranks of the trial.
        local_rank: index of this rank's device among those visible on its node.
        store: a `torch.distributed` store that all ranks share; needed where `world_size` > 1.
        timeout_seconds: time after which a rank that waits for the others in vain fails; None for torch's default.
    """
    import torch
    from torch._C._distributed_c10d import HashStore

    if torch.distributed.is_initialized():
        return
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store or HashStore(),
        rank=rank,
        world_size=world_size,
        timeout=None if timeout_seconds is None else timedelta(seconds=timeout_seconds),
        device_id=torch.device("cuda", local_rank) if on_gpu else None,  # NCCL connects now, and shows if it cannot
    )
    import_deepspeed()


def import_deepspeed() -> Any:
    """Import DeepSpeed, quiet, and without its shared-memory reduction, which it would compile on first use.

    gloo reduces between CPU ranks as it is; the compiled kernel would only be a faster way to the same sums,
    and costs 20 s and a C++ compiler.
    """
    import logging

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with _without("mlflow"):  # DeepSpeed's autotuner imports it if it can: most of a second in every rank
        import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "0").replace(",", "").isdecimal():
        _let_torch_tell_memory()
    _allow_in_checkpoints()
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _let_torch_tell_memory() -> None:
    """Keep DeepSpeed from asking the driver for free memory: it reads numbers in CUDA_VISIBLE_DEVICES, and no UUIDs.

    ZeRO 1 and 2 ask before they lay weights out, and would raise. A slice (MIG) has no number.
    """
    from deepspeed.accelerator import cuda_accelerator

    cuda_accelerator.pynvml = None


def save_random_states(path: Path) -> None:
    """Write the states of the generators that a training may draw from: Python's, numpy's, torch's, and its GPU's.

    The file holds tensors alone, so that reading it runs no code.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file

    _, words, gauss = random.getstate()
    legacy: Any = np.random.get_state()  # of the generator that libraries draw from
    kind, keys, position, has_gauss, cached_gauss = legacy
    assert kind == "MT19937"
    states = {
        "python": torch.tensor(words),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss]),
        "numpy_gauss": torch.tensor([cached_gauss], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, path)


def load_random_states(path: Path) -> None:
    """Restore the states of a file of `save_random_states`."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    states: dict[str, torch.Tensor] = load_file(path)
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    *numpy_keys, position, has_gauss = states["numpy"].tolist()
    [cached_gauss] = states["numpy_gauss"].tolist()
    np.random.set_state(("MT19937", np.array(numpy_keys, dtype=np.uint32), position, has_gauss, cached_gauss))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def hide_from_collector() -> None:
    """Hide all present objects from the garbage collector: collecting a trial then takes 10 ms, not 500."""
    if gc.get_freeze_count():  # a session before this one may have ended
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def _allow_in_checkpoints() -> None:
    """Name the classes that DeepSpeed writes into its checkpoints beside tensors; torch reads no others.

    Python 3.11.2, Debian's, writes a member of an enumeration as a call of `getattr`, which torch refuses to read: a
    stage is written as later versions do.
    """
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])
    copyreg.pickle(ZeroStageEnum, lambda stage: (ZeroStageEnum, (stage.value,)))


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Make a module that is not imported yet look absent to optional imports."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
