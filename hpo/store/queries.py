"""Read runs from the tracking store."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from hpo.store import client as store
from hpo.store.reading import retried

PAGE = 1000
"""Runs that are fetched at once."""


def stored_runs(experiment: str, condition: str = "") -> list[Run]:
    """Return runs of an experiment; none if there is no such experiment or no store yet.

    Args:
        experiment: its name.
        condition: a filter in MLflow's search syntax; all runs by default.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    if not store.exists():
        return []
    with store.readable_errors():
        client = store.open_client()
        found = retried(lambda: client.get_experiment_by_name(experiment))
        return list(_pages(client, found.experiment_id, condition)) if found else []


def _pages(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[Run]:
    search = partial(client.search_runs, [experiment_id], condition, ViewType.ACTIVE_ONLY, PAGE)
    token = None
    while True:
        page = retried(partial(search, page_token=token))
        yield from page
        token = page.token
        if not token:
            return
