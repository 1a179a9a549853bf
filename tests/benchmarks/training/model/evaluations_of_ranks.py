"""Usage: python evaluations_of_ranks.py BENCHMARK.json: evaluates on two ranks, of which the second has less memory.

Prints, as JSON, for each rank: its number, scores with enough memory and with less, batch sizes that it tried, the
losses of two steps after each of the two, and the error of an evaluation for which no batch is small enough.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.spec import Benchmark
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.model.resting import BatchSize, largest_that_fits
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session
from tests.benchmarks.training.model.two_ranks import print_results

CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 4}
AMPLE, FOUND, LEFT, NONE = 512, 16, 4, 0
"""Largest batches that fit: before, as the size is found, for the trial that leaves less, and with no memory at all."""


def rank_of_two(rank: int, store: str, benchmark: Benchmark, results: Any) -> None:
    prepare_process(threads=1)
    join_process_group(rank, 2, 0, torch.distributed.FileStore(store, 2), timeout_seconds=60)
    limit, tried = [AMPLE], list[int]()
    logits = Evaluation.reference_logits

    def limited(evaluation: Evaluation, model: Any, examples: Any, prompts: Any) -> Any:
        tried.append(len(examples))
        if rank == 1 and len(examples) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return logits(evaluation, model, examples, prompts)

    def find(size: BatchSize, device: torch.device, is_whole: bool, run: Any) -> int:
        size.found = size.found or largest_that_fits(run, device)  # as on a GPU
        return size.found

    Evaluation.reference_logits = limited  # type: ignore[method-assign]
    BatchSize.find = find  # type: ignore[method-assign]
    session = Session(benchmark)
    session.start(CONFIG, 3)
    limit[0] = FOUND
    scores, losses = [session.evaluate()], [_two_steps(session)]
    limit[0] = LEFT
    tried.clear()
    session.start(CONFIG, 3)
    scores.append(session.evaluate())
    losses.append(_two_steps(session))
    sizes = sorted(set(tried), reverse=True)
    limit[0], error = NONE, ""
    try:
        session.evaluate()
    except MemoryError as raised:
        error = str(raised)
    results.put((rank, scores, sizes, losses, error))
    session.close()


def _two_steps(session: Session) -> list[float]:
    return [float(session.trial.train_step()) for _ in range(2)]


if __name__ == "__main__":
    print_results(rank_of_two)
