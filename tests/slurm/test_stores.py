"""One store for all jobs: nothing lost, nothing twice, nobody in another's way, and MLflow reads it all."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from filelock import SoftFileLease
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from benchmarks import spec
from benchmarks.files import BenchmarkError
from hpo.app.cli import main
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.runner import execute
from hpo.store import client, sharing
from hpo.store.tracker import Tracker
from slurm import gather, stores
from slurm.jobs import results
from slurm.profile import Profile
from tests.hpo.told import Told
from tests.slurm.jobs.jobs_of_study import Job, make_folder
from tests.stores import fresh_store, working_in

DIES = """
import os, signal
from hpo.store import sharing
with sharing.turn():
    os.kill(os.getpid(), signal.SIGKILL)
"""
REPOSITORY = str(Path(__file__).parents[2])
NANO = spec.load("synthetic")


def profile(folder: Path) -> Profile:
    return Profile.model_validate({"node": {"cpus": 1}, "store": str(folder / "mlflow.db")})


def add_study(experiment: str, method: str) -> str:
    """Run a study of one trial, as a driver tells it; returns its run."""
    study = Study(method, NANO.model_copy(update={"name": experiment}))
    told = Told(study, Tracker(study, "cpu", f"python -m hpo run {method}"))
    told.begin("a", {"learning_rate": 1e-4})
    for units in range(1, 4):
        told.report("a", {"units": units, "eval_loss": 3.0 / units, "train_loss": 1.0})
    told.end("a")
    told.finish()
    run_id: str = told._tracker.run_id  # type: ignore[union-attr]
    return run_id


def studies(folder: Path, experiment: str) -> list[Run]:
    reader = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = reader.get_experiment_by_name(experiment)
    assert found is not None
    return list(reader.search_runs([found.experiment_id], "tags.`hpo.kind` = 'study'"))


def job(folder: Path, begin: multiprocessing.synchronize.Event, of: str, experiments: tuple[str, ...]) -> None:
    """Be a job's driver, which begins at a sign."""
    begin.wait()
    with stores.opened(profile(folder)):
        for experiment in experiments:
            add_study(experiment, f"{experiment}-of-{of}")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder with a store of one study, that was made without SLURM."""
    with working_in(tmp_path):
        add_study("nano", "first")
        yield tmp_path


class TestOneJob:
    def test_sees_what_there_is_and_adds_to_it(self, shared: Path) -> None:
        """A study on this machine leaves its lock's file behind, which locks nothing any more."""
        with stores.opened(profile(shared)) as uri:
            assert uri == f"sqlite:///{shared}/mlflow.db"
            assert [run.data.tags["hpo.method"] for run in studies(shared, "nano")] == ["first"]
            add_study("nano", "second")
        assert {run.data.tags["hpo.method"] for run in studies(shared, "nano")} == {"first", "second"}

    @pytest.mark.slow  # MLflow makes the tables of a new store
    def test_the_first_of_all_makes_the_store_with_its_artifacts_beside_it(self, tmp_path: Path) -> None:
        deep = tmp_path / 'it\'s "mine", 100% $HOME' / "deep"
        with stores.opened(profile(deep)):
            run_id = add_study("nano", "mine")
        [study] = studies(deep, "nano")
        assert study.info.run_id == run_id
        assert (deep / "mlruns" / "nano" / run_id / "artifacts" / "trials.csv").exists()

    def test_leaves_no_connection_open_and_no_lease_behind(self, tmp_path: Path) -> None:
        """SQLite closes a file with its connection; a network file system then shows the others all of it."""
        fresh_store(tmp_path)
        with stores.opened(profile(tmp_path)):
            add_study("nano", "mine")
            gc.collect()
            held = [
                path for name in os.listdir("/proc/self/fd") if str(tmp_path / "mlflow.db") == (path := _target(name))
            ]
        assert held == []
        assert not (tmp_path / "mlflow.db.lease").exists()
        assert sharing.VARIABLE not in os.environ

    def test_a_server_is_used_as_it_is(self) -> None:
        served = Profile.model_validate({"node": {"cpus": 1}, "store": "http://127.0.0.1:9"})
        with stores.opened(served) as uri:
            assert (uri, os.environ[stores.URI]) == ("http://127.0.0.1:9",) * 2
            assert sharing.database() is None


def _target(descriptor: str) -> str:
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""


