"""Computing time of replays: `python -m hpo.replays.timing` prints one JSON line for `benchmarks.measure.simulator`.

ASHA runs on computed curves, so that the time is the simulation's alone; each method runs on a recorded benchmark, with
the model of its curves. Seconds are those that this process computed, which other processes do not prolong.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from typing import Any

from benchmarks import spec
from benchmarks.clock import computed_seconds
from hpo.cluster import garbage
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.simulated import simulated
from hpo.replays.one_study import replay
from hpo.search import registry

DEVICES = 2


def asha(trials: int, seeds: int) -> dict[str, Any]:
    """Time ASHA with so many trials on computed curves, once per seed; the first seed warms up and does not count."""
    seconds, units = [], 0
    for seed in range(seeds + 1):
        study = Study("asha", spec.load("synthetic"), seed, budget=trials)
        plan = replace(registry.get("asha").make_plan(study), num_samples=trials)
        began = computed_seconds()
        finished = simulated(study, InProcess(DEVICES), plan)
        seconds.append(computed_seconds() - began)
        units = finished.books.trained_units
        assert len(finished.books.rows) == trials
    return {"trials": trials, "units": units, "seconds": seconds[1:]}


def methods(name: str, budget: int, seeds: int) -> dict[str, float]:
    """Return the median seconds of a study of each method that can be replayed, its incumbent's fresh trainings too."""
    benchmark, found = spec.load(name), {}
    for method in registry.names():
        if registry.traits_of(method).varies_within_trials:
            continue
        studies = [registry.get(method).study(benchmark, seed, budget, None, {}) for seed in range(seeds + 1)]
        seconds = [replay(study, DEVICES, repeats=3).cpu_seconds for study in studies]
        found[method] = statistics.median(seconds[1:])
    return found


def main() -> None:
    """Measure one of the two, and print it."""
    parser = argparse.ArgumentParser(prog="python -m hpo.replays.timing", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, help="time ASHA with so many trials")
    parser.add_argument("--benchmark", default="nano_recorded")
    parser.add_argument("--budget", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    garbage.rest_while_importing()  # as the processes of a replay do
    garbage.collect_from_here()
    found = asha(given.trials, given.seeds) if given.trials else methods(given.benchmark, given.budget, given.seeds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
