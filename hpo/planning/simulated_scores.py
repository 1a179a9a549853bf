"""Confirmed test scores of many studies, run in this process: `python -m hpo.planning.simulated_scores`.

Each study runs as `hpo run` runs it, on trials that compute or read their curves (`synthetic`, or a recorded
benchmark), and on a clock that jumps. Its incumbent is then trained again with the fresh seeds of its block, as
`confirm` does. Nothing is stored but the table, a row for each study, with the columns of
`figure_confirmed_scores.csv`. Studies that the table has already are left out, so a run that was ended goes on.

    python -m hpo.planning.simulated_scores --benchmark synthetic --seeds 40 --output scores.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray import tune
from ray.tune.search import BasicVariantGenerator

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from hpo.core.results import TrialRow
from hpo.core.study import CONFIRMS, SCHEDULE, TRAINING_SEED, Study, fresh_seeds
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.planning.contest import ALL, SuiteMethod, parse_methods
from hpo.search.plan import Plan

COLUMNS = ("method", "seed", "score")


def score(
    contestant: SuiteMethod, benchmark: Benchmark, seed: int, repeats: int, metric: Metric, devices: int
) -> float:
    """Run a study and confirm it; return the mean test score, the worst one if it found nothing.

    Args:
        contestant: method, arguments and budget.
        benchmark: whose trials need no other process.
        seed: of the study, and of its block.
        repeats: fresh trainings of the incumbent.
        metric: of the score.
        devices: trials at once.
    """
    executor = InProcess(devices)
    found = simulated(contestant.study(benchmark, seed, None), executor).books.incumbent()
    if found is None:
        return metric.worst
    seeds = fresh_seeds(seed, repeats)
    rows = _confirm(benchmark, found, seeds, executor)
    scores = [row.metrics[f"test_{metric.name}"] if row.outcome == "completed" else metric.worst for row in rows]
    return sum(scores) / repeats


def _confirm(benchmark: Benchmark, found: TrialRow, seeds: Sequence[int], executor: InProcess) -> list[TrialRow]:
    schedule = [[units, config] for units, config in found.schedule]
    proposals = [{TRAINING_SEED: seed, SCHEDULE: schedule} for seed in seeds]
    study = Study("confirm", benchmark, 0, len(seeds), kind="confirmation")
    plan = Plan(BasicVariantGenerator(), {CONFIRMS: tune.grid_search(proposals)}, num_samples=1, is_list=True)
    return simulated(study, executor, plan).books.rows


def _name(study: Study, budget: int) -> str:
    """Name a contestant as `compare` does."""
    own = f"budget={study.budget}" if study.budget != budget else ""
    return " ".join(filter(None, [study.method, study.variant, own]))


def _rows(path: Path) -> Iterator[tuple[str, int]]:
    """Read the studies that a table has."""
    if path.is_file():
        with path.open() as file:
            yield from ((row["method"], int(row["seed"])) for row in csv.DictReader(file))


def main(words: Sequence[str] | None = None) -> int:
    """Run what the table lacks, block by block."""
    parser = argparse.ArgumentParser(prog="python -m hpo.planning.simulated_scores", description="see the module")
    parser.add_argument("--benchmark", default="synthetic", help="name or YAML file (default: synthetic)")
    parser.add_argument("--methods", default=ALL, help="comma list as in `suite` (default: all)")
    parser.add_argument("--seeds", type=int, default=40, help="blocks, from seed 0 (default: 40)")
    parser.add_argument("--budget", type=int, default=12, help="full trainings of a study (default: 12)")
    parser.add_argument("--repeats", type=int, default=3, help="trainings that confirm an incumbent (default: 3)")
    parser.add_argument("--metric", help="of the scores (default: the last of the task's)")
    parser.add_argument("--devices", type=int, default=2, help="trials at once (default: 2)")
    parser.add_argument("--output", type=Path, required=True, help="the table, which is gone on with if it is there")
    given = parser.parse_args(words)
    try:
        _fill(given)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _fill(given: argparse.Namespace) -> None:
    benchmark = spec.load(given.benchmark)
    named = {metric.name: metric for metric in benchmark.metrics}
    metric = named[given.metric] if given.metric in named else list(named.values())[-1]
    there = set(_rows(given.output))
    with given.output.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if not there:
            table.writerow(COLUMNS)
        for seed in range(given.seeds):
            for contestant in parse_methods(given.methods, given.budget):
                name = _name(contestant.study(benchmark, seed, None), given.budget)
                if (name, seed) not in there:
                    found = score(contestant, benchmark, seed, given.repeats, metric, given.devices)
                    table.writerow([name, seed, f"{found:.6f}"])
                    file.flush()


if __name__ == "__main__":
    sys.exit(main())
