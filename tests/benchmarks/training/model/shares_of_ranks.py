"""Usage: python shares_of_ranks.py BENCHMARK.json: starts a trial in shares on two ranks, and trains two steps.

Prints, as JSON, the bytes of weights that each rank holds between steps, those of all weights, and the losses.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.spec import Benchmark
from benchmarks.training import memory
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session
from tests.benchmarks.training.model.two_ranks import print_results


def rank_of_two(rank: int, store: str, benchmark: Benchmark, found: Any) -> None:
    prepare_process(threads=1)
    join_process_group(rank, 2, 0, torch.distributed.FileStore(store, 2))
    memory.gpu_bytes = lambda device: 1  # type: ignore[method-assign,unused-ignore]
    session = Session(benchmark)
    session.start({"learning_rate": 1e-3, "batch_size_per_device": 4}, 3)
    weights = list(session.trial.engine.module.parameters())
    held = sum(weight.ds_tensor.nbytes for weight in weights if not weight.ds_persist)
    whole = sum(weight.data.nbytes for weight in weights if not weight.ds_persist)
    expected = sum(2 * weight.ds_numel for weight in weights if not weight.ds_persist)
    losses = [float(session.trial.train_step()) for _ in range(2)]
    session.evaluate()
    found.put((rank, held, whole, expected, losses))
    session.close()


if __name__ == "__main__":
    print_results(rank_of_two)
