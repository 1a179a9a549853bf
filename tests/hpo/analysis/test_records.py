"""Stored studies as a comparison gets them: from a file or a server, and never two kinds in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.spec import BenchmarkError
from hpo.analysis import compare, records
from hpo.analysis.records import Records
from tests.hpo.analysis import large_store
from tests.servers import serve
from tests.stores import fresh_store

SEEDS = 2
METHODS = len(large_store.METHODS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two seeds of ten methods."""
    made = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # undone at the end
        fresh_store(made)
        large_store.generate(made, studies=SEEDS * METHODS, trials=3)
    return made


@pytest.fixture(autouse=True)
def uri(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def retag(uri: str) -> Iterator[None]:
    """Whatever a test does to tags is undone."""
    client = MlflowClient()
    runs = client.search_runs(["1"], "tags.hpo.kind != 'trial'")
    yield
    for run in runs:
        for key in records.COMPARABLE:
            if key in run.data.tags:
                client.set_tag(run.info.run_id, key, run.data.tags[key])
            elif key in client.get_run(run.info.run_id).data.tags:
                client.delete_tag(run.info.run_id, key)


def names(found: Records) -> list[tuple[str, int]]:
    return [(study.method, study.seed) for study in found.studies]


def test_every_study_comes_back_with_its_trials_units_and_incumbent() -> None:
    found = records.read("synthetic")
    assert names(found) == sorted((method, seed) for method in large_store.METHODS for seed in range(SEEDS))
    for study in found.studies:
        assert study.outcomes == {"completed": 3}
        assert len(study.units) == 27
        assert study.best is not None
        assert study.best["metrics"]["eval_loss"] == study.metrics["best_eval_loss"]
        best_row = study.trials.loc[study.trials["eval_loss"].idxmin()]
        assert study.schedule == [(0, study.best["config"])]
        assert best_row["learning_rate"] == study.best["config"]["learning_rate"]


def test_every_incumbent_finds_its_confirmations() -> None:
    found = records.read("synthetic")
    assert [len(found.confirmations_of(study)) for study in found.studies] == [1] * len(found.studies)
    assert found.left_out == []


@pytest.mark.slow
@pytest.mark.usefixtures("retag")
@pytest.mark.parametrize(("tag", "why"), list(records.COMPARABLE.items()))
def test_studies_that_differ_in_what_makes_them_comparable_are_never_mixed(tag: str, why: str) -> None:
    found = records.read("synthetic")
    newest = max(found.studies, key=lambda study: study.started)
    other = next(study for study in found.studies if study is not newest)
    MlflowClient().set_tag(other.run_id, tag, "another")
    again = records.read("synthetic")
    assert len(again.studies) == len(found.studies) - 1
    assert other.run_id not in [study.run_id for study in again.studies]
    assert again.left_out == [f"1 study of {why}"]
    assert f"left out: 1 study of {why}" in compare.compare(again).notes


@pytest.mark.usefixtures("retag")
def test_the_newest_study_decides_which_are_read() -> None:
    newest = max(records.read("synthetic").studies, key=lambda study: study.started)
    MlflowClient().set_tag(newest.run_id, "hpo.accelerator", "NVIDIA H100")
    again = records.read("synthetic")
    assert names(again) == [(newest.method, newest.seed)]
    assert again.left_out == [f"{SEEDS * METHODS - 1} studies of another accelerator"]


def test_an_empty_store_names_the_next_command() -> None:
    with pytest.raises(BenchmarkError, match=r"no finished study of nano in .*; run one first: python -m hpo run"):
        records.read("nano")


@pytest.mark.slow
def test_a_server_gives_the_same_comparison(folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = compare.compare(records.read("synthetic"))
    with serve(uri, folder) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        there = compare.compare(records.read("synthetic"))
    assert there.standings == here.standings
    assert there.pairs == here.pairs
