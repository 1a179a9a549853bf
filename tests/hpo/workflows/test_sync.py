"""A store that is behind a study, or ahead of its folder: missing parts are written once, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from hpo.app.cli import main
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.events import Event
from hpo.core.study import Study
from hpo.engine import snapshot
from hpo.engine.in_process import InProcess, Unstored
from hpo.engine.study_folder import Unfinished
from hpo.store import client as store
from hpo.store.tracker import Tracker
from tests.hpo.core.told_studies import logs, sound
from tests.hpo.engine.in_process import run
from tests.hpo.told import Told
from tests.stores import working_in
from tests.studies import read, steps

REPOSITORY = Path(__file__).parents[3]
STUDY = Study("random", spec.load("synthetic"), 0, 2)
FIRST = {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0}
OTHER = {"learning_rate": 1e-4, "batch_size_per_device": 16, "weight_decay": 0.0}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> Iterator[None]:
    with working_in(tmp_path):
        yield


def new_tracker(run_id: str | None = None) -> Tracker:
    return Tracker(STUDY, "cpu", "python -m hpo", run_id=run_id)


def report(told: Told, name: str, units: int) -> None:
    told.report(name, {"units": units, "eval_loss": 1.0 / units}, at=float(units))


def test_what_a_study_did_after_it_was_told_to_end_is_done_again_and_stored_once() -> None:
    """A trial that has ended since is on its way again, and the place of a trial that began since has another."""
    told = Told(STUDY, tracker := new_tracker())
    told.begin("a", FIRST)
    report(told, "a", 1)
    kept = list(told.events)
    report(told, "a", 2)
    told.end("a")
    told.begin("b", FIRST)
    report(told, "b", 1)
    told.finish("KILLED")
    again = new_tracker(tracker.run_id)
    again.reopen()
    again.resume(kept)
    resumed = Told(STUDY, again, events=kept)
    report(resumed, "a", 2)
    resumed.begin("c", OTHER)
    report(resumed, "c", 1)
    for name in ("a", "c"):
        resumed.end(name)
    resumed.finish()
    uri = os.environ["MLFLOW_TRACKING_URI"]
    study, [first, second] = read(uri, "synthetic")
    assert {run.info.status for run in (study, first, second)} == {"FINISHED"}
    assert [steps(uri, run) for run in (first, second)] == [[1, 2], [1]]
    assert second.data.params["learning_rate"] == str(OTHER["learning_rate"])


def test_units_that_wait_together_are_one_write_for_each_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials train at once; the third unit comes after the others were handed to the store."""
    told, writes, log_batch = Told(STUDY, tracker := new_tracker()), [], MlflowClient.log_batch

    def noting(self: MlflowClient, run_id: str, metrics: Sequence[Metric] = (), **rest: Any) -> None:
        writes.extend([found] if (found := [point.step for point in metrics if point.key == "eval_loss"]) else [])
        log_batch(self, run_id, metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", noting)
    told.begin("a", FIRST)
    told.begin("b", OTHER)
    for units in (1, 2):
        report(told, "a", units)
        report(told, "b", units)
    tracker.deliver()
    report(told, "a", 3)
    told.end("a")
    told.end("b")
    told.finish()
    assert writes == [[1, 2], [1, 2], [3]]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    _, [first, second] = read(uri, "synthetic")
    assert [steps(uri, run) for run in (first, second)] == [[1, 2, 3], [1, 2]]
    assert [run.data.metrics["eval_loss"] for run in (first, second)] == [1 / 3, 1 / 2]


@pytest.mark.slow
def test_a_log_that_is_sent_twice_is_stored_once() -> None:
    """Whatever the first driver got to: the second reads the whole log again."""
    told = Told(STUDY, tracker := new_tracker())
    told.begin("a", FIRST)
    for units in (1, 2):
        report(told, "a", units)
    told.end("a")
    told.begin("b", OTHER)
    report(told, "b", 1)
    told.fail("b", "RuntimeError: x")
    told.finish()
    uri, before = os.environ["MLFLOW_TRACKING_URI"], _stored(tracker.run_id)
    for _ in range(2):
        again = new_tracker(tracker.run_id)
        again.began_at = tracker.began_at
        again.resume(told.events)
        again.finish(told.books, partial(event_log.text_of, told.events), on_gpu=False, status="FINISHED")
        assert _stored(tracker.run_id) == before
    _, trials = read(uri, "synthetic")
    assert [steps(uri, run) for run in trials] == [[1, 2], [1]]
    assert [run.info.status for run in trials] == ["FINISHED", "FAILED"]


@pytest.mark.slow
def test_units_of_a_second_attempt_reach_a_store_that_has_those_of_the_first() -> None:
    """The driver is killed once the store has all three units of the first attempt; the second begins after the one
    that a checkpoint kept."""
    name, config = "a", ((0, FIRST),)

    def a_unit(at: float, units: int) -> Event:
        return core.Unit(at, name, units, 1.0, False, {"eval_loss": 1.0 / at}, {"train": 1.0})

    events: list[Event] = [core.Reserved(0.0, 1), core.Proposed(0.0, name, 0, 0, config), core.Began(0.0, name, 1.0)]
    events += [a_unit(1.0, 1), core.Checkpoint(1.0, name, True), a_unit(2.0, 2), a_unit(3.0, 3)]
    first = len(events)
    events += [core.Failed(4.0, name, "x"), core.Retried(4.0, name, "x"), core.Began(4.0, name, 1.0)]
    events += [a_unit(5.0, 2), a_unit(6.0, 3), core.Ended(7.0, name, "stopped", ""), core.Released(7.0)]
    tracker = new_tracker()
    tracker.tell_whole(events[:first], on_gpu=False, status="KILLED")
    again = new_tracker(tracker.run_id)
    again.began_at = tracker.began_at
    again.tell_whole(events, on_gpu=False, status="FINISHED")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    _, [trial] = read(uri, "synthetic")
    assert steps(uri, trial) == [1, 2, 3, 2, 3]
    assert (trial.data.metrics["device_seconds"], trial.data.metrics["eval_loss"]) == (6.0, 1.0 / 6.0)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(logs(of=sound))
def test_any_log_that_is_told_again_writes_nothing_twice(events: list[Event]) -> None:
    """Also if the study is cut off in the middle, and its trials have no end."""
    tracker = new_tracker()
    tracker.tell_whole(events, on_gpu=False, status="KILLED")
    before = _stored(tracker.run_id)
    again = new_tracker(tracker.run_id)
    again.began_at = tracker.began_at
    again.tell_whole(events, on_gpu=False, status="KILLED")
    assert _stored(tracker.run_id) == before


def _stored(run_id: str) -> list[object]:
    """Read all that a study's runs hold, down to each point of each metric."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    runs = sorted(client.search_runs([experiment]), key=lambda run: str(run.info.run_id))
    points = [
        [sorted((p.key, p.step, p.timestamp, p.value) for p in client.get_metric_history(run.info.run_id, key))]
        for run in runs
        for key in sorted(run.data.metrics)
    ]
    return [[(run.info.run_id, run.info.status, run.data.params, run.data.tags) for run in runs], points]


@pytest.mark.parametrize(
    ("status", "has_ended", "lacks"),
    [
        ("RUNNING", False, True),
        ("FAILED", True, True),  # its driver was interrupted while writes waited
        ("KILLED", False, False),
        ("KILLED", True, True),  # a copy of the store from before its end
        ("FINISHED", True, False),
    ],
)
def test_a_study_that_ended_is_whole_once_the_store_says_so(status: str, has_ended: bool, lacks: bool) -> None:
    tracker = new_tracker()
    if status != "RUNNING":
        MlflowClient().set_terminated(tracker.run_id, status)
    assert tracker.lacks_end(has_ended) == lacks


@pytest.mark.parametrize("run_id", ["4f2a", "../elsewhere", "/tmp/elsewhere"])
def test_asking_for_what_is_not_there_makes_nothing(
    run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["sync", run_id]) == 1
    assert f"no unfinished study {run_id!r}" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert not Unfinished(run_id).is_running
    assert not Path("/tmp/elsewhere").exists()


def test_an_experiment_that_another_process_makes_meanwhile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    client, ask = MlflowClient(), MlflowClient.get_experiment_by_name
    mine = client.create_experiment("shared")
    answers = iter([None])  # it is not there yet when it is asked for
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda self, name: next(answers, ask(self, name)))
    assert store.open_experiment("shared", {"tag": "value"})[1] == mine
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda self, name: None)
    with pytest.raises(MlflowException):
        store._make_experiment(client, "shared")


def test_a_parent_that_is_the_first_process_of_a_container_is_alive() -> None:
    code = "import os; os.getppid = lambda: 1; from benchmarks import parent; parent.end_with_parent(); print('on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "on\n")


@pytest.mark.slow
def test_a_state_that_had_no_room_is_kept_once_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full to the study's end, and has room again while the study waits for its store in vain."""
    write, disk = Unfinished.write, {"is_full": True}

    def write_if_room(self: Unfinished, state: Any) -> None:
        write(self, state)
        if disk["is_full"]:
            self._state.unlink()
            self.fault = f"{self.folder}: No space left on device"

    def wait_in_vain(self: Any, *_: Any) -> None:
        disk["is_full"] = False
        raise BenchmarkError("tracking store: away")

    monkeypatch.setattr(Unfinished, "write", write_if_room)
    monkeypatch.setattr(Unstored, "finish", wait_in_vain)
    finished = run(STUDY, InProcess(devices=1), Path())
    kept = snapshot.read(Unfinished(Unstored.RUN_ID))
    assert kept is not None
    assert (finished.is_delivered, finished.reason) == (False, "tracking store: away")
    assert kept.has_ended
    assert [row.outcome for row in kept.books.rows] == ["completed", "completed"]


@pytest.mark.slow
def test_a_confirmation_whose_store_is_away_is_shown_and_not_trained_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(STUDY, new_tracker())
    told.begin("a", FIRST)
    for units in range(1, STUDY.max_units + 1):
        report(told, "a", units)
    told.end("a")
    told.finish()

    def wait_in_vain(self: Tracker, *_: Any) -> None:
        raise BenchmarkError("tracking store: away")

    monkeypatch.setattr(Tracker, "finish", wait_in_vain)
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(devices=2))
    assert main(["confirm", "--benchmark", "synthetic", "--repeats", "1"]) == 1
    printed = capsys.readouterr()
    assert "confirm on synthetic" in printed.out
    assert printed.out.endswith("deliver its results:    python -m hpo sync\n")
    assert "not all results of this study could be stored (tracking store: away)" in printed.err
    monkeypatch.undo()
    assert main(["sync"]) == 0
    assert "2 trials, 18 units delivered" in capsys.readouterr().out
