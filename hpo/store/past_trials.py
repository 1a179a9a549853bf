"""What earlier studies of a benchmark found, read from MLflow alone. Imports neither Ray nor torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from benchmarks import identity
from benchmarks.spec import Benchmark, Choice, Config, Domain, Integer, Scalar, Space
from hpo.core.study import objective
from hpo.store import client as store

PAGE = 1000
"""Runs that are fetched at once."""
DIVERGED = {"train_loss": math.nan, "eval_loss": math.nan}
"""The metrics of a trial that diverged, as far as its objective goes: the store keeps no NaN."""


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier study, at its end.

    Attributes:
        config: a value for each hyperparameter of the search space, exactly as the space has it.
        objective: what its searcher was told, see `study.objective`.
    """

    config: Config
    objective: float


def completed_trials(benchmark: Benchmark) -> list[PastTrial]:
    """Trials that reached the full resource or diverged, of all stored studies of this benchmark.

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


def stored_runs(experiment: str, condition: str = "") -> list[Run]:
    """Runs of an experiment, none where there is no such experiment or no store yet.

    Args:
        experiment: its name.
        condition: what they fulfil, in MLflow's search syntax; all runs by default.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    if not store.exists():
        return []
    with store.readable_errors():
        client = store.open_client()
        found = client.get_experiment_by_name(experiment)
        return list(_pages(client, found.experiment_id, condition)) if found else []


def value_in(domain: Domain, text: str) -> Scalar | None:
    """The value of a domain that `text` stands for, as the domain has it; None if it has no such value."""
    number = _number(text)
    if isinstance(domain, Choice):  # a grid may say 0 where the choice says 0.0
        return next((value for value in domain.values if str(value) == text or value == number), None)
    if number is None or not domain.contains(number):
        return None
    return int(number) if isinstance(domain, Integer) else number


def _pages(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, ViewType.ACTIVE_ONLY, PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _past_trial(benchmark: Benchmark, run: Run) -> PastTrial | None:
    """The trial of a run, or None if it tells nothing about this search space."""
    outcome, metrics = run.data.tags.get("hpo.outcome"), run.data.metrics
    config = _config(benchmark, run.data.params)
    if config is None or run.data.tags.get("hpo.exploits", "0") != "0":  # its weights saw several configurations
        return None
    if outcome == "diverged":
        return PastTrial(config, objective(benchmark, DIVERGED))
    if outcome == "completed" and benchmark.metric in metrics:
        return PastTrial(config, float(metrics[benchmark.metric]))
    return None


def _config(benchmark: Benchmark, params: dict[str, str]) -> Config | None:
    """The search space's part of a stored configuration, typed; None if the configuration lies outside."""
    default = benchmark.default.model_dump()  # holds for whatever a trial's run does not mention
    domains = _domains(benchmark).items()
    values = {name: value_in(domain, params.get(name, str(default[name]))) for name, domain in domains}
    config = {name: value for name, value in values.items() if value is not None}
    return {name: config[name] for name in benchmark.space} if len(config) == len(values) else None


def _domains(benchmark: Benchmark) -> Space:
    """The search space, and of each hyperparameter that it leaves out the default as the only value."""
    fixed = {name: Choice(type="choice", values=(value,)) for name, value in benchmark.default.model_dump().items()}
    return {**fixed, **benchmark.space}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
