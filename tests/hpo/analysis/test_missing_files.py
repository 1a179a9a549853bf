"""Studies whose files cannot be had: named and left out, never scored; and nothing is decided without them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.spec import BenchmarkError
from hpo.analysis import compare, records, standings
from hpo.analysis.records import Records
from hpo.analysis.studies import StudyRecord
from hpo.core.study import text_checksum
from hpo.report import page
from hpo.store import reading
from hpo.workflows import export
from tests.flaky_proxy import DROPPED, Proxy, once, proxy
from tests.hpo.analysis import large_store
from tests.servers import serve
from tests.stores import fresh_store

METHODS = ("asha", "random")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two seeds of each method, all confirmed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # undone at the end
        monkeypatch.setattr(large_store, "METHODS", METHODS)
        fresh_store(folder)
        large_store.generate(folder, studies=2 * len(METHODS), trials=3)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, to be damaged: MLflow takes a second to open another one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made}/mlflow.db")
    monkeypatch.setattr(reading, "WAITS_SECONDS", (0.01, 0.01, 0.01))
    shutil.copytree(made / "artifacts", tmp_path / "whole")
    yield made
    shutil.rmtree(made / "artifacts", ignore_errors=True)
    shutil.copytree(tmp_path / "whole", made / "artifacts")


def the(method: str, seed: int, found: Records) -> StudyRecord:
    [study] = [study for study in found.studies if (study.method, study.seed) == (method, seed)]
    return study


def file_of(store: Path, study: StudyRecord, name: str) -> Path:
    return store / "artifacts" / study.run_id / "artifacts" / name


def names(found: Records) -> list[tuple[str, int]]:
    return [(study.method, study.seed) for study in found.studies]


WHOLE = {"learning_rate": 1e-4, "batch_size_per_device": 8, "weight_decay": 0.1}


def incumbent(**changes: object) -> str:
    """Write the file of an incumbent that is sound but for the changes."""
    sound = {"config": WHOLE, "metrics": {"eval_loss": 1.0, "f1": 0.5}, "units": 9}
    return json.dumps(sound | changes)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("best_config.json", None, "best_config.json is missing or empty, though the study found a configuration"),
        ("best_config.json", '{"config": {"learning', "best_config.json is damaged"),
        ("best_config.json", "[1, 2]", "best_config.json is damaged"),
        ("best_config.json", "{}", "best_config.json is damaged"),
        ("best_config.json", "", "best_config.json is missing or empty"),
        ("trials.csv", None, "trials.csv is missing or empty, though the study had trials"),
        ("trials.csv", "<html>502</html>\n", "trials.csv is damaged"),
        ("trials.csv", "", "trials.csv is missing or empty"),
        ("trials.csv", "trial,outcome\n0,completed\n", "trials.csv has 1 of 3 trials"),
        ("best_config.json", "null", "best_config.json is damaged"),
        ("best_config.json", incumbent(units=None), "best_config.json is damaged"),
        ("best_config.json", incumbent(metrics={}), "best_config.json is damaged"),
        ("best_config.json", incumbent(metrics={"eval_loss": float("nan")}), "best_config.json is damaged"),
        ("best_config.json", incumbent(config={"learning_rate": "fast"}), "best_config.json is damaged (configuration"),
        ("best_config.json", incumbent(config={"learn_rate": 1e-4}), "best_config.json is damaged (configuration"),
        ("units.csv", None, "units.csv is missing or empty, though the study trained units"),
        ("units.csv", "a,b\n1\n2,3,4\n", "units.csv is damaged"),
        ("units.csv", "trial,units,ended_seconds\n0,1,1.0\n0,2", "units.csv is damaged"),
        ("units.csv", "trial,units,ended_seconds\n0,one,1.0\n", "units.csv is damaged"),
        ("devices.csv", "since_seconds,devices\n0.0,two\n", "devices.csv is damaged"),
        (
            "best_config.json",
            incumbent(config={"learning_rate": 1e-4, "weight_decay": 0.1}),
            "best_config.json is damaged: it lacks batch_size_per_device, which trials.csv has",
        ),
        (
            "best_config.json",
            incumbent(schedule=[{"units": 0, "config": WHOLE}, {"units": 3, "config": {"weight_decay": 0.1}}]),
            "best_config.json is damaged: it lacks learning_rate, batch_size_per_device, which trials.csv has",
        ),
        (
            "units.csv",
            "trial,units,ended_seconds\n0,1,1.0\n0,2,2.0\n",
            "units.csv is damaged: it lacks units of trial 0, which trials.csv has",
        ),
    ],
)
def test_a_study_that_found_something_and_lacks_a_file_is_left_out_with_a_note(
    store: Path, name: str, content: str | None, fault: str
) -> None:
    broken = the("asha", 1, records.read("synthetic"))
    path = file_of(store, broken, name)
    path.unlink() if content is None else path.write_text(content)
    found = records.read("synthetic")
    assert names(found) == [("asha", 0), ("random", 0), ("random", 1)]
    [note] = found.left_out
    assert note.startswith(f"asha seed 1 (run {broken.run_id}): {fault}")
    result = compare.compare(found)
    [asha] = [contestant for contestant in result.contestants if contestant.name == "asha"]
    assert list(asha.scores(found.benchmark.verdict_metric)) == [0]  # the other seed has no score, and not the worst
    assert f"left out: {note}" in result.notes


@pytest.mark.slow
def test_the_report_names_a_study_that_is_left_out(store: Path) -> None:
    broken = the("asha", 1, records.read("synthetic"))
    file_of(store, broken, "best_config.json").unlink()
    report = page.files(compare.compare(records.read("synthetic")))["report.html"]
    assert f"left out: asha seed 1 (run {broken.run_id})" in report


@pytest.mark.slow
@pytest.mark.parametrize("table", ["trials", "units"])
def test_a_study_whose_table_the_store_refused_counts_by_its_incumbent(store: Path, table: str) -> None:
    study = the("asha", 1, records.read("synthetic"))
    file_of(store, study, f"{table}.csv").unlink()
    client = MlflowClient()
    client.set_tag(study.run_id, "hpo.refused_files", f"{table}.csv (413 Request Entity Too Large)")
    try:
        found = records.read("synthetic")
    finally:
        client.delete_tag(study.run_id, "hpo.refused_files")
    assert len(found.studies) == 4
    assert found.left_out == [f"{table} of asha seed 1 (run {study.run_id}): the store has no {table}.csv"]
    assert len(found.confirmations_of(the("asha", 1, found))) == 1
    page.files(compare.compare(found))


def reached(found: Records) -> tuple[int, int]:
    """Tell of how many of ASHA's studies it is known when they were as good as the grid, here one of random search."""
    contestants = {one.name: one for one in compare.compare(found).contestants}
    spells = standings._on_the_way_to_grid(contestants["asha"], contestants["random"], found.benchmark)
    return sum(spell.has_reached for spell in spells), len(spells)


