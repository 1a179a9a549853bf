"""Trials of jobs without Ray that run out of memory: rescued, or failed once, and their like is not trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from benchmarks import spec
from benchmarks.space import Choice
from benchmarks.spec import Benchmark
from hpo.analysis import records
from hpo.search import registry
from slurm import arrays, gather, study_folder
from slurm.jobs import trial_job
from slurm.processes import Signals
from slurm.profile import Profile
from tests.stores import working_in

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the environment of a job's script, and a store."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with working_in(tmp_path):
        yield


def tight(rescue: bool) -> Benchmark:
    """Make a benchmark whose memory holds a forward pass of 8 samples."""
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    changes: dict[str, Any] = {
        "synthetic": benchmark.synthetic.model_copy(update={"seconds_per_unit": 0.0, "memory_limit": 8}),
        "resource": benchmark.resource.model_copy(update={"max_units": 2}),
        "grid": {"batch_size_per_device": (4, 32, 16, 64)},
        "rescue": rescue,
    }
    sizes = Choice(type="choice", values=(4, 16, 32, 64))
    return benchmark.model_copy(update={**changes, "space": {**benchmark.space, "batch_size_per_device": sizes}})


def train(folder: Path, benchmark: Benchmark, method: str, budget: int = 4) -> tuple[Path, list[str]]:
    made = folder / "study"
    made.mkdir()
    as_written = {"shift": False} if method == "manual" else {}
    study = registry.get(method).study(benchmark, 0, budget, None, as_written)
    cluster = Profile.model_validate({"node": {"cpus": 1}})
    arrays.write(made, arrays.prepare(study, "sequential", cluster, 0, ""))
    with Signals() as signals:
        return made, trial_job.train(made, [], signals)


def test_a_trial_goes_on_in_smaller_micro_batches(tmp_path: Path) -> None:
    folder, outcomes = train(tmp_path, tight(rescue=True), "manual", budget=2)
    assert outcomes == ["completed"] * 2
    found = gather.gather(folder)
    assert [row.micro_batch for row in found.results.rows] == [None, 8]
    assert [row.outcome for row in found.results.rows] == ["completed"] * 2
    assert found.shares.seconds["failed"] > 0
    assert found.best is not None
    assert found.best.get("micro_batch") == found.results.incumbent().micro_batch  # type: ignore[union-attr]
    children = f"tags.mlflow.parentRunId = '{found.run_id}'"
    client = MlflowClient()
    runs = client.search_runs([client.get_run(found.run_id).info.experiment_id], children)
    tags = {run.data.tags["hpo.trial"]: run.data.tags.get("hpo.micro_batch") for run in runs}
    assert tags == {"0": None, "1": "8"}


def test_one_that_cannot_is_failed_once_and_larger_ones_are_left_out(tmp_path: Path) -> None:
    folder, outcomes = train(tmp_path, tight(rescue=False), "manual")
    assert outcomes == ["completed", "failed", "failed", "skipped"]
    assert study_folder.finished(folder) == {0, 1, 2, 3}
    found = gather.gather(folder)
    assert (len(found.results.rows), found.results.skipped, found.missing) == (3, 1, 0)
    _, lost, _ = found.results.rows
    assert lost.reason.startswith(
        "out of memory: MemoryError: tried to allocate 32 of 8 (simulated); asked for by batch"
    )
    assert lost.failures == ()
    assert MlflowClient().get_run(found.run_id).data.metrics["skipped_proposals"] == 1


def test_optuna_is_told_and_proposes_another(tmp_path: Path) -> None:
    folder, outcomes = train(tmp_path, tight(rescue=False), "optuna", budget=6)
    assert 1 <= outcomes.count("failed") <= 3
    assert "skipped" not in outcomes
    gathered = gather.gather(folder)
    rows = gathered.results.rows
    assert [row.config["batch_size_per_device"] for row in rows[-3:]] == [4] * 3
    [study] = records.read("synthetic").studies
    assert study.trials["by_model"].tolist() == [row.by_model for row in rows]
    drawn = [row.outcome == "completed" for row in rows].index(True, outcomes.index("completed") + 1) + 1
    assert [row.by_model for row in rows] == [place >= drawn for place in range(6)]  # two results, then the model
