"""Jobs with stores of their own, brought together: nothing lost, nothing twice, and MLflow reads it all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run

from benchmarks.spec import BenchmarkError
from hpo.store import client
from slurm import stores
from slurm.jobs import results


def client_of(path: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{path}")


def add_study(path: Path, experiment: str, name: str) -> str:
    """A study with a trial, a metric with a history, a tag, a data set and a file."""
    to = client_of(path)
    found = to.get_experiment_by_name(experiment)
    where = found.experiment_id if found else to.create_experiment(experiment, str(path.parent / "mlruns" / experiment))
    parent = to.create_run(where, run_name=name, tags={"hpo.kind": "study"}).info.run_id
    dataset = Dataset("squad/train", "abc", "local", "here")
    to.log_inputs(parent, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    to.log_text(parent, f"of {name}", "trials.csv")
    child = to.create_run(where, tags={"mlflow.parentRunId": parent}).info.run_id
    to.log_batch(child, metrics=[Metric("eval_loss", 2.0 - step, step, step) for step in range(2)])
    to.log_param(child, "learning_rate", 1e-4)
    to.set_terminated(parent)
    return str(parent)


def studies(path: Path, experiment: str) -> list[Run]:
    found = client_of(path).get_experiment_by_name(experiment)
    assert found is not None
    return list(client_of(path).search_runs([found.experiment_id], "tags.`hpo.kind` = 'study'"))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A store with one study."""
    path = tmp_path / "mlflow.db"
    add_study(path, "nano", "first")
    return path


def test_a_job_begins_with_what_there_is(shared: Path, tmp_path: Path) -> None:
    stores.begin(tmp_path / "job.db", shared)
    assert [run.info.run_name for run in studies(tmp_path / "job.db", "nano")] == ["first"]


def test_a_job_that_is_queued_again_keeps_its_own(shared: Path, tmp_path: Path) -> None:
    own = tmp_path / "job.db"
    add_study(own, "nano", "mine")
    stores.begin(own, shared)
    assert [run.info.run_name for run in studies(own, "nano")] == ["mine"]


def test_the_first_job_of_all_makes_the_shared_store(tmp_path: Path) -> None:
    own, shared = tmp_path / "job.db", tmp_path / "deep" / "mlflow.db"
    stores.begin(own, shared)
    add_study(own, "nano", "mine")
    assert stores.collect(own, shared) == 2
    assert [run.info.run_name for run in studies(shared, "nano")] == ["mine"]