@pytest.mark.slow
def test_a_study_without_devices_tells_nothing_of_when_it_reached_a_target(store: Path) -> None:
    study = the("asha", 1, records.read("synthetic"))
    _, known = reached(records.read("synthetic"))
    file_of(store, study, "devices.csv").unlink()
    found = records.read("synthetic")
    assert len(found.studies) == 4
    assert found.left_out == [f"devices of asha seed 1 (run {study.run_id}): the store has no devices.csv"]
    assert (reached(found)[1], known) == (1, 2)
    page.files(compare.compare(found))


PLAN_TEXT = '{"not": "read here"}'


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "it is missing"),
        (lambda path: path.write_text("{}"), "it is not as it was stored"),
        (lambda path: path.write_bytes(b"\xff"), "codec can't decode"),
    ],
    ids=["missing", "changed", "unreadable"],
)
def test_a_plan_that_cannot_be_read_is_not_taken_for_none(
    store: Path, damage: Callable[[Path], object], reason: str
) -> None:
    client, plan, planned = MlflowClient(), text_checksum(PLAN_TEXT), records.read("synthetic").studies[:2]
    paths = [file_of(store, study, "plan.json") for study in planned]
    for study, path in zip(planned, paths, strict=True):
        client.set_tag(study.run_id, "hpo.plan", plan)
        path.write_text(PLAN_TEXT)
    try:
        damage(paths[0])
        assert records.read("synthetic").plans == {plan: PLAN_TEXT}  # another study of the plan has it
        damage(paths[1])
        found = records.read("synthetic")
        assert not found.plans
        sentence = compare.compare(found).plan.sentence
        assert sentence.startswith(f"It is not known whether this is as planned: studies ran under plan {plan}, whose")
        assert reason in sentence
    finally:
        for study in planned:
            client.delete_tag(study.run_id, "hpo.plan")


