"""Nothing is written outside the folder that the user names, whatever names and links lead elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from hpo.app import cli
from hpo.engine import study_folder as unfinished
from hpo.terminal import files as output
from hpo.workflows import train
from tests.security.hostile import STRINGS, assert_nothing_ran
from tests.stores import fresh_store

ELSEWHERE = ["..", ".", "../elsewhere", "/tmp/PWNED", "a/b", "~", "a\\b", "a\0b", "", " ", *STRINGS.values()]
HEADER = "trial,unit,learning_rate,eval_loss,seconds,devices\n"
ROWS = "".join(f"0,{unit},0.001,1.0,1.0,1\n" for unit in range(1, 10))


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a store, and beside it one that nothing may reach."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("kept")
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(work))
    return work


def assert_untouched(work: Path) -> None:
    """Nothing has been written beside the working folder, or deleted there."""
    beside = {str(path.relative_to(work.parent)) for path in work.parent.rglob("*") if work not in path.parents}
    assert beside == {"work", "elsewhere", "elsewhere/kept"}
    assert (work.parent / "elsewhere/kept").read_text() == "kept"


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestNames:
    """Names that become parts of paths are refused where they could lead out of a folder."""

    @pytest.mark.parametrize("name", ELSEWHERE)
    def test_a_run_that_is_no_name_is_refused(self, name: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`..` would be the working folder itself, deleted once its study has reached its end."""
        (work / "unfinished").mkdir()
        for folder in (work, work / "unfinished", work.parent / "elsewhere"):
            (folder / "study.json").write_text("{}")
        before = snapshot(work.parent)
        with pytest.raises(BenchmarkError, match="no unfinished study"):
            unfinished.Unfinished(name).asked()
        if name:  # without one it lists them
            assert cli.main(["resume", "--", name]) == 2
            assert capsys.readouterr().err.startswith("error: no unfinished study ")
        assert snapshot(work.parent) == before

    @pytest.mark.parametrize("name", ELSEWHERE)
    def test_a_benchmark_s_name_is_a_name(self, name: str, work: Path) -> None:
        content = spec.load("synthetic").model_dump(mode="json", exclude_none=True) | {"name": name}
        (work / "own.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(BenchmarkError, match=r"name: |NUL character"):
            spec.load("own.yaml")
        assert cli.main(["run", "random", "--benchmark", "own.yaml"]) == 2
        assert cli.main(["fetch", "--benchmark", "own.yaml", "--output", "out"]) == 2
        assert_untouched(work)

    @pytest.mark.parametrize("name", [name for name in ELSEWHERE if "\0" not in name])
    def test_a_method_s_label_is_a_name(self, name: str, work: Path) -> None:
        (work / "rows.csv").write_text(HEADER + ROWS)
        words = ["import", "rows.csv", "--benchmark", "synthetic", f"--method={name}", "--accelerator", "cpu"]
        assert cli.main(words) == 2
        assert_untouched(work)

    @pytest.mark.parametrize("key", ["model", "dataset"])
    @pytest.mark.parametrize("name", ["a--b/../../elsewhere", "a/..", "..a/b", "-", "a/b/c", "a\nb", "$(touch PWNED)"])
    def test_what_is_no_name_on_the_hub_is_not_fetched(
        self, key: str, name: str, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        content = spec.load("nano").model_dump(mode="json", exclude_none=True)
        if key == "model":
            content["finetune"]["model"] = name
        else:
            content["finetune"]["data"]["train"] = {"dataset": name, "split": "train"}
        (work / "own.yaml").write_text(yaml.safe_dump(content))
        assert cli.main(["fetch", "--benchmark", "own.yaml", "--output", "out"]) == 2
        assert capsys.readouterr().err.startswith("error: ")
        assert_untouched(work)
        assert_nothing_ran(work.parent)


class TestLinks:
    """Links in an output folder are replaced, not followed; the folder itself may be one."""

    def test_a_file_that_is_a_link_is_replaced(self, work: Path) -> None:
        out = work / "out"
        out.mkdir()
        for name in ("report.html", ".report.html.part", ".new.csv.part"):
            (out / name).symlink_to(work.parent / "elsewhere/kept")
        output.write(out, {"report.html": "1", "new.csv": "2"})
        assert {path.name: path.read_text() for path in out.iterdir()} == {"report.html": "1", "new.csv": "2"}
        assert not any(path.is_symlink() for path in out.iterdir())
        assert_untouched(work)

    def test_the_folder_may_be_a_link(self, work: Path) -> None:
        (work / "real").mkdir()
        (work / "out").symlink_to(work / "real")
        output.write(work / "out", {"a": "1"})
        assert (work / "real/a").read_text() == "1"

    @pytest.mark.parametrize("name", ["model", ".model.part"])
    def test_a_model_s_folder_that_is_a_link_is_replaced(self, name: str, work: Path) -> None:
        """The folder that it points at is neither deleted nor written."""

        class Ranks:
            def save_model(self, folder: Path) -> None:
                folder.mkdir()
                (folder / "weights").write_text("new")

        (work / "out").mkdir()
        (work / "out" / name).symlink_to(work.parent / "elsewhere")
        train._save(Ranks(), Path("out/model"))
        assert (work / "out/model/weights").read_text() == "new"
        assert not (work / "out/model").is_symlink()
        assert_untouched(work)

    @pytest.mark.slow
    def test_reports_and_exports_stay_in_their_folder(self, work: Path, stored: Callable[[], None]) -> None:
        stored()
        for name in ("results", "exported"):
            (work / name).mkdir()
        for name in ("results/report.html", "results/.report.html.part", "exported/.best_config.json.part"):
            (work / name).symlink_to(work.parent / "elsewhere/kept")
        assert cli.main(["compare", "--benchmark", "synthetic"]) == 0
        assert cli.main(["export", "--benchmark", "synthetic", "--method", "other"]) == 0
        assert "<html" in (work / "results/report.html").read_text()
        assert json.loads((work / "exported/best_config.json").read_text())
        assert_untouched(work)


@pytest.fixture
def stored(work: Path) -> Callable[[], None]:
    """Puts a study into the store."""

    def store() -> None:
        (work / "rows.csv").write_text(HEADER + ROWS)
        words = ["import", "rows.csv", "--benchmark", "synthetic", "--method", "other", "--accelerator", "cpu"]
        assert cli.main(words) == 0

    return store


@pytest.mark.slow
def test_tags_that_somebody_edited_name_no_file(work: Path, stored: Callable[[], None]) -> None:
    """Names in the store show in tables and the report; no file is named after them."""
    stored()
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    found: Any = client.get_experiment_by_name("synthetic")
    [run] = client.search_runs([found.experiment_id], "tags.`hpo.kind` = 'study'")
    client.set_tag(run.info.run_id, "hpo.method", "../../elsewhere/x")
    client.set_tag(run.info.run_id, "hpo.variant", "/tmp/PWNED")
    assert cli.main(["compare", "--benchmark", "synthetic", "--output", "out/../results"]) == 0
    assert all("elsewhere" not in path.name for path in (work / "results").iterdir())
    assert_untouched(work)
    assert not Path("/tmp/PWNED").exists()
