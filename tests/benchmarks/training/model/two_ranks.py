"""Two processes as the ranks of a trial, for tests of what their evaluations and their shares are."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing

from benchmarks.spec import Benchmark


def print_results(rank_of_two: Callable[..., None]) -> None:
    """Run both ranks of the benchmark in the file that the command line names; print their results, in order.

    Args:
        rank_of_two: a process, called with its rank, the file of the store, the benchmark, and a queue for one
            tuple that begins with the rank.
    """
    benchmark = Benchmark.model_validate_json(Path(sys.argv[1]).read_text())
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=rank_of_two, args=(rank, f"{folder}/store", benchmark, results)) for rank in (0, 1)
        ]
        for process in ranks:
            process.start()
        found: list[Any] = sorted((results.get(timeout=200) for _ in ranks), key=lambda result: result[0])
        for process in ranks:
            process.join()
    print(json.dumps(found))
