"""Usage: python shares_of_ranks.py BENCHMARK.json: starts a trial in shares on two ranks, and trains two steps.

Prints, as JSON, the bytes of weights that each rank holds between steps, those of all weights, and the losses.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.spec import Benchmark
from benchmarks.training import memory
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session


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


def main() -> None:
    benchmark = Benchmark.model_validate_json(Path(sys.argv[1]).read_text())
    context = torch.multiprocessing.get_context("spawn")
    found = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=rank_of_two, args=(rank, f"{folder}/store", benchmark, found)) for rank in (0, 1)
        ]
        for process in ranks:
            process.start()
        results = sorted(found.get(timeout=200) for _ in ranks)
        for process in ranks:
            process.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
