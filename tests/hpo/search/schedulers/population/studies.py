"""Studies of a population: its members' exploits, schedules, and records in MLflow."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.core.books import Books
from hpo.core.events import Checkpoint, Event, Exploited, Unit
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.runner import Executor, Finished, execute

BUDGET, INTERVAL, SEED = 5, 3, 3
MAX_UNITS = 9
EXCHANGES = [3, 6]
SECONDS_PER_UNIT = 0.05


@dataclass(frozen=True)
class Exploit:
    """Takeover of a donor by a member, which goes on with `config`."""

    member: int
    donor: int
    units: int
    config: Config


@dataclass(frozen=True)
class Ran:
    """A study that has run, its exploits, and its runs in MLflow.

    Attributes:
        study: the study.
        finished: its end.
        exploits: in order of time.
        measured_seconds: device-seconds that its trials reported to the ledger.
    """

    study: Study
    finished: Finished
    exploits: list[Exploit]
    measured_seconds: float

    @property
    def rows(self) -> list[TrialRow]:
        return self.finished.books.rows

    @property
    def schedules(self) -> list[list[tuple[int, Config]]]:
        return [list(row.schedule) for row in self.rows]

    @cached_property
    def children(self) -> list[Run]:
        """Read the trials' runs, by number of the trial."""
        parent = MlflowClient().get_run(self.finished.run_id)
        wanted = f"tags.mlflow.parentRunId = '{self.finished.run_id}'"
        found = MlflowClient().search_runs([parent.info.experiment_id], filter_string=wanted)
        return sorted(found, key=lambda child: int(child.data.tags["hpo.trial"]))

    def history(self, member: int, metric: str) -> dict[int, float]:
        """Read a member's metric, by unit."""
        points = MlflowClient().get_metric_history(self.children[member].info.run_id, metric)
        return {point.step: point.value for point in points}

    def artifact(self, run_id: str, name: str) -> Any:
        return json.loads(Path(MlflowClient().download_artifacts(run_id, name)).read_text())

    def trained_with(self, member: int) -> dict[int, Config]:
        """Compute the configuration of each of a member's units from the exploits."""
        config, by_unit = self.rows[member].config, {}
        own = {exploit.units: exploit.config for exploit in self.exploits if exploit.member == member}
        for unit in range(1, MAX_UNITS + 1):
            config = own.get(unit - 1, config)
            by_unit[unit] = self.study.full_config(config)
        return by_unit


def synthetic(diverge_above: float | None = None, seconds_per_unit: float = SECONDS_PER_UNIT) -> Benchmark:
    benchmark = spec.load("synthetic")
    settings = spec.Synthetic(seconds_per_unit=seconds_per_unit, diverge_above=diverge_above)
    return benchmark.model_copy(update={"synthetic": settings})


def run_study(
    benchmark: Benchmark, executor: Executor, budget: int = BUDGET, seed: int = SEED, **arguments: Any
) -> Ran:
    study = Study("pbt", benchmark, seed, budget, arguments={"interval_units": INTERVAL, **arguments})
    exploits: list[Exploit] = []
    measured: list[float] = []
    apply = Books.apply

    def note(books: Books, event: Event) -> None:
        if isinstance(event, Exploited):
            member, donor = books[event.trial].number, books[event.donor].number
            exploits.append(Exploit(member, donor, event.units, event.config))
        if isinstance(event, Unit):
            measured.append(sum(event.seconds.values()))
        if isinstance(event, Checkpoint):
            measured.append(event.seconds)
        apply(books, event)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Books, "apply", note)
        finished = execute(study, "python -m hpo run pbt", Console(file=io.StringIO(), width=160), executor)
    assert finished.reason == ""
    return Ran(study, finished, exploits, sum(measured))
