"""The end of a head job's work, as the store has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from slurm.jobs import results
from tests.stores import fresh_store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statuses", "was_interrupted"),
    [
        ([], True),  # it was told to end before it began a study
        (["FAILED"], False),
        (["FINISHED", "FAILED"], False),
        (["FAILED", "FINISHED"], False),
        (["KILLED", "FAILED"], False),  # queued again, it has trained the missing part
        (["FAILED", "KILLED"], True),
        (["FINISHED", "RUNNING"], True),  # the driver was killed
    ],
)
def test_work_was_interrupted_if_the_last_study_was(
    statuses: list[str], was_interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    client = MlflowClient()
    experiment = client.create_experiment("synthetic")
    jobs = [("7", status) for status in statuses] + [("8", "KILLED")]
    for place, (job, status) in enumerate(jobs):
        for kind in ("study", "trial"):
            tags = {results.JOB_TAG: job, "hpo.kind": kind}
            run = client.create_run(experiment, start_time=1000 + place, tags=tags).info.run_id
            if (status if kind == "study" else "KILLED") != "RUNNING":
                client.set_terminated(run, status if kind == "study" else "KILLED")
    assert results.was_interrupted("7") == was_interrupted