@contextmanager
def without_best_scores(store: Path, run_id: str) -> Iterator[None]:
    """A run as one without a sound trial has it."""
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute(
            "update latest_metrics set key = 'not_' || key where key like 'best_%' and run_uuid = ?", (run_id,)
        )
    yield
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute("update latest_metrics set key = substr(key, 5) where key like 'not_best_%'")


def test_a_study_without_a_sound_trial_stays_and_scores_the_worst(store: Path) -> None:
    lost = the("asha", 1, records.read("synthetic"))
    file_of(store, lost, "best_config.json").unlink()
    with without_best_scores(store, lost.run_id):
        found = records.read("synthetic")
    assert (len(found.studies), found.left_out) == (4, [])
    [asha] = [contestant for contestant in compare.compare(found).contestants if contestant.name == "asha"]
    assert asha.scores(found.benchmark.verdict_metric)[1] == found.benchmark.diverged_above


def test_the_benchmark_is_read_from_another_study_if_the_newest_lost_it(store: Path) -> None:
    found = records.read("synthetic")
    newest = max(found.studies, key=lambda study: study.started)
    file_of(store, newest, "benchmark.json").unlink()
    assert records.read("synthetic").benchmark == found.benchmark


def test_a_store_whose_files_are_all_gone_is_an_error_that_names_them(store: Path) -> None:
    shutil.rmtree(store / "artifacts")
    with pytest.raises(
        BenchmarkError, match=r"has no benchmark\.json, nor has any study like it; restore the artifacts in"
    ):
        records.read("synthetic")


class TestDecisions:
    def lose(self, store: Path, method: str, seed: int) -> str:
        study = the(method, seed, records.read("synthetic"))
        file_of(store, study, "best_config.json").unlink()
        return study.run_id

    @pytest.mark.parametrize("method", ["asha", "random"])
    def test_the_best_method_is_not_chosen_while_a_file_is_missing(
        self, store: Path, tmp_path: Path, method: str
    ) -> None:
        run_id = self.lose(store, method, 0)
        with pytest.raises(BenchmarkError, match=f"{method} seed 0 .*mlflow runs delete --run-id {run_id}"):
            export.export("synthetic", "best", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_method_by_name_needs_its_own_studies_only(self, store: Path, tmp_path: Path) -> None:
        self.lose(store, "random", 0)
        assert export.export("synthetic", "asha", tmp_path / "out").choice.contestant.name == "asha"
        with pytest.raises(BenchmarkError, match="random seed 0"):
            export.export("synthetic", "random", tmp_path / "out")

    def test_a_run_that_is_deleted_is_no_longer_missed(self, store: Path, tmp_path: Path) -> None:
        lost = self.lose(store, "asha", 0)
        MlflowClient().delete_run(lost)
        try:
            assert export.export("synthetic", "best", tmp_path / "out").files
        finally:
            MlflowClient().restore_run(lost)

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            (0, "is missing or empty, though trainings ended"),
            (3, "has 2 of 4 trainings"),
        ],
    )
    def test_nothing_is_trained_again_while_confirmations_cannot_be_read(
        self, store: Path, tmp_path: Path, lines: int, fault: str
    ) -> None:
        from hpo.workflows import confirm

        [run] = MlflowClient().search_runs(["1"], "tags.hpo.kind = 'confirmation'")
        table = store / "artifacts" / run.info.run_id / "artifacts" / "trials.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:lines]))
        found = records.read("synthetic")
        assert found.left_out == [f"a confirmation (run {run.info.run_id}): trials.csv {fault}"]
        with pytest.raises(BenchmarkError, match="a confirmation"):
            confirm.due(found, [], repeats=1)
        with pytest.raises(BenchmarkError, match="a confirmation"):
            export.export("synthetic", "best", tmp_path / "out")


