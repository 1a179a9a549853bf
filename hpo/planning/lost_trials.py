"""Trials that studies lose to a limit of memory: `python -m hpo.planning.lost_trials`, for `benchmarks.measure.memory`.

Studies of `synthetic` on a virtual clock, with a simulated limit that a part of the search space exceeds, and without
the rescue by smaller micro-batches. Prints JSON: for each space its share of random draws that do not fit, and how many
studies lost 0, 1, 2, ... trials.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import spec
from benchmarks.out_of_memory import OUT_OF_MEMORY
from benchmarks.space import Choice, Domain
from benchmarks.spec import Benchmark
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.engine.runner import Finished
from hpo.search import registry

DRAWS = 400
"""Random draws by which the share that does not fit is told."""


def choice(*values: Any) -> Choice:
    """Make a domain of these values."""
    return Choice(type="choice", values=values)


SPACES: Mapping[str, tuple[float, Mapping[str, Domain]]] = {
    "four batch sizes": (8, {"batch_size_per_device": choice(4, 8, 16, 32)}),
    "seven batch sizes": (8, {"batch_size_per_device": choice(1, 2, 4, 8, 16, 32, 64)}),
    "batch size and rank": (24, {"batch_size_per_device": choice(4, 8, 16), "lora_rank": choice(4, 16, 64)}),
    "batch size and checkpointing": (
        8,
        {"batch_size_per_device": choice(4, 8, 16, 32, 64), "gradient_checkpointing": choice(True, False)},
    ),
}
"""Limit and domains by name; the other hyperparameters are those of `synthetic`."""


def benchmark_of(limit: float, domains: Mapping[str, Domain]) -> Benchmark:
    """Make a benchmark whose memory holds a forward pass of `limit` samples, with these domains."""
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    curves = {**content["synthetic"], "memory_limit": limit, "seconds_per_unit": 0.01}
    space = {**content["space"], **{name: domain.model_dump(mode="json") for name, domain in domains.items()}}
    return Benchmark.model_validate({**content, "synthetic": curves, "space": space, "rescue": False})


def out_of_memory(finished: Finished) -> int:
    """Count the trials of a study that ran out of memory."""
    return sum(row.reason.startswith(OUT_OF_MEMORY) for row in finished.books.rows)


def lost(benchmark: Benchmark, method: str, devices: int, budget: int, seed: int) -> int:
    """Run a study; return the number of trials that ran out of memory."""
    return out_of_memory(simulated(registry.get(method).study(benchmark, seed, budget, None, {}), InProcess(devices)))


def too_large(benchmark: Benchmark) -> float:
    """Return the share of random draws that do not fit, by one trial of a unit for each."""
    once = benchmark.model_copy(update={"resource": benchmark.resource.model_copy(update={"max_units": 1})})
    study = Study("random", once, seed=0, budget=DRAWS, kind="confirmation")
    finished = simulated(study, InProcess(1), registry.get("random").make_plan(study))
    return out_of_memory(finished) / len(finished.books.rows)


def measure(methods: Sequence[str], devices: Sequence[int], budget: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Yield a row of figures for each space."""
    for name, (limit, domains) in SPACES.items():
        benchmark = benchmark_of(limit, domains)
        found = Counter(
            lost(benchmark, method, number, budget, seed)
            for method in methods
            for number in devices
            for seed in range(seeds)
        )
        yield {"space": name, "too_large": too_large(benchmark), "lost": dict(sorted(found.items()))}


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m hpo.planning.lost_trials", description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="+", choices=registry.names())
    parser.add_argument("--devices", type=int, nargs="+", required=True)
    parser.add_argument("--budget", type=int, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    given = parser.parse_args()
    json.dump(list(measure(given.methods, given.devices, given.budget, given.seeds)), sys.stdout)


if __name__ == "__main__":
    main()
