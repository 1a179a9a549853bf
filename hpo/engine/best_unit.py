"""The best unit of a training, kept so that it can be scored and saved at the end; see `Benchmark.select`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.spec import Benchmark
from hpo.core.study import Schedule, is_better, is_diverged, objective


class Saves(Protocol):
    """Ranks of a training, whose state can be written and read."""

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """Write a checkpoint; see `benchmarks.trials.trial.TrialProcess`."""

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""


class BestUnit:
    """The best unit of a training so far, on validation, and a checkpoint of it if one is wanted.

    Args:
        benchmark: gives metric and direction.
        new_folder: makes an empty folder for a checkpoint; None keeps none.
        value: objective of the best unit, in a training that goes on.
        units: the best unit itself.
        folder: the name of its checkpoint.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        new_folder: Callable[[], Path] | None = None,
        value: float | None = None,
        units: int = 0,
        folder: str | None = None,
    ) -> None:
        self._benchmark, self._new_folder = benchmark, new_folder
        self.value, self.units = value, units
        self.folder = Path(folder) if folder else None

    def see(self, ranks: Saves, metrics: Mapping[str, float]) -> None:
        """Take note of a unit; one that is better than all before it is kept, if the benchmark selects the best."""
        if not self._benchmark.selects_best:
            return
        value = objective(self._benchmark, metrics)
        is_new = self.value is None or is_better(self._benchmark, value, self.value)
        if is_diverged(self._benchmark, metrics) or not is_new:
            return
        self.value, self.units = value, int(metrics["units"])
        if self._new_folder is not None:
            self.drop()
            self.folder = self._new_folder()
            ranks.save(self.folder)

    def return_to(self, ranks: Saves) -> None:
        """Give the ranks the weights of the best unit, if a checkpoint of it is kept."""
        if self.folder is not None:
            ranks.load(self.folder)

    def to_json(self) -> str:
        """Write the last three arguments that would make it again."""
        return json.dumps({"value": self.value, "units": self.units, "folder": self.folder and str(self.folder)})

    def drop(self) -> None:
        """Delete the checkpoint."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


@contextmanager
def best_unit_of(benchmark: Benchmark) -> Iterator[BestUnit]:
    """Keep the best unit of a training in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="hpo-best-") as folder:
        yield BestUnit(benchmark, lambda: Path(tempfile.mkdtemp(dir=folder)))


def selected(benchmark: Benchmark, units: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the metrics of the unit that stands for a training: the last, or the best; none of none."""
    sound = [metrics for metrics in units if not is_diverged(benchmark, metrics)]
    if benchmark.selects_best and sound and sound[-1] is units[-1]:
        return (min if benchmark.mode == "min" else max)(sound, key=lambda metrics: metrics[benchmark.metric])
    return units[-1] if units else {}


def scheduled_units(ranks: Any, steps: Schedule, seed: int, max_units: int) -> Iterator[dict[str, float]]:
    """Train unit by unit; a schedule changes as a member of a population does: through a checkpoint."""
    ranks.start(steps[0][1], seed)
    due = dict(steps[1:])
    for unit in range(max_units):
        if unit in due:
            with tempfile.TemporaryDirectory(prefix="hpo-schedule-") as checkpoint:
                ranks.save(Path(checkpoint))
                ranks.start(due[unit], seed)
                ranks.load(Path(checkpoint))
        yield ranks.run_unit()
