"""This process as a rank of its trial: for jobs of one trial, and for trials that need no Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics

if TYPE_CHECKING:  # it costs seconds to import; only processes that train pay for it
    from benchmarks.training.session import Session


def open_rank(benchmark: Benchmark, threads: int, on_gpu: bool = False) -> Session:
    """Make this process a rank of its trial, by torchrun's variables, or its only one without them.

    Args:
        benchmark: the benchmark of the trials.
        threads: CPU threads of the rank.
        on_gpu: whether the rank was given a GPU, without which it does not train.
    """
    from benchmarks.devices.torch_device import require_gpu
    from benchmarks.training.process import join_process_group, prepare_process
    from benchmarks.training.session import Session

    prepare_process(threads)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu:
        require_gpu(local_rank)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    store = None
    if world_size > 1:
        from torch.distributed.rendezvous import rendezvous

        store, rank, world_size = next(iter(rendezvous("env://")))
    timeout_seconds = benchmark.training_settings().timeout_seconds
    join_process_group(rank, world_size, local_rank, store, timeout_seconds)
    return Session(benchmark)


class OwnRank:
    """The only rank of trials, in this process; the same interface as `ranks.Ranks`.

    Args:
        benchmark: one whose trials have one rank.
        threads: CPU threads, if this process is not a rank yet.
        on_gpu: see `open_rank`.
    """

    def __init__(self, benchmark: Benchmark, threads: int = 1, on_gpu: bool = False) -> None:
        import torch.distributed

        from benchmarks.training.session import Session

        joined = torch.distributed.is_initialized()  # by an earlier one
        self._session = Session(benchmark) if joined else open_rank(benchmark, threads, on_gpu)

    def token_statistics(self) -> list[TokenStatistics]:
        """See `session.Session.token_statistics`."""
        return self._session.token_statistics()

    def precision(self) -> str:
        """See `session.Session.precision`."""
        return self._session.precision()

    def start(self, config: Config, seed: int) -> None:
        """See `session.Session.start`."""
        self._session.start(config, seed)

    def run_unit(self) -> dict[str, float]:
        """See `session.Session.run_unit`."""
        return self._session.run_unit()

    def evaluate(self, split: str) -> dict[str, float]:
        """See `session.Session.evaluate`."""
        return self._session.evaluate(split)

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """See `session.Session.evaluate_each`."""
        return self._session.evaluate_each(split)

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """Write a checkpoint, to the disk in any case."""
        self._session.save(folder)

    def load(self, folder: Path) -> None:
        """See `session.Session.load`."""
        self._session.load(folder)

    def close(self) -> None:
        """End the trial; the process stays."""
        self._session.close()
