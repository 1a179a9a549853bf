"""Trials of earlier studies of a benchmark, read from MLflow alone. Imports neither Ray nor torch."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities import Run

from benchmarks import identity
from benchmarks.space import Choice, Config, Space, value_in
from benchmarks.spec import Benchmark
from hpo.core.study import diverged_objective
from hpo.store.queries import stored_runs


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier study, at its end.

    Attributes:
        config: a value for each hyperparameter of the search space, exactly as the space has it.
        objective: the value that its searcher received, see `study.objective`.
    """

    config: Config
    objective: float


def completed_trials(benchmark: Benchmark) -> list[PastTrial]:
    """List the trials that reached the full resource or diverged, of all stored studies of this benchmark.

    Any method and any seed counts, as long as the benchmark is the same by its digest, one configuration did the whole
    training and lies in the search space, and hyperparameters that the space leaves out had the benchmark's default.

    Returns:
        The trials by start of their study and number within it; none where nothing is stored yet.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    same = f"tags.hpo.kind = 'study' and tags.hpo.benchmark_digest = '{identity.digest(benchmark)}'"
    began = {run.info.run_id: run.info.start_time for run in stored_runs(benchmark.name, same)}
    trials = [
        (began[study], study, int(run.data.tags["hpo.trial"]), run)
        for run in stored_runs(benchmark.name, "tags.hpo.kind = 'trial'")
        if (study := run.data.tags.get("mlflow.parentRunId", "")) in began
    ]
    trials.sort(key=lambda trial: trial[:3])
    return [past for *_, run in trials if (past := _past_trial(benchmark, run))]


def _past_trial(benchmark: Benchmark, run: Run) -> PastTrial | None:
    """Return the trial of a run, or None if it tells nothing about this search space."""
    outcome, metrics = run.data.tags.get("hpo.outcome"), run.data.metrics
    config = _config(benchmark, run.data.params)
    if config is None or run.data.tags.get("hpo.exploits", "0") != "0":  # its weights saw several configurations
        return None
    if outcome == "diverged":
        return PastTrial(config, diverged_objective(benchmark))
    if outcome == "completed" and benchmark.metric in metrics:
        return PastTrial(config, float(metrics[benchmark.metric]))
    return None


def _config(benchmark: Benchmark, params: dict[str, str]) -> Config | None:
    """Return the search space's part of a stored configuration, typed; None if the configuration lies outside."""
    complete = benchmark.complete(params)
    values = {name: value_in(domain, str(complete[name])) for name, domain in _domains(benchmark).items()}
    config = {name: value for name, value in values.items() if value is not None}
    return {name: config[name] for name in benchmark.space} if len(config) == len(values) else None


def _domains(benchmark: Benchmark) -> Space:
    """Return the search space, with the default as the only value of each hyperparameter that it leaves out."""
    fixed = {name: Choice(type="choice", values=(value,)) for name, value in benchmark.complete({}).items()}
    return {**fixed, **benchmark.space}
