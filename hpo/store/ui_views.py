"""Saved views of an experiment in MLflow's browser interface, whose default columns lack method and score.

MLflow 3.17 keeps a view as a tag of the experiment: a name, and the state of the page as compressed JSON. It opens from
the menu "Views", or by a link with `viewStateShareKey`.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from benchmarks.space import Choice, Domain
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TRAIN_LOSS

STUDIES, TRIALS = "hpo-studies", "hpo-trials"
"""Keys of the views, for links."""
PREFIX = "mlflow.sharedViewState."
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag without which the interface takes the experiment for one of prompts and traces."""
STUDY_TAGS, LAST_STUDY_TAGS = ("method", "seed", "budget"), ("variant", "accelerator")
STUDY_TOTALS = ("num_trials", "units", "device_hours", "gpu_hours", "utilization")
PAGE_STATE: dict[str, Any] = {
    "searchFilter": "",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnWidths": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}


def tags(benchmark: Benchmark) -> dict[str, str]:
    """Return the tags of a benchmark's experiment: its kind, a view of studies, and a leaderboard of trials.

    The interface nests trials below their study where they are sorted by start; sorted by a score they are one list.
    """
    scores = [metric.name for metric in benchmark.metrics]
    study_columns = (
        *(f"tags.`hpo.{name}`" for name in STUDY_TAGS),
        *(f"metrics.`best_{name}`" for name in scores),
        *(f"metrics.`{name}`" for name in STUDY_TOTALS),
        *(f"tags.`hpo.{name}`" for name in LAST_STUDY_TAGS),
    )
    trial_metrics = ("units", *scores, TRAIN_LOSS, "device_seconds", "peak_memory_mb")
    trial_columns = (
        *(f"tags.`hpo.{name}`" for name in ("method", "seed", "outcome")),
        *(f"metrics.`{name}`" for name in trial_metrics),
        *(_column(name, domain) for name, domain in benchmark.space.items()),
    )
    leaderboard = {
        "searchFilter": "tags.`hpo.kind` = 'trial'",
        "orderByKey": f"metrics.`{benchmark.metric}`",
        "orderByAsc": benchmark.mode == "min",
    }
    return {
        **KIND,
        PREFIX + STUDIES: _view("Studies", study_columns, {"orderByKey": "attributes.start_time"}),
        PREFIX + TRIALS: _view("Trials", trial_columns, leaderboard),
    }


def _column(name: str, domain: Domain) -> str:
    """Name the column of a hyperparameter: a number as it was trained last, since a population changes it."""
    is_number = not isinstance(domain, Choice) or all(isinstance(value, (int, float)) for value in domain.values)
    return f"metrics.`hp.{name}`" if is_number else f"params.`{name}`"


def _view(name: str, columns: tuple[str, ...], changes: dict[str, Any]) -> str:
    shown = {"selectedColumns": list(columns), "columnOrder": list(columns)}  # tags would come last, off the screen
    state = json.dumps({**PAGE_STATE, **changes, **shown}, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(state.encode())).decode()
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
