"""The files that MLflow keeps with a study, as texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics
from hpo.core import metrics as stored
from hpo.core.ledger import MEASURED, Shares
from hpo.core.results import TrialRow, UnitRow
from hpo.core.study import schedule_digest
from hpo.core.text_tables import csv_text

RECORDS_FILE = "records.csv"
"""Artifact of a confirmation with the scores of each record of the test split."""


def schedule_of(row: TrialRow) -> list[dict[str, Any]]:
    """Return the configurations that trained a trial's weights, each with the units at which it took effect."""
    trained = [(units, config) for units, config in row.schedule if units < max(1, row.units)]
    return [{"units": units, "config": config} for units, config in trained]


def beyond_config(row: TrialRow) -> dict[str, Any]:
    """Return the parts of `best_config.json` that few trials have: schedule, micro-batch, an earlier unit."""
    schedule = schedule_of(row)
    rescued = {} if row.micro_batch is None else {"micro_batch": row.micro_batch}
    earlier = {"selected_unit": row.selected_unit} if row.last_metrics else {}
    return {**({"schedule": schedule} if len(schedule) > 1 else {}), **rescued, **earlier}


def varying(row: TrialRow) -> dict[str, float]:
    """Return `hp.<name>` of each number, where hyperparameters change within a trial."""
    return numbers(row.last_config) if row.varies else {}


def numbers(config: Config) -> dict[str, float]:
    """Return `hp.<name>` of each number of a configuration: parameters are texts, which nothing sorts or plots."""
    numeric = {name: value for name, value in config.items() if isinstance(value, (int, float))}
    return {f"hp.{name}": float(value) for name, value in numeric.items()}


def loggable(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out metrics that are not numbers: stores keep NaN badly, and a missing point is clear."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def metrics_of_unit(row: TrialRow) -> dict[str, float]:
    """Return the metrics of a trial's last unit, with its cost and the hyperparameters that change."""
    spent = {"device_seconds": row.device_seconds, "units": row.units}
    return loggable({**(row.last_metrics or row.metrics), **varying(row), **spent})


def rescue_tag(row: TrialRow) -> dict[str, str]:
    """Return the tag of a trial that was rescued, with its micro-batch."""
    return {} if row.micro_batch is None else {"hpo.micro_batch": str(row.micro_batch)}


def trials_csv(benchmark: Benchmark, rows: Sequence[TrialRow]) -> str:
    """Write one line per trial: number, outcome, units, seed, first hyperparameters, last metrics, times, reason."""
    names = list(dict.fromkeys(key for row in rows for key in row.config))
    tested = (key for key in stored.of_test(benchmark) if any(key in row.metrics for row in rows))
    metrics = [*stored.of_unit(benchmark), *tested]
    timing = ["device_seconds", "began_seconds", "ended_seconds"]
    by_model = ["by_model"] if any(row.by_model is not None for row in rows) else []
    first = ["trial", "outcome", "units", "trained_units", "seed", "schedule"]
    lines: list[list[Any]] = [[*first, *names, *metrics, *timing, *by_model, "reason"]]
    for row in rows:
        values = [row.metrics.get(key, "") for key in metrics]
        times = [round(row.device_seconds, 3), round(row.began_seconds, 3), round(row.ended_seconds or 0.0, 3)]
        config = [row.config.get(name, "") for name in names]
        schedule = schedule_digest(benchmark, row.schedule)
        counted = [row.number, row.outcome, row.units, row.trained_units, row.seed, schedule]
        lines.append([*counted, *config, *values, *times, *([row.by_model] if by_model else []), row.reason])
    return csv_text(lines)


def units_csv(benchmark: Benchmark, units: Sequence[UnitRow]) -> str:
    """Write one line per resource unit, in order of arrival: its end, the parts of its time, its metrics."""
    parts, names = [f"{part}_seconds" for part in MEASURED], stored.of_unit(benchmark)
    lines: list[list[Any]] = [["trial", "units", "ended_seconds", *parts, *names]]
    for unit in units:
        seconds = [round(unit.seconds.get(part, 0.0), 4) for part in MEASURED]
        metrics = [unit.metrics.get(key, "") for key in names]
        lines.append([unit.trial, unit.units, round(unit.ended_seconds, 4), *seconds, *metrics])
    return csv_text(lines)


def devices_csv(reservations: Sequence[tuple[float, float]]) -> str:
    """Write one line per number of reserved devices, and since when there were so many; see `Books.reservations`."""
    return csv_text([("since_seconds", "devices"), *reservations])


def records_csv(rows: Sequence[TrialRow]) -> dict[str, str]:
    """Write `records.csv`: packed figures of each record of the test split, one line per trial and figure.

    See `benchmarks.tasks.record_scores`; no file where no trial was scored on test.
    """
    lines = [(row.number, name, packed) for row in rows for name, packed in row.records.items()]
    return {RECORDS_FILE: csv_text([("trial", "figure", "values"), *lines])} if lines else {}


def token_metrics(tokens: Sequence[TokenStatistics]) -> dict[str, float]:
    """Return `<split>_mean_tokens` and `<split>_truncated_share` of every split."""
    means = {f"{split.split}_mean_tokens": split.mean for split in tokens}
    return means | {f"{split.split}_truncated_share": split.truncated_share for split in tokens}


def token_files(tokens: Sequence[TokenStatistics]) -> dict[str, str]:
    """Write `tokens.csv`, one line per split; no file without data."""
    names = [field.name for field in fields(TokenStatistics)]
    return {"tokens.csv": csv_text([names, *(astuple(split) for split in tokens)])} if tokens else {}


def ledger_csv(shares: Shares) -> str:
    """Write one line per part: device-seconds and share of the reserved time."""
    total = shares.reserved_seconds or 1.0
    parts = [(part, f"{seconds:.3f}", f"{seconds / total:.4f}") for part, seconds in shares.seconds.items()]
    reserved = ("reserved", f"{shares.reserved_seconds:.3f}", "1.0000")
    return csv_text([("part", "device_seconds", "share"), *parts, reserved])
