"""Stored studies and their trials as pandas frames, each study as it is: finished or not, comparable or not."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from benchmarks.spec import BenchmarkError
from hpo.analysis.studies import frame
from hpo.store import client as store
from hpo.store.queries import Run, stored_runs
from hpo.store.reading import read_files

NAMED = ("method", "variant", "seed", "budget", "accelerator", "precision", "protocol")
"""Tags of a study that are columns, without their prefix `hpo.`."""
WHOLE = ("seed", "budget")
"""Tags of these that are whole numbers."""
TABLE = "trials.csv"
FIRST = ("run_id", "method", "variant", "study_seed")
"""Columns that come before those of `trials.csv`."""


def studies(benchmark: str) -> pd.DataFrame:
    """Read one row per study of a benchmark, the oldest first.

    Args:
        benchmark: its name.

    Returns:
        Columns `run_id`, the study's tags without `hpo.` (method, variant, seed, budget, ...), `status` (MLflow's, such
        as FINISHED), `started` (a time), and each metric of its run, such as `device_hours` and `best_eval_loss`. Empty
        without studies.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    runs = sorted(stored_runs(benchmark, "tags.hpo.kind = 'study'"), key=lambda run: run.info.start_time)
    found = pd.DataFrame([_row(run) for run in runs], columns=None if runs else ["run_id", *NAMED, "status", "started"])
    return found.astype(dict.fromkeys(WHOLE, int)) if runs else found


def _row(run: Run) -> dict[str, object]:
    tags = {name: run.data.tags.get(f"hpo.{name}", "") for name in NAMED}
    started = pd.Timestamp(run.info.start_time, unit="ms")
    return {"run_id": run.info.run_id, **tags, "status": run.info.status, "started": started, **run.data.metrics}


def trials(benchmark: str, run_ids: Iterable[str] = ()) -> pd.DataFrame:
    """Read one row per trial of a benchmark's studies that have ended, by study and number.

    Args:
        benchmark: its name.
        run_ids: the studies; all where it is empty.

    Returns:
        Columns `run_id`, `method`, `variant` and `study_seed`, then those of `trials.csv`. Empty without trials.

    Raises:
        BenchmarkError: the store cannot be used, or lacks the file of a study that has trials.
    """
    wanted = set(run_ids)
    runs = sorted(stored_runs(benchmark, "tags.hpo.kind = 'study'"), key=lambda run: run.info.start_time)
    with store.readable_errors():
        tables = [_trials(run) for run in runs if not wanted or run.info.run_id in wanted]
    found = [table for table in tables if len(table)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*FIRST])


def _trials(run: Run) -> pd.DataFrame:
    """Read the trials of a study; none of one that runs, whose file is written at its end."""
    stored, tags = read_files(run, [TABLE]), run.data.tags
    table = frame(stored.texts.get(TABLE, ""))
    if stored.faults or len(table) < run.data.metrics.get("num_trials", 0):
        reason = stored.faults.get(TABLE, "it is missing, or lacks trials")
        raise BenchmarkError(
            f"{TABLE} of run {run.info.run_id}: {reason}; restore it, or leave the run out: "
            f"mlflow runs delete --run-id {run.info.run_id}"
        )
    own = (run.info.run_id, tags["hpo.method"], tags.get("hpo.variant", ""), int(tags["hpo.seed"]))
    for place, (name, value) in enumerate(zip(FIRST, own, strict=True)):
        table.insert(place, name, value)
    return table
