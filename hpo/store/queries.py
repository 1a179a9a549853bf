"""Read runs from the tracking store."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Run as Run  # for readers of runs, which do not import MLflow themselves
from mlflow.entities import ViewType

from hpo.store import client as store
from hpo.store.reading import retried

PAGE = 1000
"""Runs that are fetched at once."""


def stored_runs(benchmark: str, condition: str = "") -> list[Run]:
    """Read the runs of a benchmark; none where there is no such experiment or no store yet.

    Args:
        benchmark: its name.
        condition: for the runs to fulfil, in MLflow's search syntax; all runs by default.

    Raises:
        BenchmarkError: the store cannot be used, or the experiment was deleted.
    """
    if not store.exists():
        return []
    with store.readable_errors():
        client = store.open_client()
        name = store.experiment_of(client, benchmark)
        if name != benchmark:  # an experiment that may hold several benchmarks
            condition = " and ".join(filter(None, [condition, f"tags.hpo.benchmark = '{benchmark}'"]))
        found = retried(lambda: client.get_experiment_by_name(name))
        if found:
            store.require_active(found)
        return list(_pages(client, [found.experiment_id], condition)) if found else []


def states(benchmark: str, condition: str) -> dict[str, str]:
    """Return MLflow's status of each run of a benchmark that fulfils a condition, by its id, the newest first.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    return {run.info.run_id: run.info.status for run in stored_runs(benchmark, condition)}


def runs_anywhere(condition: str) -> list[Run]:
    """Read the runs of all experiments that fulfil a condition, the newest first.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    with store.readable_errors():
        client = store.open_client()
        experiments = retried(lambda: [found.experiment_id for found in client.search_experiments()])
        return list(_pages(client, experiments, condition)) if experiments else []


def benchmarks_with_results() -> list[str]:
    """List the benchmarks that have a finished study or replay, by name; none without a store.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    if not store.exists():
        return []
    done = "attributes.status = 'FINISHED' and tags.hpo.kind = '{}'"
    runs = [run for kind in ("study", "replay") for run in runs_anywhere(done.format(kind))]
    return sorted({run.data.tags.get("hpo.benchmark", "") for run in runs} - {""})


def experiments_with(benchmark: str) -> list[str]:
    """List the experiments that have a finished study of a benchmark, by name; none without a store.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    if not store.exists():
        return []
    condition = f"attributes.status = 'FINISHED' and tags.hpo.kind = 'study' and tags.hpo.benchmark = '{benchmark}'"
    numbers = {run.info.experiment_id for run in runs_anywhere(condition)}
    with store.readable_errors():
        client = store.open_client()
        return sorted(str(retried(partial(client.get_experiment, number)).name) for number in numbers)


def history(run_id: str, metric: str) -> list[float]:
    """Read all values of a metric, in the order in which they were written.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    with store.readable_errors():
        client = store.open_client()
        return [point.value for point in retried(lambda: client.get_metric_history(run_id, metric))]


def runs_of(experiment_id: str, condition: str) -> list[Run]:
    """Read the runs of an experiment that fulfil a condition in MLflow's search syntax.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    with store.readable_errors():
        return list(_pages(store.open_client(), [experiment_id], condition))


def _pages(client: MlflowClient, experiments: list[str], condition: str) -> Iterator[Run]:
    search = partial(client.search_runs, experiments, condition, ViewType.ACTIVE_ONLY, PAGE)
    token = None
    while True:
        page = retried(partial(search, page_token=token))
        yield from page
        token = page.token
        if not token:
            return
