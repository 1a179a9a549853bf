"""A trial in processes of its own, without Ray: for jobs that train one configuration and end.

    python -m hpo.engine.one_trial ORDER RESULTS

ORDER is a JSON file, see `Order`. RESULTS is a log of events (`hpo.core.event_log`): each resource unit is appended and
brought to the disk, so that no end of this process costs a unit that was trained.
Several ranks are started by torchrun, whose variables name the ranks; rank 0 writes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import REAL, Clock
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.training.own_rank import open_rank
from benchmarks.trials.trial import TrialThatEnds
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.ledger import MEASURED
from hpo.core.results import MICRO_BATCH, PRECISION, TOKENS
from hpo.core.study import is_diverged, objective


@dataclass(frozen=True)
class Order:
    """The training that this process is to do.

    Attributes:
        benchmark: the benchmark, with its `precision` settled.
        config: the proposal, complete.
        seed: drives model initialisation, dropout and data order.
        threads: CPU threads of each rank.
        began: when its processes were started, in seconds since the epoch.
        trial: the trial's id.
        study_began: second 0 of the study, in seconds since the epoch.
        on_gpu: whether each rank was given a GPU, without which it does not train.
        micro_batch: samples of a forward pass, if `config` is that of a rescue from running out of memory.
    """

    benchmark: Benchmark
    config: Config
    seed: int
    threads: int
    began: float
    trial: str = "0"
    study_began: float = 0.0
    on_gpu: bool = False
    micro_batch: int | None = None

    def write(self, path: Path) -> None:
        """Write it as `read` reads it."""
        path.write_text(json.dumps({**asdict(self), "benchmark": self.benchmark.model_dump(mode="json")}))

    @classmethod
    def read(cls, path: Path) -> Order:
        """Read the order of a file."""
        content = json.loads(path.read_text())
        return cls(**{**content, "benchmark": Benchmark.model_validate(content["benchmark"])})


def command(order: Path, results: Path, ranks: int) -> list[str]:
    """Return the command to run on this node."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return [sys.executable, *launcher, "-m", "hpo.engine.one_trial", str(order), str(results)]


def units(order: Order, process: TrialThatEnds, clock: Clock = REAL) -> Iterator[dict[str, Any]]:
    """Train to the full resource, or until the loss is lost; yield one result per unit.

    Args:
        order: the training.
        process: its process, not started.
        clock: the clock by which the order began.
    """
    process.start(order.config, order.seed)
    precision, tokens = process.precision(), {TOKENS: process.token_statistics()}
    mark, startup_seconds = clock.epoch(), clock.epoch() - order.began
    for _ in range(order.benchmark.resource.max_units):
        metrics = _of_all_ranks(process.run_unit())
        evaluate_seconds, _ = metrics.pop("evaluate_seconds"), metrics.pop("train_seconds")
        now = clock.epoch()
        parts = {**dict.fromkeys(MEASURED, 0.0), "startup": startup_seconds, "evaluate": evaluate_seconds}
        parts["train"] = now - mark - evaluate_seconds
        seconds = {f"{part}_seconds": seconds for part, seconds in parts.items()}
        rescued = {} if order.micro_batch is None else {MICRO_BATCH: order.micro_batch}
        yield {"at": now, **metrics, **seconds, PRECISION: precision, **tokens, **rescued}
        if is_diverged(order.benchmark, metrics):
            return
        mark, startup_seconds, tokens = now, 0.0, {}


def _of_all_ranks(metrics: dict[str, float]) -> dict[str, float]:
    """Return rank 0's metrics, with the peak memory of the rank that took most."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return metrics
    from torch import distributed

    peaks: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(peaks, metrics["peak_memory_mb"])
    return {**metrics, "peak_memory_mb": max(peaks)}


def main(order_file: Path, results: Path) -> None:
    """Train, and append one event per unit."""
    order = Order.read(order_file)
    benchmark, writes = order.benchmark, os.environ.get("RANK", "0") == "0"
    process = benchmark.trial_process(partial(open_rank, threads=order.threads, on_gpu=order.on_gpu))
    for result in units(order, process):
        if writes:
            judged = {"objective": objective(benchmark, result), "diverged": is_diverged(benchmark, result)}
            at = float(result["at"]) - order.study_began
            event_log.append(results, core.unit(benchmark, order.trial, {**result, **judged}, at))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
