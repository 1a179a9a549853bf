"""Trials as the store keeps them: the one reader of them, and the one row type, for each question asked of old trials.

A trial is read from `trials.csv` of its study, which has all trials of one that has ended (`of_table`: importance,
Pareto front, confirmations), or from its own run, which is there as soon as the trial is (`of_runs`: warm start, which
learns from studies that still run). Imports neither Ray nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from benchmarks import identity
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Choice, Config, Space, value_in
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core import metrics as stored
from hpo.core.study import diverged_objective, schedule_digest
from hpo.store.queries import Run, stored_runs


@dataclass(frozen=True)
class StoredTrial:
    """A trial of a stored study, at its end.

    Attributes:
        study: label of the method: its name, and its arguments other than the defaults.
        seed: the study's.
        run_id: the study's run.
        number: its number in the study.
        config: the hyperparameters it started with, complete.
        is_single: this configuration trained it all the way; not so for members of populations that took over
            others or changed their hyperparameters.
        outcome: its end, such as "completed" or "stopped".
        units: resource units it reached.
        metrics: its last unit's, those that are known.
        device_seconds: its cost; in a population that of its own units, not of the members that it took over.
        own_seed: drove its model initialisation, dropout and data order.
        schedule: checksum of the configurations that trained it, see `study.schedule_digest`; empty if not known.
    """

    study: str
    seed: int
    run_id: str
    number: int
    config: Config
    is_single: bool
    outcome: str
    units: int
    metrics: Mapping[str, float]
    device_seconds: float
    own_seed: int = 0
    schedule: str = ""

    @property
    def name(self) -> str:
        """Short name for people."""
        return f"trial {self.number} of {self.study} seed {self.seed}"

    @property
    def device_hours(self) -> float:
        """Its cost in device-hours."""
        return self.device_seconds / 3600

    @property
    def peak_memory_mb(self) -> float | None:
        """Largest memory of one of its ranks; None if it was not measured."""
        return self.metrics.get("peak_memory_mb")

    def values_in(self, space: Space) -> Config | None:
        """Return its values of a space's hyperparameters, exactly as the space has them; None if it lies outside."""
        values = {name: value_in(domain, str(self.config[name])) for name, domain in space.items()}
        found = {name: value for name, value in values.items() if value is not None}
        return found if len(found) == len(values) else None


@dataclass(frozen=True)
class PastTrial:
    """A stored trial in a searcher's terms.

    Attributes:
        config: a value for each hyperparameter of the search space, exactly as the space has it.
        objective: the value that its searcher received, see `study.objective`.
    """

    config: Config
    objective: float


# ---- from a study's table


def of_table(table: pd.DataFrame, benchmark: Benchmark, study: str, seed: int, run_id: str) -> list[StoredTrial]:
    """List the trials of a study's table, by number.

    Args:
        table: see `hpo.store.files.trials_csv`; an empty cell is NaN here, and its value not known.
        benchmark: the benchmark that the study tuned.
        study: its label.
        seed: its seed.
        run_id: its run.

    Raises:
        KeyError, TypeError, ValueError: the table is damaged.
    """
    return [_of_row(row, benchmark, study, seed, run_id) for row in table.to_dict("records")]


def _of_row(row: Mapping[Any, Any], benchmark: Benchmark, study: str, seed: int, run_id: str) -> StoredTrial:
    known = {key: value for key, value in row.items() if value == value}
    given = {name: known[name] for name in Hyperparameters.model_fields if name in known}
    config, schedule = benchmark.hyperparameters(given).model_dump(), str(known.get("schedule", ""))
    # The table has the first configuration and a checksum of the whole schedule, so they tell whether it is the only
    # one; units and trained_units do not: members exchange at the same unit, and a retry trains units twice.
    is_single = schedule == schedule_digest(benchmark, [(0, config)])
    return StoredTrial(
        study,
        seed,
        run_id,
        int(row["trial"]),
        config,
        is_single,
        str(row["outcome"]),
        int(row["units"]),
        _metrics(benchmark, known),
        float(row["device_seconds"]),
        int(known.get("seed", 0)),
        schedule,
    )


