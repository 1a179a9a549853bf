"""A tracking store as a year of studies leaves it, made in a minute, and how long a comparison of it takes.

    python -m tests.hpo.analysis.large_store    300 studies of 50 trials of 9 units, in a temporary folder
    python -m tests.hpo.analysis.large_store --studies 30 --keep folder

Trials are those of the synthetic benchmark, without waiting. The files of a study are written by the suite's own
functions; the runs, of which there are tens of thousands, go into MLflow's tables by the thousand.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import identity, spec
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.trials.synthetic import expected_loss
from hpo.analysis import compare, importance, records
from hpo.core import events as core
from hpo.core.books import Books
from hpo.core.ledger import PARTS, Shares
from hpo.core.study import CONFIRMS, PROTOCOL, SCHEDULE, TRAINING_SEED, Study, fresh_seeds, objective
from hpo.report import page as report
from hpo.report import tables
from hpo.report.figures import catalogue
from hpo.store import client as store
from hpo.store.files import devices_csv, ledger_csv, trials_csv, units_csv

METHODS = ("asha", "bohb", "hyperband", "hyperopt", "manual", "optuna", "pb2", "pbt", "random", "median")
UNIT_SECONDS = 1.0
DEVICES = 2


@dataclass
class Tables:
    """Rows for MLflow's tables."""

    runs: list[tuple[Any, ...]] = field(default_factory=list)
    tags: list[tuple[Any, ...]] = field(default_factory=list)
    params: list[tuple[Any, ...]] = field(default_factory=list)
    metrics: list[tuple[Any, ...]] = field(default_factory=list)
    latest: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, name: str, folder: Path, experiment_id: int, tags: Mapping[str, Any]) -> str:
        """A run; returns its id."""
        run_id, now = uuid.uuid4().hex, len(self.runs)
        times = ("FINISHED", now, now + 1, "", "active")
        self.runs.append(
            (run_id, name, "UNKNOWN", "", "", "unknown", *times, f"{folder}/{run_id}/artifacts", experiment_id, None)
        )
        self.tags += [(key, str(value), run_id) for key, value in {"mlflow.runName": name, **tags}.items()]
        return run_id

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0, is_last: bool = True) -> None:
        """Metrics at a step."""
        self.metrics += [(key, value, step, run_id, step, 0) for key, value in metrics.items()]
        if is_last:
            self.latest += [(key, value, step, step, 0, run_id) for key, value in metrics.items()]

    def insert(self, database: Path) -> None:
        """All at once."""
        with sqlite3.connect(database) as connection:
            for name, rows in (
                ("runs", self.runs),
                ("tags", self.tags),
                ("params", self.params),
                ("metrics", self.metrics),
                ("latest_metrics", self.latest),
            ):
                marks = ",".join("?" * len(rows[0]))
                connection.executemany(f"insert into {name} values ({marks})", rows)