# ---- from a server


@pytest.fixture(scope="module")
def server(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Path]]:
    """A server that hands out the artifacts itself, with a proxy before it; and the folder that it has them in."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute(
            "update runs set artifact_uri = replace(artifact_uri, ?, ?)", (f"{made}/artifacts", "mlflow-artifacts:")
        )
    uri = f"sqlite:///{folder}/mlflow.db"
    with (
        serve(uri, folder, "--artifacts-destination", str(folder / "artifacts")) as running,
        proxy(running.uri) as made_proxy,
    ):
        yield made_proxy, folder


@pytest.fixture
def flaky(server: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made_proxy, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made_proxy.uri)
    monkeypatch.setattr(reading, "WAITS_SECONDS", (0.01, 0.01, 0.01))
    made_proxy.asked.clear()
    yield made_proxy
    made_proxy.fault = lambda path, before: None


@pytest.mark.slow
class TestFromAServer:
    @pytest.mark.parametrize("status", [503, 429, DROPPED])
    def test_one_failure_of_each_request_changes_nothing(self, flaky: Proxy, status: int) -> None:
        undisturbed = compare.compare(records.read("synthetic"))
        flaky.asked.clear()
        flaky.fault = once(status)
        disturbed = compare.compare(records.read("synthetic"))
        assert sum(number - 1 for number in flaky.asked.values()) >= 4 * 3  # every file of every study failed once
        assert (disturbed.standings, disturbed.pairs) == (undisturbed.standings, undisturbed.pairs)
        assert disturbed.notes == undisturbed.notes

    def test_a_file_that_is_never_handed_out_is_given_up_and_its_study_left_out(
        self, flaky: Proxy, tmp_path: Path
    ) -> None:
        broken = the("random", 0, records.read("synthetic"))
        flaky.asked.clear()
        flaky.fault = lambda path, before: 503 if broken.run_id in path and "best_config.json" in path else None
        found = records.read("synthetic")
        assert names(found) == [("asha", 0), ("asha", 1), ("random", 1)]
        assert "best_config.json cannot be read" in found.left_out[0]
        assert max(number for asked, number in flaky.asked.items() if "best_config.json" in asked) == 4
        with pytest.raises(BenchmarkError, match="random seed 0"):
            export.export("synthetic", "best", tmp_path)

    def test_a_server_that_hands_out_no_file_is_asked_four_times_and_not_once_per_study(self, flaky: Proxy) -> None:
        flaky.fault = lambda path, before: 503 if "artifacts" in path else None
        with pytest.raises(BenchmarkError, match=r"benchmark\.json cannot be read .*; try again later"):
            records.read("synthetic")
        assert sum(number for asked, number in flaky.asked.items() if "artifacts" in asked) == 4

    def test_a_deleted_file_is_told_from_one_that_never_was(self, flaky: Proxy, server: tuple[Proxy, Path]) -> None:
        broken = the("random", 0, records.read("synthetic"))
        path = file_of(server[1], broken, "best_config.json")
        text = path.read_text()
        path.unlink()
        try:
            found = records.read("synthetic")
        finally:
            path.write_text(text)
        assert found.left_out == [
            f"random seed 0 (run {broken.run_id}): best_config.json is missing or empty, "
            "though the study found a configuration"
        ]
        assert json.loads(text) == broken.best
