"""Studies in this process, and the ways in which their actors die."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.core.study import Study
from hpo.engine.in_process import InProcess, Unstored
from hpo.engine.in_process.actors import Call, Death
from hpo.engine.runner import Finished, execute


def run(study: Study, executor: InProcess, folder: Path | None = None, run_id: str | None = None) -> Finished:
    """Run a study, or resume one, without storing it.

    Args:
        study: the study.
        executor: its executor.
        folder: the working directory; by default an empty one.
        run_id: the run to resume.
    """
    console = Console(file=io.StringIO(), width=160)
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(folder or empty):
        return execute(study, "python -m hpo", console, executor, run_id=run_id, open_tracker=Unstored)


def synthetic(
    max_units: int = 9,
    diverge_above: float | None = None,
    seconds_per_unit: float = 0.01,
    checkpoint_seconds: float = 60.0,
) -> Benchmark:
    """Make the synthetic benchmark with other settings."""
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    changes = {"diverge_above": diverge_above, "seconds_per_unit": seconds_per_unit}
    resource = benchmark.resource.model_copy(update={"max_units": max_units, "checkpoint_seconds": checkpoint_seconds})
    settings = benchmark.synthetic.model_copy(update=changes)
    return benchmark.model_copy(update={"resource": resource, "synthetic": settings})


def every(nth: int, method: str) -> Death:
    """Make each `nth` call of a method an actor's last."""
    calls = 0

    def dies(call: Call) -> bool:
        nonlocal calls
        calls += call.method == method
        return call.method == method and calls % nth == 0

    return dies


def first(is_deadly: Death) -> Death:
    """Make the first such call an actor's last."""
    number = 0

    def dies(call: Call) -> bool:
        nonlocal number
        deadly = is_deadly(call)
        number += deadly
        return deadly and number == 1

    return dies


def units_of(call: Call) -> int:
    """Count the units that the trial has when it is called for another; -1 for other calls."""
    return int(call.actor.instance.training_iteration) if call.method == "train" else -1
