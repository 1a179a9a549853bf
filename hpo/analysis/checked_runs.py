"""Runs of MLflow as records of studies and confirmations, or the reason why their files cannot be had. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from benchmarks.spec import Benchmark, BenchmarkError, first_line
from hpo.analysis.studies import Confirmation, StudyRecord, frame
from hpo.store import stored_trials
from hpo.store.files import RECORDS_FILE
from hpo.store.queries import Run
from hpo.store.reading import StoredFiles


@dataclass(frozen=True)
class Unreadable:
    """A stored run whose files cannot be had.

    Attributes:
        run_id: its run.
        name: the study for people; "a confirmation" for one of those.
        label: the study's label, see `StudyRecord.label`; empty for a confirmation.
        fault: the file and the reason.
    """

    run_id: str
    name: str
    label: str
    fault: str

    def __str__(self) -> str:
        return f"{self.name} (run {self.run_id}): {self.fault}"


def study_of(run: Run, files: dict[str, str]) -> StudyRecord:
    """Make the record of a study's run with these files, unchecked."""
    tags = run.data.tags
    return StudyRecord(
        run_id=run.info.run_id,
        method=tags["hpo.method"],
        variant=tags.get("hpo.variant", ""),
        seed=int(tags["hpo.seed"]),
        budget=int(tags["hpo.budget"]),
        tags=tags,
        metrics=run.data.metrics,
        started=run.info.start_time,
        files=files,
    )


def checked_study(run: Run, stored: StoredFiles, benchmark: Benchmark) -> StudyRecord | Unreadable:
    """Return a study of a benchmark, or the reason why its files cannot be had.

    A study without a sound trial has no `best_config.json`. If its run has a best score, the file was there once.
    """
    study, metrics = study_of(run, dict(stored.texts)), run.data.metrics
    has_found = any(name.startswith("best_") for name in metrics)
    fault = next((f"{name} cannot be read ({reason})" for name, reason in stored.faults.items()), "")
    if not fault and has_found and not stored.texts.get("best_config.json"):
        fault = "best_config.json is missing or empty, though the study found a configuration"
    has_trials = bool(metrics.get("num_trials")) and not _refused(run, "trials.csv")
    if not fault and has_trials and not stored.texts.get("trials.csv"):
        fault = "trials.csv is missing or empty, though the study had trials"
    if not fault and metrics.get("units") and not _refused(run, "units.csv") and not stored.texts.get("units.csv"):
        fault = "units.csv is missing or empty, though the study trained units"
    fault = fault or _content_fault(study, benchmark)
    if not fault and has_trials and len(study.trials) < metrics["num_trials"]:
        fault = f"trials.csv has {len(study.trials)} of {metrics['num_trials']:g} trials"
    fault = fault or _contradiction(study, benchmark)
    return Unreadable(run.info.run_id, f"{study.label} seed {study.seed}", study.label, fault) if fault else study


def _refused(run: Run, name: str) -> bool:
    """Tell whether the store did not take a file when the run ended, see `hpo.store.runs.log_files`."""
    return f"{name} (" in run.data.tags.get("hpo.refused_files", "")


def _content_fault(study: StudyRecord, benchmark: Benchmark) -> str:
    """Name the first damaged file of a study; empty if none is."""
    for name, is_sound in _SOUND.items():
        try:
            if study.files.get(name) and not is_sound(study, benchmark):
                return f"{name} is damaged: it lacks columns, keys or numbers that the suite writes there"
        except (BenchmarkError, ValueError, TypeError, KeyError, AttributeError) as error:
            return f"{name} is damaged ({first_line(error)})"
    return ""


def _contradiction(study: StudyRecord, benchmark: Benchmark) -> str:
    """Name the first part of a file that `trials.csv` has and the file lacks; empty if none is lacking."""
    trials, steps = study.trials, [config for _, config in study.schedule or ()]
    named = [name for name in benchmark.space if name in trials and trials[name].notna().all()]
    if lacking := [name for name in named if any(name not in config for config in steps)]:
        return f"best_config.json is damaged: it lacks {', '.join(lacking)}, which trials.csv has"
    if cut := _trials_with_fewer_units(study):
        return f"units.csv is damaged: it lacks units of trial {cut[0]}, which trials.csv has"
    return ""


