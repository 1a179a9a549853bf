"""Studies of the store as a bank: each trial of one configuration, as far as it got."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.banks import bank as banks
from hpo.app.cli import main
from hpo.core.study import Study
from hpo.recording.collecting import trainings_of
from hpo.store.tracker import Tracker
from tests.hpo.told import Told
from tests.stores import fresh_store

SYNTHETIC = spec.load("synthetic")
LAST = {"eval_loss": 0.5, "exact_match": 0.5, "f1": 0.75}


def told(seed: int = 0, tracker: Tracker | None = None) -> Told:
    """Tell a study with a full trial, a stopped one, one that failed, and one that took over the first."""
    study = Study("pbt", SYNTHETIC, seed=seed, budget=4)
    story = Told(study, tracker, varies=True)
    for number, (name, units) in enumerate({"full": 9, "short": 3, "lost": 2}.items()):
        story.begin(name, {"learning_rate": 1e-4 * (1 + number)})
        for unit in range(1, units + 1):
            parts = {"train_seconds": 0.5, "evaluate_seconds": 0.25, "startup_seconds": 2.0 * (unit == 1)}
            story.report(name, {**LAST, "eval_loss": 4.0 / unit, "units": unit, **parts})
        if name == "lost":
            story.fail(name, "out of memory: tried to allocate")
        else:
            story.end(name)
    return story


def test_each_trial_is_a_training_as_far_as_it_got() -> None:
    trainings, mixed = trainings_of(told(seed=3).events, SYNTHETIC, "one")
    ends = [(t.config["learning_rate"], t.outcome, len(t.units), t.seed) for t in trainings]
    assert ends == [(1e-4, "completed", 9, 3), (2e-4, "stopped", 3, 3), (pytest.approx(3e-4), "out_of_memory", 2, 3)]
    assert mixed == 0
    first = trainings[0]
    assert (first.source, first.session, first.startup_seconds) == ("study", "one", 2.0)
    assert [unit.metrics["eval_loss"] for unit in first.units] == [4.0 / unit for unit in range(1, 10)]
    assert {(unit.train_seconds, unit.evaluate_seconds) for unit in first.units} == {(0.5, 0.25)}


def test_a_member_that_took_over_another_is_left_out() -> None:
    story = told()
    story.begin("member", {"learning_rate": 1e-2})
    story.report("member", {**LAST, "units": 1})
    story.exploit("member", "full", 1, {"learning_rate": 2e-2})
    trainings, mixed = trainings_of(story.events, SYNTHETIC, "one")
    assert (len(trainings), mixed) == (3, 1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_the_command_turns_a_store_into_a_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        study = Study("pbt", SYNTHETIC, seed=seed, budget=4)
        told(seed, Tracker(study, "Tesla V100", "python -m hpo")).finish()
    assert main(["bank", "collect", "--benchmark", "synthetic"]) == 0
    assert "6 trainings of 2 studies collected" in capsys.readouterr().out
    bank = banks.read(tmp_path / "banks/synthetic.parquet")
    assert [len(of_one) for of_one in bank.configurations()] == [2, 2, 2]
    assert {session.accelerator for session in bank.header.sessions} == {"Tesla V100"}
    assert main(["bank", "collect", "--benchmark", "synthetic"]) == 0
    assert banks.read(tmp_path / "banks/synthetic.parquet").trainings == bank.trainings


@pytest.mark.usefixtures("store")
def test_a_store_without_studies_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bank", "collect", "--benchmark", "synthetic"]) == 2
    assert "the store has no study of synthetic in this version" in capsys.readouterr().err
    assert not (tmp_path / "banks").exists()
