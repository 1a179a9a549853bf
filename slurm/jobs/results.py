"""The trials of a head job, as one CSV file beside its log."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from hpo.store import client

JOB_TAG = "hpo.slurm_job"


def write(tracking: str, job: str, path: Path) -> int:
    """Write one row per trial of all studies that a job ran; return the number of rows.

    Args:
        tracking: the store.
        job: SLURM's id of the head job.
        path: the file; not made where there is nothing to write.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # a log is no place for it
    with client.readable_errors(), tempfile.TemporaryDirectory() as folder:
        mlflow_client = MlflowClient(tracking)
        experiments = [experiment.experiment_id for experiment in mlflow_client.search_experiments()]
        runs = mlflow_client.search_runs(experiments, f"tags.`{JOB_TAG}` = '{job}' and tags.`hpo.kind` != 'trial'")
        tables = []
        for run in reversed(runs):  # newest first, as MLflow has them
            if any(file.path == "trials.csv" for file in mlflow_client.list_artifacts(run.info.run_id)):
                table = pd.read_csv(mlflow_client.download_artifacts(run.info.run_id, "trials.csv", folder))
                tables.append(table.assign(method=run.data.tags["hpo.method"], study_seed=run.data.tags["hpo.seed"]))
        if not tables:
            return 0
        everything = pd.concat(tables)
        first = ["method", "study_seed"]
        everything[[*first, *(name for name in everything if name not in first)]].to_csv(path, index=False)
        return len(everything)


def has_finished(tracking: str, job: str) -> bool:
    """Tell whether a study that a job began has reached its end.

    Args:
        tracking: the store.
        job: SLURM's id of the head job.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    with client.readable_errors():
        mlflow_client = MlflowClient(tracking)
        experiments = [experiment.experiment_id for experiment in mlflow_client.search_experiments()]
        condition = f"tags.`{JOB_TAG}` = '{job}' and tags.`hpo.kind` = 'study' and attributes.status = 'FINISHED'"
        return bool(mlflow_client.search_runs(experiments, condition, max_results=1))


def stands_still(tracking: str, run_id: str) -> bool:
    """Tell whether a study has trained no unit between two interruptions: its time limit is too short.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    with client.readable_errors():
        units = [metric.value for metric in MlflowClient(tracking).get_metric_history(run_id, "units")]
    return len(units) > 1 and units[-1] <= units[-2]