def _trials_with_fewer_units(study: StudyRecord) -> list[int]:
    """List the trials of which `units.csv` lacks units; a row is one unit, and may be several of an imported study."""
    trials, units = study.trials, study.units
    if units.empty or "trained_units" not in trials:
        return []
    rows = units.groupby("trial")["units"].agg(["count", "max"]).max(axis=1)
    kept = trials["trial"].map(rows).fillna(0)
    return [int(trial) for trial in trials["trial"][kept < trials["trained_units"]]]


def _has_trials(study: StudyRecord, _: Benchmark) -> bool:
    return {"trial", "outcome"} <= set(study.trials)


def _has_units(study: StudyRecord, _: Benchmark) -> bool:
    return _has_numbers(study.units, "trial", "units", "ended_seconds")


def _has_devices(study: StudyRecord, _: Benchmark) -> bool:
    return _has_numbers(study.devices, "since_seconds", "devices")


def _has_numbers(table: pd.DataFrame, *columns: str) -> bool:
    """Tell whether a table has a number in each row of these columns."""
    return set(columns) <= set(table) and all(pd.to_numeric(table[name]).notna().all() for name in columns)


def _has_best(study: StudyRecord, benchmark: Benchmark) -> bool:
    """Tell whether an incumbent has its units, its score, and configurations that the benchmark trains."""
    best = study.best or {}
    score = best["metrics"][benchmark.metric]
    for _, config in study.schedule or ():
        benchmark.hyperparameters(config)
    return int(best["units"]) > 0 and math.isfinite(score)


_SOUND = {
    "trials.csv": _has_trials,
    "units.csv": _has_units,
    "devices.csv": _has_devices,
    "best_config.json": _has_best,
}
"""Files of a study, and the check that each has the columns or keys that are read of it."""


def checked_confirmations(run: Run, stored: StoredFiles, benchmark: Benchmark) -> list[Confirmation] | Unreadable:
    """Return the confirmations of a run, or the reason why they cannot be had; none of a run that did not end."""
    metrics = run.data.metrics
    fault = next((f"{name} cannot be read ({reason})" for name, reason in stored.faults.items()), "")
    if not fault and metrics.get("num_trials") and not stored.texts.get("trials.csv"):
        fault = "trials.csv is missing or empty, though trainings ended"
    try:
        trials = frame(stored.texts.get("trials.csv", ""))
        if len(trials) and not {"seed", "schedule"} <= set(trials):
            raise KeyError("seed and schedule")
        found = _confirmations(trials, benchmark, _records(stored))
        if len(trials) < metrics.get("num_trials", 0):
            fault = fault or f"trials.csv has {len(trials)} of {metrics['num_trials']:g} trainings"
    except (ValueError, TypeError, KeyError) as error:
        fault = fault or f"trials.csv is damaged ({first_line(error)})"
    return Unreadable(run.info.run_id, "a confirmation", "", fault) if fault else found


def _records(stored: StoredFiles) -> dict[int, dict[str, str]]:
    """Return the packed scores of each training's test records; none of a file that is damaged: nothing rests on it."""
    try:
        rows = frame(stored.texts.get(RECORDS_FILE, ""))
        found: dict[int, dict[str, str]] = {}
        for row in rows.to_dict("records"):
            found.setdefault(int(row["trial"]), {})[str(row["figure"])] = str(row["values"])
    except (ValueError, TypeError, KeyError):
        return {}
    return found


def _confirmations(
    trials: pd.DataFrame, benchmark: Benchmark, records: Mapping[int, Mapping[str, str]]
) -> list[Confirmation]:
    """Return the trainings that ended: at the full resource with their scores on test, or diverged."""
    kept = {*(one.name for one in benchmark.metrics), *(one.on_test for one in benchmark.metrics), "peak_memory_mb"}
    return [
        Confirmation(
            trial.schedule,
            trial.own_seed,
            trial.outcome == "diverged",
            {name: value for name, value in trial.metrics.items() if name in kept},
            trial.device_seconds,
            records.get(trial.number, {}),
        )
        for trial in stored_trials.of_table(trials, benchmark, "confirm", 0, "")
        if trial.outcome in ("completed", "diverged")
    ]