def test_a_store_that_was_made_without_slurm_is_open_to_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study on this machine leaves its lock's file behind, which locks nothing any more."""
    own, shared = tmp_path / "job.db", tmp_path / "mlflow.db"
    monkeypatch.setattr(stores, "LOCK_SECONDS", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    client.open_experiment("nano")
    stores.begin(own, shared)
    add_study(own, "nano", "mine")
    assert stores.collect(own, shared) == 2


def test_a_lock_that_another_job_holds_is_named(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "job.db"
    stores.begin(own, shared)
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0.2)
    (tmp_path / "mlflow.db.jobs-lock").touch()
    with pytest.raises(BenchmarkError, match=r"if none runs, delete .*mlflow\.db\.jobs-lock"):
        stores.collect(own, shared)


@pytest.mark.slow
class TestTwoJobs:
    """Both began with the same store, and made other experiments in another order."""

    @pytest.fixture
    def collected(self, shared: Path, tmp_path: Path) -> Path:
        for job, experiments in (("a", ["nano", "synthetic"]), ("b", ["squad", "nano"])):
            own = tmp_path / f"{job}.db"
            stores.begin(own, shared)
            for experiment in experiments:
                add_study(own, experiment, f"{experiment} of {job}")
        assert [stores.collect(tmp_path / f"{job}.db", shared) for job in "ab"] == [4, 4]
        return shared

    def test_all_studies_lie_in_the_experiment_of_their_name(self, collected: Path) -> None:
        names = {
            name: {run.info.run_name for run in studies(collected, name)} for name in ("nano", "synthetic", "squad")
        }
        assert names == {
            "nano": {"first", "nano of a", "nano of b"},
            "synthetic": {"synthetic of a"},
            "squad": {"squad of b"},
        }

    def test_a_study_comes_with_its_trials_and_their_history(self, collected: Path) -> None:
        [study] = studies(collected, "squad")
        condition = f"tags.`mlflow.parentRunId` = '{study.info.run_id}'"
        [trial] = client_of(collected).search_runs([study.info.experiment_id], condition)
        history = client_of(collected).get_metric_history(trial.info.run_id, "eval_loss")
        assert [(metric.step, metric.value) for metric in history] == [(0, 2.0), (1, 1.0)]
        assert trial.data.params == {"learning_rate": "0.0001"}
        assert trial.data.metrics == {"eval_loss": 1.0}

    def test_a_study_comes_with_its_data_sets_and_files(self, collected: Path, tmp_path: Path) -> None:
        for run in studies(collected, "nano"):
            [used] = run.inputs.dataset_inputs
            assert (used.dataset.name, used.tags[0].value) == ("squad/train", "train")
            file = client_of(collected).download_artifacts(run.info.run_id, "trials.csv", str(tmp_path))
            assert Path(file).read_text() == f"of {run.info.run_name}"

    def test_collecting_again_adds_nothing(self, collected: Path, tmp_path: Path) -> None:
        before = collected.read_bytes()
        assert stores.collect(tmp_path / "a.db", collected) == 0
        assert collected.read_bytes() == before

    def test_the_store_goes_on_as_any_other(self, collected: Path) -> None:
        add_study(collected, "new", "later")
        assert len(studies(collected, "new")) == 1


def test_another_version_of_mlflow_is_refused_and_changes_nothing(shared: Path, tmp_path: Path) -> None:
    own = tmp_path / "job.db"
    stores.begin(own, shared)
    add_study(own, "nano", "mine")
    with sqlite3.connect(shared) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    before = shared.read_bytes()
    with pytest.raises(BenchmarkError, match=r"another version of MLflow .*mlflow db upgrade"):
        stores.collect(own, shared)
    assert shared.read_bytes() == before


def test_a_shared_file_that_is_none_is_said_to_keep_the_job_s(tmp_path: Path) -> None:
    own, shared = tmp_path / "job.db", tmp_path / "mlflow.db"
    add_study(own, "nano", "mine")
    shared.write_text("no database" * 500)
    with pytest.raises(BenchmarkError, match=r"runs could not be added .*they are kept in"):
        stores.collect(own, shared)


def test_a_study_that_a_job_went_on_with_is_replaced_as_a_whole(shared: Path, tmp_path: Path) -> None:
    own = tmp_path / "job.db"
    stores.begin(own, shared)
    [study] = studies(own, "nano")
    [child] = client_of(own).search_runs([study.info.experiment_id], f"tags.mlflow.parentRunId = '{study.info.run_id}'")
    client_of(own).set_tag(study.info.run_id, "hpo.resumes", "1")
    client_of(own).set_tag(study.info.run_id, "hpo.reason", "")
    client_of(own).log_metric(child.info.run_id, "eval_loss", 0.5, step=2)
    client_of(own).set_terminated(child.info.run_id)
    client_of(own).create_run(study.info.experiment_id, tags={"mlflow.parentRunId": study.info.run_id})
    assert stores.collect(own, shared) == 3
    assert stores.collect(own, shared) == 0
    [after] = studies(shared, "nano")
    assert after.info.run_id == study.info.run_id
    assert [metric.value for metric in client_of(shared).get_metric_history(child.info.run_id, "eval_loss")] == [
        2,
        1,
        0.5,
    ]
    assert client_of(shared).get_run(child.info.run_id).info.status == "FINISHED"
    assert len(client_of(shared).search_runs([study.info.experiment_id])) == 3
    assert after.inputs.dataset_inputs[0].dataset.digest == "abc"


@pytest.mark.parametrize(("units", "stands_still"), [([], False), ([0], False), ([3, 9], False), ([3, 9, 9], True)])
def test_a_study_stands_still_where_an_interruption_finds_it_where_the_one_before_did(
    shared: Path, units: list[int], stands_still: bool
) -> None:
    [study] = studies(shared, "nano")
    for moment, value in enumerate(units):
        client_of(shared).log_metric(study.info.run_id, "units", value, timestamp=moment)
    assert results.stands_still(f"sqlite:///{shared}", study.info.run_id) is stands_still
