"""The trials of a head job, as one CSV file beside its log."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from benchmarks.spec import BenchmarkError
from hpo.store.queries import history, runs_anywhere
from hpo.store.reading import read_files

JOB_TAG = "hpo.slurm_job"


def write(job: str, path: Path) -> int:
    """Write one row per trial of all studies that a job ran; return the number of rows.

    Args:
        job: SLURM's id of the head job.
        path: the file; not made where there is nothing to write.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    runs = runs_anywhere(f"tags.`{JOB_TAG}` = '{job}' and tags.`hpo.kind` != 'trial'")
    tables = []
    for run in reversed(runs):  # newest first, as MLflow has them
        stored = read_files(run, ["trials.csv"])
        if stored.faults:
            raise BenchmarkError(f"run {run.info.run_id}: trials.csv cannot be read ({stored.faults['trials.csv']})")
        if text := stored.texts.get("trials.csv"):
            table = pd.read_csv(io.StringIO(text))
            tables.append(table.assign(method=run.data.tags["hpo.method"], study_seed=run.data.tags["hpo.seed"]))
    if not tables:
        return 0
    everything = pd.concat(tables)
    first = ["method", "study_seed"]
    everything[[*first, *(name for name in everything if name not in first)]].to_csv(path, index=False)
    return len(everything)


def has_finished(job: str) -> bool:
    """Tell whether a study that a job began has reached its end.

    Args:
        job: SLURM's id of the head job.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    condition = f"tags.`{JOB_TAG}` = '{job}' and tags.`hpo.kind` = 'study' and attributes.status = 'FINISHED'"
    return bool(runs_anywhere(condition))


def was_interrupted(job: str) -> bool:
    """Tell whether the last study that a job began did not reach its end; one that is FAILED did.

    Args:
        job: SLURM's id of the head job.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    newest = runs_anywhere(f"tags.`{JOB_TAG}` = '{job}' and tags.`hpo.kind` != 'trial'")[:1]
    return not newest or newest[0].info.status in ("KILLED", "RUNNING")


def stands_still(run_id: str) -> bool:
    """Tell whether a study has trained no unit between two interruptions: its time limit is too short.

    Raises:
        BenchmarkError: the store cannot be read.
    """
    units = history(run_id, "units")
    return len(units) > 1 and units[-1] <= units[-2]