class TestTurns:
    def test_a_job_that_holds_the_store_for_too_long_is_named(
        self, shared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sharing, "PATIENCE_SECONDS", 0.2)
        said = r"held by another job .*if none runs, delete .*mlflow\.db\.lease"
        lease = SoftFileLease(shared / "mlflow.db.lease", lease_duration=sharing.LEASE_SECONDS)
        with lease, pytest.raises(BenchmarkError, match=said), stores.opened(profile(shared)):
            pass

    @pytest.mark.slow  # a process of its own
    def test_a_job_that_is_killed_in_its_turn_keeps_nobody_out(self, shared: Path) -> None:
        with stores.opened(profile(shared)):
            died = subprocess.run(
                [sys.executable, "-c", DIES], env={**os.environ, "PYTHONPATH": REPOSITORY}, check=False
            )
            assert died.returncode == -signal.SIGKILL
            assert (shared / "mlflow.db.lease").exists()
            add_study("nano", "later")
        assert len(studies(shared, "nano")) == 2

    def test_a_thread_may_ask_again_in_its_turn_and_another_waits(self, shared: Path) -> None:
        order = []

        def wait() -> None:
            with sharing.turn():
                order.append("other")

        with stores.opened(profile(shared)):
            with sharing.turn():
                other = threading.Thread(target=wait)
                other.start()
                with sharing.turn():
                    other.join(0.3)
                    order.append("first")
            other.join()
        assert order == ["first", "other"]

    def test_without_jobs_there_are_no_turns(self, shared: Path) -> None:
        with SoftFileLease(shared / "mlflow.db.lease", lease_duration=sharing.LEASE_SECONDS), sharing.turn():
            client.open_experiment("nano")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run two jobs at once."""
    folder = tmp_path_factory.mktemp("shared")
    with working_in(folder):
        add_study("nano", "first")
        context = multiprocessing.get_context("forkserver")
        begin = context.Event()
        jobs = [
            context.Process(target=job, args=(folder, begin, of, experiments))
            for of, experiments in (("a", ("nano", "other")), ("b", ("squad", "nano", "other")))
        ]
        for one in jobs:
            one.start()
        begin.set()
        for one in jobs:
            one.join()
        assert [one.exitcode for one in jobs] == [0, 0]
        yield folder


@pytest.mark.slow
class TestTwoJobsAtOnce:
    """Both write to the same store, and make the same experiments in another order."""

    def test_all_studies_lie_in_the_experiment_of_their_name(self, written: Path) -> None:
        found = {
            name: {run.data.tags["hpo.method"] for run in studies(written, name)} for name in ("nano", "other", "squad")
        }
        assert found == {
            "nano": {"first", "nano-of-a", "nano-of-b"},
            "other": {"other-of-a", "other-of-b"},
            "squad": {"squad-of-b"},
        }

    def test_each_has_its_trial_with_its_history_and_its_files(self, written: Path) -> None:
        reader = MlflowClient(f"sqlite:///{written}/mlflow.db")
        for study in (run for name in ("nano", "other", "squad") for run in studies(written, name)):
            condition = f"tags.`mlflow.parentRunId` = '{study.info.run_id}'"
            [trial] = reader.search_runs([study.info.experiment_id], condition)
            history = reader.get_metric_history(trial.info.run_id, "eval_loss")
            assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 1.5), (3, 1.0)]
            assert trial.data.params["learning_rate"] == "0.0001"
            assert study.info.status == trial.info.status == "FINISHED"
            files = {file.path for file in reader.list_artifacts(study.info.run_id)}
            assert files >= {"trials.csv", "events.jsonl", "best_config.json"}


class TestRefusals:
    def test_another_version_of_mlflow_changes_nothing(self, shared: Path) -> None:
        with sqlite3.connect(shared / "mlflow.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'older'")
        copy = shared / "copy" / "mlflow.db"  # MLflow in this process knows the other one already
        copy.parent.mkdir()
        shutil.copy(shared / "mlflow.db", copy)
        before = copy.read_bytes()
        said = r"tracking store .*cannot be used .*mlflow db upgrade"
        with pytest.raises(BenchmarkError, match=said), stores.opened(profile(copy.parent)):
            pass
        assert copy.read_bytes() == before

    def test_a_file_that_is_no_database_is_told_before_the_study_begins(self, tmp_path: Path) -> None:
        text = "no database" * 500
        (tmp_path / "mlflow.db").write_text(text)
        said = r"tracking store .*cannot be used"
        with pytest.raises(BenchmarkError, match=said), stores.opened(profile(tmp_path)):
            pass
        assert (tmp_path / "mlflow.db").read_text() == text


@pytest.mark.slow
class TestGatheringAgain:
    """Into a store that jobs share; tests/slurm/test_study_folder.py has the books."""

    @pytest.fixture
    def folder(self, shared: Path) -> Path:
        made = make_folder(shared)
        Job(made, "7").reserve().whole(0, 0.5).whole(1, 0.7).whole(2, 0.9).release()
        return made

    def test_the_same_log_sent_twice_writes_nothing_twice(self, shared: Path, folder: Path) -> None:
        with stores.opened(profile(shared)):
            gather.gather(folder)
            before = (shared / "mlflow.db").read_bytes()
            (folder / "gathered.json").unlink()  # the store knows too
            with pytest.raises(BenchmarkError, match="is in the store already"):
                gather.gather(folder)
        assert (shared / "mlflow.db").read_bytes() == before

    def test_a_gathering_that_broke_off_is_gone_on_with_as_a_whole(
        self, shared: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with stores.opened(profile(shared)):
            with monkeypatch.context() as patch:
                patch.setattr(Tracker, "_write_totals", _fail)
                patch.setattr("hpo.store.tracker.PATIENCE_SECONDS", 0.5)
                with pytest.raises(BenchmarkError, match="the disk is full"):
                    gather.gather(folder)
            [broken] = studies(shared, "synthetic")
            assert broken.info.status == "FAILED"
            found = gather.gather(folder)
        [study] = studies(shared, "synthetic")
        assert study.info.run_id == found.run_id == broken.info.run_id
        assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", 27)
        reader = MlflowClient(f"sqlite:///{shared}/mlflow.db")
        trials = reader.search_runs([study.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
        assert sorted(run.data.tags["hpo.trial"] for run in trials) == ["0", "1", "2"]
        for run in trials:
            steps = [point.step for point in reader.get_metric_history(run.info.run_id, "eval_loss")]
            assert steps == list(range(1, 10))

    def test_of_two_at_once_one_stores_it(self, shared: Path, folder: Path) -> None:
        said: list[str] = []

        def add() -> None:
            try:
                gather.gather(folder)
                said.append("stored")
            except BenchmarkError as error:
                said.append(str(error))

        with stores.opened(profile(shared)):
            both = [threading.Thread(target=add) for _ in range(2)]
            for one in both:
                one.start()
            for one in both:
                one.join()
        assert sorted(said) == [f"{folder}: is in the store already", "stored"]
        assert len(studies(shared, "synthetic")) == 1


@pytest.mark.slow
def test_collecting_tells_the_store_what_a_job_could_not(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job's log has all of the study; its driver has ended before the store took the end of it."""
    with monkeypatch.context() as patch, stores.opened(profile(shared)):
        patch.setenv("SLURM_JOB_ID", "77")
        patch.setattr(Tracker, "finish", _wait_in_vain)
        study, console = Study("random", NANO, budget=2), Console(file=io.StringIO())
        execute(study, "python -m hpo run random", console, InProcess(devices=1), open_tracker=Tracker)
    [broken] = studies(shared, "synthetic")
    assert "units" not in broken.data.metrics
    (shared / "cluster.yaml").write_text(yaml.safe_dump({"node": {"cpus": 1}}))
    monkeypatch.setenv("PATH", f"{shared}:{os.environ['PATH']}")
    for queue, said, status in (
        ("77", "left to job 77, which has not ended", broken.info.status),
        ("", "2 trials, 18 units delivered", "FINISHED"),
    ):
        (shared / "squeue").write_text(f"#!/bin/sh\necho {queue}\n")
        (shared / "squeue").chmod(0o755)
        assert main(["slurm", "collect", "--cluster", "cluster.yaml"]) == 0
        assert f"study {broken.info.run_id}: {said}\n" in capsys.readouterr().out
        [study_run] = studies(shared, "synthetic")
        assert (study_run.info.run_id, study_run.info.status) == (broken.info.run_id, status)
    assert study_run.data.metrics["units"] == 18
    assert not (shared / "unfinished").exists()


def _wait_in_vain(*_: object) -> None:
    raise BenchmarkError("tracking store: away")


def _fail(*_: object) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize(("units", "stands_still"), [([], False), ([0], False), ([3, 9], False), ([3, 9, 9], True)])
def test_a_study_stands_still_where_an_interruption_finds_it_where_the_one_before_did(
    tmp_path: Path, units: list[int], stands_still: bool
) -> None:
    with working_in(tmp_path):
        to = MlflowClient()
        run_id = to.create_run(to.create_experiment("nano")).info.run_id
        for moment, value in enumerate(units):
            to.log_metric(run_id, "units", value, timestamp=moment)
        assert results.stands_still(run_id) is stands_still