def generate(folder: Path, studies: int, trials: int, repeats: int = 1) -> str:
    """Make a store of so many studies, each with so many trials, and their confirmations.

    Returns:
        Its URI, which the variable MLFLOW_TRACKING_URI has from now on.
    """
    benchmark = spec.load("synthetic")
    uri = os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    _, experiment_id = store.open_experiment(benchmark.name)
    rows, artifacts = Tables(), folder / "artifacts"
    wanted = [(METHODS[n % len(METHODS)], n // len(METHODS)) for n in range(studies)]
    proposals = []
    for method, seed in wanted:
        study = Study(method, benchmark, seed)
        results = search(study, proposed(benchmark, random.Random(f"{method} {seed}"), trials))
        write(rows, artifacts, int(experiment_id), study, results)
        best = results.incumbent()
        if best:
            proposals += [(fresh, best.config) for fresh in fresh_seeds(seed, repeats)]
    confirmation = Study("confirm", benchmark, budget=len(proposals), kind="confirmation")
    trained = search(confirmation, ({CONFIRMS: {TRAINING_SEED: s, SCHEDULE: [(0, c)]}} for s, c in proposals))
    write(rows, artifacts, int(experiment_id), confirmation, trained)
    rows.insert(folder / "mlflow.db")
    return uri


def proposed(benchmark: Benchmark, chance: random.Random, number: int) -> Iterator[Config]:
    for _ in range(number):
        yield {
            "learning_rate": 10 ** chance.uniform(-5, -1.5),
            "batch_size_per_device": chance.choice([4, 8, 16]),
            "weight_decay": chance.choice([0.0, 0.01]),
        }


def search(study: Study, proposals: Iterator[Mapping[str, Any]]) -> Books:
    """Train every proposal to the end, two at a time as the clock has it."""
    events, benchmark, books = list[core.Event](), study.benchmark, Books(study.benchmark)
    for number, proposal in enumerate(proposals):
        name, began = str(number), number // DEVICES * study.max_units * UNIT_SECONDS
        start = core.proposed(study, name, number, proposal, began)
        events += [start, core.Began(began, name, 1.0)]
        config = start.schedule[0][1]
        noise = random.Random(f"{start.seed} {config}")
        for units in range(1, study.max_units + 1):
            loss = expected_loss(benchmark.hyperparameters(config), units / study.max_units) + noise.gauss(0, 0.01)
            metrics = {"eval_loss": loss, "perplexity": 2.0, "exact_match": 1 / (1 + loss), "f1": 1.1 / (1 + loss)}
            metrics |= {"train_loss": loss, "samples_per_second": 100.0, "peak_memory_mb": 10.0}
            if study.kind == "confirmation" and units == study.max_units:
                metrics |= {"test_eval_loss": loss, "test_exact_match": 1 / (1 + loss), "test_f1": 1.1 / (1 + loss)}
            score = objective(benchmark, metrics)
            result = {**metrics, "units": units, "objective": score, "diverged": False, "train_seconds": UNIT_SECONDS}
            events.append(core.unit(study.benchmark, name, result, began + units * UNIT_SECONDS))
        ended = "completed", f"reached the full resource of {study.max_units} units"
        events.append(core.Ended(began + study.max_units * UNIT_SECONDS, name, *ended))
    for event in sorted(events, key=lambda event: event.at):
        books.apply(event)
    return books


def write(rows: Tables, folder: Path, experiment_id: int, study: Study, results: Books) -> None:
    """A study's runs and files."""
    benchmark, best = study.benchmark, results.incumbent()
    digest = identity.digest(benchmark)
    tags = {"hpo.kind": study.kind, "hpo.method": study.method, "hpo.variant": "", "hpo.seed": study.seed}
    tags |= {"hpo.budget": study.budget, "hpo.gpu_hours": "", "hpo.accelerator": "cpu", "hpo.protocol": PROTOCOL}
    tags |= {"hpo.benchmark_digest": digest, "hpo.space_digest": study.space_digest}
    tags |= {"hpo.fingerprint": study.fingerprint(digest), "hpo.benchmark": benchmark.name}
    parent = rows.add(study.name, folder, experiment_id, tags)
    wall_seconds = max(row.ended_seconds or 0.0 for row in results.rows)
    seconds = {**dict.fromkeys(PARTS, 0.0), "train": wall_seconds * DEVICES}
    shares = Shares(seconds, wall_seconds * DEVICES)
    totals = {"device_hours": shares.device_hours, "gpu_hours": 0.0, "wall_seconds": wall_seconds}
    totals |= {"num_trials": len(results.rows), "units": len(results.units), "utilization": 1.0}
    totals |= {f"device_hours_{part}": value / 3600 for part, value in shares.seconds.items()}
    assert best is not None
    totals |= {f"best_{key}": best.metrics[key] for key in ("eval_loss", "exact_match", "f1")}
    rows.log(parent, totals)
    children = write_trials(rows, folder, experiment_id, parent, study, results)
    files = {
        "benchmark.json": benchmark.model_dump_json(),
        "trials.csv": trials_csv(benchmark, results.rows),
        "units.csv": units_csv(benchmark, results.units),
        "ledger.csv": ledger_csv(shares),
        "devices.csv": devices_csv([(0.0, DEVICES), (wall_seconds, 0.0)]),
        "best_config.json": best_config(study, best.config, best.metrics, children[best.number]),
    }
    place = folder / parent / "artifacts"
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)


def best_config(study: Study, config: Config, metrics: Mapping[str, float], run_id: str) -> str:
    about = {"benchmark": study.benchmark.name, "method": study.method, "seed": study.seed, "units": study.max_units}
    return json.dumps({**about, "config": config, "metrics": metrics, "run_id": run_id})


def write_trials(
    rows: Tables, folder: Path, experiment_id: int, parent: str, study: Study, results: Books
) -> list[str]:
    """The children's runs, with each unit's metrics."""
    children = []
    for row in results.rows:
        tags = {"mlflow.parentRunId": parent, "hpo.kind": "trial", "hpo.trial": row.number, "hpo.seed": row.seed}
        tags |= {"hpo.outcome": row.outcome, "hpo.reason": row.reason}
        children.append(rows.add(f"trial {row.number} of {study.name}", folder, experiment_id, tags))
        rows.params += [(key, str(value), children[-1]) for key, value in row.config.items()]
    for unit in results.units:
        rows.log(children[unit.trial], unit.metrics, unit.units, is_last=unit.units == study.max_units)
    return children


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="folder for the store; by default it is removed")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = parsed.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        uri = generate(folder, parsed.studies, parsed.trials)
        made = time.monotonic()
        result = compare.compare(records.read("synthetic"))
        found = importance.importances(result.studies, result.benchmark)
        figures = catalogue.all_of(result, tables.importance_shares(found))
        texts = {**tables.files(result), **report.files(result, figures)}
        ended = time.monotonic()
    print(f"{parsed.studies} studies of {parsed.trials} trials in {uri}, made in {made - began:.1f} s")
    sizes = f"{len(result.standings)} methods, {len(result.pairs)} pairs, {len(texts)} files"
    print(f"compared in {ended - made:.1f} s: {sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
