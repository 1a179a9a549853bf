"""An engine at rest, for evaluation: no dropout, no gradients, whole weights, and the largest batch that fits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.out_of_memory import sign_of
from benchmarks.training import memory
from benchmarks.training.model.zero3 import ZERO_3, gathered

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
FIXED_BATCH_SIZE = 64
"""Batch size that "auto" stands for where nothing is tried: on a CPU, and where a GPU holds shares of the weights."""
MAX_BATCH_SIZE = 512
MAX_GATHERED_SHARE = 0.5
"""Share of a GPU's free memory up to which an evaluation at ZeRO 3 gathers the weights once."""
OTHER_RANK = "another rank ran out of memory"
"""Error of a rank whose own batch fitted."""


@contextlib.contextmanager
def at_rest(engine: Any, device: torch.device) -> Iterator[bool]:
    """Switch off dropout and gradients meanwhile, and at ZeRO 3 gather the weights once if they fit.

    Yields:
        True if this rank holds all weights whole.
    """
    import torch

    engine.eval()
    is_shared = engine.zero_optimization_stage() == ZERO_3
    is_whole = not is_shared or fits_whole(engine.module, device)
    try:
        with torch.no_grad(), gathered(engine, enabled=is_shared and is_whole):
            yield is_whole
    finally:
        engine.train()


def fits_whole(module: Any, device: torch.device) -> bool:
    """Tell whether every rank has room for all weights of a model whose shares it holds; every rank calls it."""
    if device.type != "cuda":
        return True
    size = sum(weight.ds_numel * weight.element_size() for weight in module.parameters())
    return fits_all(size <= MAX_GATHERED_SHARE * free_bytes(device), device)


def fits_all(fits: bool, device: torch.device) -> bool:
    """Tell whether something fits the memory of every rank; every rank calls it with its own answer."""
    import torch

    least = torch.tensor(int(fits), device=device)
    torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN)
    return bool(least)


def free_bytes(device: torch.device) -> int:
    """Count the memory of a GPU that this process may still take, blocks included that torch keeps for reuse."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    of_share = (memory.gpu_bytes(device) or 0) - allocated  # other trials may have left theirs free
    return min(int(free) + torch.cuda.memory_reserved(device) - allocated, of_share)


@dataclass
class BatchSize:
    """The largest batch of an evaluation that fits a GPU, found once, and halved if a later one leaves less room."""

    found: int = 0

    def halve(self) -> bool:
        """Take half of the size that was found; return False if none was, or it is 1."""
        if self.found < 2:
            return False
        self.found //= 2
        return True

    def find(self, device: torch.device, is_whole: bool, run: Callable[[int], object]) -> int:
        """Return the batch size; the first call tries powers of two, from large to small, until one fits.

        Args:
            device: this rank's; on a CPU nothing is tried.
            is_whole: this rank holds all weights. Otherwise nothing is tried: a rank that ran out of memory in the
                middle of ZeRO 3's communication would leave the others waiting.
            run: evaluates a batch of so many of the longest sequences.
        """
        if device.type == "cpu" or not is_whole:
            return FIXED_BATCH_SIZE
        if not self.found:
            self.found = largest_that_fits(run, device)
        return self.found


def largest_that_fits(run: Callable[[int], object], device: torch.device) -> int:
    """Find the largest power of two, at most `MAX_BATCH_SIZE`, that every rank can run; every rank calls it.

    Raises:
        Exception: not even one sequence fits; or something else went wrong.
    """
    size = MAX_BATCH_SIZE
    while True:
        _, failure = attempt(run, size)
        if fits_all(failure is None, device):
            return size
        if size == 1:
            raise failure or MemoryError(OTHER_RANK)
        size //= 2


def attempt(run: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    """Run something that may take more memory than there is.

    Returns:
        Its result, or the error that tells of memory, without the frames that would keep the tensors of its batch.
    """
    try:
        return run(*arguments), None
    except Exception as error:  # libraries of CUDA have words of their own for it
        if not sign_of(error):
            raise
        return None, error.with_traceback(None)
