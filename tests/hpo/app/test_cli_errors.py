"""A user's mistakes: one paragraph on stderr that names the value and the rule, exit status 2, nothing started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from mlflow import MlflowClient

from benchmarks.spec import names
from hpo.app import cli

REPOSITORY = Path(__file__).parents[3]
BENCHMARKS = REPOSITORY / "benchmarks"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracking store of the test's own; no mistake may get as far as making it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store/mlflow.db")
    return tmp_path / "store"


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], store: Path) -> Callable[..., str]:
    """Runs a command that must be refused; returns the paragraph."""

    def run(*arguments: object) -> str:
        status = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert status == 2
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1, "one line"
        assert captured.err.endswith("\n")
        assert "Traceback" not in captured.out + captured.err
        assert not ray.is_initialized()
        assert not store.exists()
        return captured.err

    return run


@pytest.fixture
def benchmark(tmp_path: Path) -> Callable[[str, Edit], Path]:
    """Writes a shipped benchmark with one thing changed; its paths made absolute."""

    def write(name: str, edit: Edit) -> Path:
        content = yaml.safe_load((BENCHMARKS / f"{name}.yaml").read_text())
        if "finetune" in content:
            finetune = content["finetune"]
            finetune["model"] = str(BENCHMARKS / finetune["model"])
            finetune["deepspeed"] = str(BENCHMARKS / finetune["deepspeed"])
            for split in finetune["data"].values():
                split["file"] = str(BENCHMARKS / split["file"])
        edit(content)
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


Fails = Callable[..., str]
Write = Callable[[str, Edit], Path]


class TestNames:
    def test_no_command(self, fails: Fails) -> None:
        assert "COMMAND" in fails()

    def test_an_unknown_command_is_named_with_those_there_are(self, fails: Fails) -> None:
        error = fails("runn")
        assert "'runn'" in error
        assert "compare" in error

    def test_no_method(self, fails: Fails) -> None:
        assert "method" in fails("run")

    def test_an_unknown_method_is_named_with_those_there_are(self, fails: Fails) -> None:
        error = fails("run", "ashaa")
        assert "'ashaa'" in error
        assert "asha, " in error
        assert "random" in error

    def test_an_unknown_benchmark_is_named_with_those_there_are(self, fails: Fails) -> None:
        error = fails("run", "random", "--benchmark", "nanoo")
        assert "'nanoo'" in error
        assert f"choose one of {', '.join(names())}, or give the path of a YAML file" in error

    def test_a_benchmark_file_that_is_not_there_is_named(self, fails: Fails) -> None:
        assert "nowhere.yaml: no such benchmark file" in fails("run", "random", "--benchmark", "nowhere.yaml")

    def test_an_unknown_option_is_named_with_those_there_are(self, fails: Fails) -> None:
        error = fails("run", "asha", "--reduction", "3")
        assert "--reduction 3" in error
        assert "--reduction-factor" in error
        assert "--budget" in error

    def test_an_option_of_another_method_is_refused(self, fails: Fails) -> None:
        assert "--grace-units" in fails("run", "random", "--grace-units", "1")

    def test_an_option_is_not_abbreviated(self, fails: Fails) -> None:
        assert "--bud" in fails("run", "random", "--bud", "3")


class TestDecisions:
    """Commands that read what is stored, where nothing is."""

    @pytest.mark.parametrize("command", ["compare", "confirm", "export"])
    def test_nothing_is_stored(self, command: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        store.mkdir()
        assert cli.main([command, "--benchmark", "synthetic"]) == 2
        error = capsys.readouterr().err
        assert "no finished study of synthetic" in error
        assert "python -m hpo run random --benchmark synthetic" in error
        assert list(store.iterdir()) == []

    @pytest.mark.parametrize("value", ["many", "-1", "1.5"])
    def test_a_budget_that_is_no_whole_number(self, fails: Fails, value: str) -> None:
        assert f"budget is '{value}'" in fails("compare", "--budget", value)

    def test_a_limit_that_is_no_number(self, fails: Fails) -> None:
        assert "max_memory_mb is 'much'" in fails("compare", "--max-memory-mb", "much")

    def test_no_configuration_to_train(self, fails: Fails) -> None:
        error = fails("train", "--benchmark", "nano")
        assert "no such file; write one with: python -m hpo export" in error

    def test_a_benchmark_that_trains_no_model(self, fails: Fails, tmp_path: Path) -> None:
        (tmp_path / "best_config.json").write_text('{"config": {"learning_rate": 0.001}}')
        error = fails("train", "--benchmark", "synthetic", "--config", "best_config.json")
        assert "trains no model" in error

    def test_own_data_that_is_not_there(self, fails: Fails, tmp_path: Path) -> None:
        (tmp_path / "best_config.json").write_text('{"config": {"learning_rate": 0.001}}')
        assert "nowhere.json" in fails("train", "--config", "best_config.json", "--data-train", "nowhere.json")

    def test_no_file_to_import(self, fails: Fails) -> None:
        error = fails("import", "no.csv", "--benchmark", "nano", "--method", "m", "--accelerator", "cpu")
        assert "no.csv" in error

    def test_what_an_import_needs_is_named(self, fails: Fails) -> None:
        assert "--accelerator" in fails("import", "no.csv", "--benchmark", "nano", "--method", "m")


class TestNumbers:
    @pytest.mark.parametrize("value", ["1", "0.5", "-3", "three", "nan"])
    def test_a_reduction_factor_that_reduces_nothing(self, fails: Fails, value: str) -> None:
        error = fails("run", "asha", "--benchmark", "synthetic", "--reduction-factor", value)
        assert "'reduction_factor'" in error
        assert f"'{value}'" in error

    def test_a_searcher_that_is_not_there_is_named_with_those_there_are(self, fails: Fails) -> None:
        error = fails("run", "asha", "--benchmark", "synthetic", "--searcher", "grid")
        assert "'grid'" in error
        assert "'random', 'hyperopt' or 'optuna'" in error

    @pytest.mark.parametrize("value", ["0", "-1"])
    def test_a_budget_below_one(self, fails: Fails, value: str) -> None:
        assert f"budget is {value}, but must be >= 1" in fails("run", "random", "--budget", value)

    @pytest.mark.parametrize("value", ["twelve", "1.5", ""])
    def test_a_budget_that_is_no_whole_number(self, fails: Fails, value: str) -> None:
        error = fails("run", "random", "--budget", value)
        assert "--budget" in error
        assert f"'{value}'" in error

    def test_a_negative_seed(self, fails: Fails) -> None:
        assert "seed is -1" in fails("run", "random", "--seed", "-1")

    @pytest.mark.parametrize("value", ["0", "-2", "nan", "two"])
    def test_a_cap_that_is_no_number_of_hours(self, fails: Fails, value: str) -> None:
        error = fails("run", "random", "--benchmark", "synthetic", "--gpu-hours", value)
        assert "gpu_hours is " in error
        assert value in error

    @pytest.mark.parametrize("units", [9, 10])
    def test_a_first_rung_at_or_beyond_the_full_resource(self, fails: Fails, units: int) -> None:
        error = fails("run", "asha", "--benchmark", "synthetic", "--grace-units", units)
        assert f"grace_units is {units}, but must be < max_units, which is 9" in error


class TestBenchmarkFile:
    def test_an_unknown_key_is_named_with_those_there_are(self, fails: Fails, benchmark: Write) -> None:
        path = benchmark("synthetic", lambda content: content.update(resources=1))
        error = fails("run", "random", "--benchmark", path)
        assert "resources: unknown key" in error
        assert "resource, " in error
        assert str(path) in error

    def test_an_unknown_key_of_a_section_is_named_with_those_there_are(self, fails: Fails, benchmark: Write) -> None:
        path = benchmark("nano", lambda content: content["finetune"].update(ranks=2))
        error = fails("run", "random", "--benchmark", path)
        assert "finetune.ranks: unknown key" in error
        assert "ranks_per_trial" in error

    def test_an_unknown_hyperparameter(self, fails: Fails, benchmark: Write) -> None:
        axis = {"type": "uniform", "low": 0, "high": 1}
        path = benchmark("synthetic", lambda content: content["space"].update(dropout=axis))
        error = fails("run", "random", "--benchmark", path)
        assert "'dropout'" in error
        assert "learning_rate, " in error

    def test_bounds_swapped(self, fails: Fails, benchmark: Write) -> None:
        axis = {"type": "loguniform", "low": 0.1, "high": 0.001}
        path = benchmark("synthetic", lambda content: content["space"].update(learning_rate=axis))
        error = fails("run", "random", "--benchmark", path)
        assert "low is 0.1 and high is 0.001, but low must be < high" in error

    def test_an_empty_choice(self, fails: Fails, benchmark: Write) -> None:
        axis: dict[str, Any] = {"type": "choice", "values": []}
        path = benchmark("synthetic", lambda content: content["space"].update(weight_decay=axis))
        error = fails("run", "random", "--benchmark", path)
        assert "weight_decay" in error
        assert "values is empty" in error

    def test_loguniform_from_zero(self, fails: Fails, benchmark: Write) -> None:
        axis = {"type": "loguniform", "low": 0, "high": 0.1}
        path = benchmark("synthetic", lambda content: content["space"].update(learning_rate=axis))
        error = fails("run", "random", "--benchmark", path)
        assert "low is 0, but a loguniform domain needs low > 0" in error

    def test_a_grid_value_outside_the_space(self, fails: Fails, benchmark: Write) -> None:
        path = benchmark("synthetic", lambda content: content["grid"].update(batch_size_per_device=[4, 64]))
        error = fails("run", "manual", "--benchmark", path)
        assert "grid.batch_size_per_device: 64 lies outside the search space" in error

    def test_the_manual_grid_without_a_grid(self, fails: Fails, benchmark: Write) -> None:
        path = benchmark("synthetic", lambda content: content.pop("grid"))
        error = fails("run", "manual", "--benchmark", path)
        assert "synthetic has no `grid`" in error

    def test_a_file_that_is_no_yaml(self, fails: Fails, tmp_path: Path) -> None:
        path = tmp_path / "broken.yaml"
        path.write_text("name: [a\nmetric: b\n")
        assert f"{path}: not valid YAML" in fails("run", "random", "--benchmark", path)

    def test_a_search_space_file_that_is_not_there(self, fails: Fails) -> None:
        error = fails("run", "random", "--benchmark", "synthetic", "--space", "nowhere.yaml")
        assert "nowhere.yaml: cannot be read" in error


class TestData:
    def use(self, benchmark: Write, split: str, path: Path) -> Path:
        return benchmark("nano", lambda content: content["finetune"]["data"].update({split: {"file": str(path)}}))

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_a_missing_file(self, fails: Fails, benchmark: Write, tmp_path: Path, split: str) -> None:
        missing = tmp_path / "gone.json"
        error = fails("run", "random", "--benchmark", self.use(benchmark, split, missing))
        assert f"{missing}: cannot be read (No such file or directory)" in error

    def test_a_file_that_is_no_json(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        path = tmp_path / "squad.json"
        path.write_text("{not json")
        assert f"{path}: not valid JSON" in fails("run", "random", "--benchmark", self.use(benchmark, "train", path))

    def test_an_article_without_paragraphs(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        path = tmp_path / "squad.json"
        path.write_text(json.dumps({"version": "1.1", "data": [{"title": "Delft"}]}))
        error = fails("run", "random", "--benchmark", self.use(benchmark, "train", path))
        assert f"{path}: article 0 (Delft)" in error
        assert "`paragraphs` is missing" in error

    def test_a_question_without_an_answer(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        path = tmp_path / "squad.json"
        question = {"id": "q1", "question": "Where?", "answers": []}
        paragraphs = [{"context": "Delft lies in Holland.", "qas": [question]}]
        path.write_text(json.dumps({"version": "1.1", "data": [{"title": "Delft", "paragraphs": paragraphs}]}))
        error = fails("run", "random", "--benchmark", self.use(benchmark, "validation", path))
        assert f"{path}: article 0 (Delft), paragraph 0, question 0" in error


class TestModel:
    def copy(self, folder: Path, *names: str) -> Path:
        """A model folder with some of the shipped model's files."""
        folder.mkdir()
        for name in names:
            shutil.copy(BENCHMARKS / "assets" / "nano" / "model" / name, folder)
        return folder

    def use(self, benchmark: Write, model: Path) -> Path:
        return benchmark("nano", lambda content: content["finetune"].update(model=str(model)))

    def test_without_a_tokenizer(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        model = self.copy(tmp_path / "model", "config.json", "model.safetensors")
        error = fails("run", "random", "--benchmark", self.use(benchmark, model))
        assert f"model {model}: no tokenizer" in error

    def test_without_weights(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        model = self.copy(tmp_path / "model", "config.json", "tokenizer.json")
        error = fails("run", "random", "--benchmark", self.use(benchmark, model))
        assert f"model {model}: no *.safetensors" in error

    def test_no_such_folder(self, fails: Fails, benchmark: Write, tmp_path: Path) -> None:
        error = fails("run", "random", "--benchmark", self.use(benchmark, tmp_path / "gone"))
        assert f"model {tmp_path / 'gone'}: no such folder" in error


def test_more_ranks_than_devices(fails: Fails, benchmark: Write) -> None:
    def change(content: dict[str, Any]) -> None:
        content["finetune"].update(ranks_per_trial=40)
        content["resource"].update(unit_samples=1280)  # a global batch of so many ranks fits

    path = benchmark("nano", change)
    error = fails("run", "random", "--benchmark", path)
    assert "a trial needs 40 devices (ranks_per_trial)" in error


@pytest.mark.parametrize(
    "command", [["run", "random", "--benchmark", "synthetic"], ["compare"]], ids=["run", "compare"]
)
@pytest.mark.parametrize("uri", ["sqlite:////proc/nope/x.db", "floppy://a"])
def test_a_tracking_store_that_cannot_be_used(
    fails: Fails, monkeypatch: pytest.MonkeyPatch, command: list[str], uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    error = fails(*command)
    assert f"tracking store {uri}: cannot be used" in error
    assert "MLFLOW_TRACKING_URI" in error


@pytest.mark.slow  # a process of its own imports Ray
class TestProcess:
    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m hpo` in a folder that is not the repository."""
        command = [sys.executable, "-m", "hpo", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    @pytest.mark.parametrize(
        ("arguments", "value"),
        [
            pytest.param(["run", "ashaa"], "'ashaa'", id="unknown method"),
            pytest.param(["run", "random", "--budget", "twelve"], "'twelve'", id="budget as text"),
            pytest.param(
                ["run", "asha", "--benchmark", "synthetic", "--reduction-factor", "1"],
                "'reduction_factor' is '1'",
                id="argument out of range",
            ),
        ],
    )
    def test_a_mistake_ends_the_process_with_status_2(self, tmp_path: Path, arguments: list[str], value: str) -> None:
        done = self.run(tmp_path, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert value in done.stderr

    def test_a_store_that_cannot_be_written_ends_the_process_with_status_2(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nope/x.db")
        done = self.run(tmp_path, "run", "random", "--benchmark", "synthetic")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("error: tracking store sqlite:////proc/nope/x.db")

    def test_comparing_where_there_is_no_study_ends_the_process_with_status_2(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "compare", "--benchmark", "nanoo")
        assert done.returncode == 2
        assert done.stderr.startswith("error: no finished study of nanoo")
        assert done.stderr.count("\n") == 1


def test_an_artifact_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow keeps artifacts in mlruns/ of the working directory; here a file is in the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlruns").write_text("")
    assert cli.main(["run", "random", "--benchmark", "synthetic"]) == 2
    error = capsys.readouterr().err
    assert "cannot be used" in error
    assert "mlruns" in error
    assert not ray.is_initialized()
    client = MlflowClient()
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