def _metrics(benchmark: Benchmark, known: Mapping[str, Any]) -> dict[str, float]:
    names = (*stored.of_unit(benchmark), *stored.of_test(benchmark))
    return {name: float(known[name]) for name in names if name in known}


# ---- from runs


def of_runs(benchmark: Benchmark) -> list[StoredTrial]:
    """List the trials of all stored studies of this very benchmark, by its digest: ended ones and others.

    Returns:
        The trials by start of their study and number within it; none where nothing is stored yet.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    same = f"tags.hpo.kind = 'study' and tags.hpo.benchmark_digest = '{identity.digest(benchmark)}'"
    studies = {run.info.run_id: run for run in stored_runs(benchmark.name, same)}
    trials = [
        (study.info.start_time, study.info.run_id, int(run.data.tags["hpo.trial"]), run)
        for run in stored_runs(benchmark.name, "tags.hpo.kind = 'trial'")
        if (study := studies.get(run.data.tags.get("mlflow.parentRunId", "")))
    ]
    trials.sort(key=lambda trial: trial[:3])
    found = [_of_run(benchmark, studies[study], number, run) for _, study, number, run in trials]
    return [trial for trial in found if trial is not None]


def _of_run(benchmark: Benchmark, study: Run, number: int, run: Run) -> StoredTrial | None:
    """Return the trial of a run; None if its parameters are no configuration."""
    tags, known = run.data.tags, run.data.metrics
    given = {key: text for key, text in run.data.params.items() if key in Hyperparameters.model_fields}
    texts = {name: str(value) for name, value in benchmark.complete(given).items()}
    try:
        config = Hyperparameters.model_validate_strings(texts).model_dump()
    except ValidationError:
        return None
    label = " ".join(filter(None, [study.data.tags.get("hpo.method", ""), study.data.tags.get("hpo.variant", "")]))
    return StoredTrial(
        label,
        int(study.data.tags.get("hpo.seed", 0)),
        study.info.run_id,
        number,
        config,
        tags.get("hpo.exploits", "0") == "0",  # otherwise its weights saw several configurations
        tags.get("hpo.outcome", "running"),
        int(known.get("units", 0)),
        _metrics(benchmark, known),
        known.get("device_seconds", 0.0),
        int(tags.get("hpo.seed", 0)),
    )


# ---- for searchers


def past_trials(benchmark: Benchmark) -> list[PastTrial]:
    """List the trials that reached the full resource or diverged, of all stored studies of this benchmark.

    Any method and any seed counts, as long as the benchmark is the same by its digest, one configuration did the whole
    training and lies in the search space, and hyperparameters that the space leaves out had the benchmark's default.

    Raises:
        BenchmarkError: the store cannot be used, or has the last units of trials where the best ones count.
    """
    if benchmark.selects_best:
        raise BenchmarkError(
            f"warm_start is true, but benchmark {benchmark.name} has select: best_unit, and stored runs show the last "
            "unit of their trials; search without it"
        )
    return [past for trial in of_runs(benchmark) if (past := _past_trial(benchmark, trial))]


def _past_trial(benchmark: Benchmark, trial: StoredTrial) -> PastTrial | None:
    """Return a trial in a searcher's terms; None if it tells nothing about this search space."""
    values = trial.values_in(_domains(benchmark)) if trial.is_single else None
    if values is None:
        return None
    config = {name: values[name] for name in benchmark.space}
    if trial.outcome == "diverged":
        return PastTrial(config, diverged_objective(benchmark))
    if trial.outcome == "completed" and benchmark.metric in trial.metrics:
        return PastTrial(config, trial.metrics[benchmark.metric])
    return None


def _domains(benchmark: Benchmark) -> Space:
    """Return the search space, with the default as the only value of each hyperparameter that it leaves out."""
    fixed = {name: Choice(type="choice", values=(value,)) for name, value in benchmark.complete({}).items()}
    return {**fixed, **benchmark.space}
