"""The commands that are printed at the end of others work where they are printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import spec
from hpo.app import cli
from hpo.engine.in_process import InProcess
from hpo.terminal import next_steps
from tests.servers import serve
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[3]
STEP = re.compile(r"^(?:[a-z ]+: +)?((?:MLFLOW_TRACKING_URI=\S+ )?(?:python -m hpo|mlflow run) .*)$", re.MULTILINE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store, a benchmark as a file, and studies without Ray."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(2))
    text = (Path(spec.HERE) / "synthetic.yaml").read_text()
    (tmp_path / "my own.yaml").write_text(text.replace("name: synthetic", "name: mine"))
    return tmp_path


def steps(out: str) -> list[str]:
    return STEP.findall(out)


def typed_in_turn(out: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Type all commands that are printed, and those that they print; returns their verbs."""
    waiting, ran = steps(out), []
    while waiting:
        words = shlex.split(waiting.pop(0))
        assert words[:3] == ["python", "-m", "hpo"]
        if words[3] in ran or words[3] == "train":  # which trains a model; the closed-form curve has none
            continue
        ran.append(words[3])
        assert cli.main(words[3:]) == 0, words
        waiting += steps(capsys.readouterr().out)
    return ran


class TestEveryPrintedCommandRuns:
    @pytest.mark.slow
    @pytest.mark.parametrize("benchmark", ["synthetic", "my own.yaml"])
    def test_of_a_named_benchmark_and_of_a_file(
        self, here: Path, benchmark: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["run", "random", "--benchmark", benchmark, "--budget", "2"]) == 0
        assert typed_in_turn(capsys.readouterr().out, capsys) == ["confirm", "compare", "export"]

    @pytest.mark.slow
    def test_on_a_server_whose_address_is_printed(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with serve(fresh_store(here / "served"), here) as server:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
            assert cli.main(["run", "random", "--benchmark", "synthetic", "--budget", "1"]) == 0
            out = capsys.readouterr().out
            assert typed_in_turn(out, capsys) == ["confirm", "compare", "export"]
        assert f"open it in the browser: {server.uri}/#/experiments/1/runs?viewStateShareKey=hpo-trials" in out
        assert "mlflow ui" not in out


def test_a_file_shows_how_to_start_the_interface_and_the_link_to_the_view(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "random", "--benchmark", "synthetic", "--budget", "1"]) == 0
    out = capsys.readouterr().out
    assert f"open it in the browser: mlflow ui --backend-store-uri sqlite:///{here}/mlflow.db" in out
    assert "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=hpo-trials" in out


def test_errors_name_a_file_as_it_was_given(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--benchmark", "my own.yaml"]
    assert cli.main(["compare", *own]) == 2
    assert "run one first: python -m hpo run random --benchmark 'my own.yaml'" in capsys.readouterr().err
    assert cli.main(["run", "random", *own, "--budget", "1"]) == 0
    assert cli.main(["export", *own]) == 2
    assert "run first: python -m hpo confirm --benchmark 'my own.yaml'" in capsys.readouterr().err


class TestInASlurmJob:
    @pytest.fixture(autouse=True)
    def job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(next_steps.SHARED_STORE, "sqlite:////shared/mlflow.db")
        monkeypatch.setenv(next_steps.CLUSTER_PROFILE, "my cluster.yaml")

    def test_commands_that_train_are_submitted(self) -> None:
        expected = "python -m hpo slurm submit --cluster 'my cluster.yaml' resume 12ab"
        assert next_steps.command("resume", "12ab") == expected

    def test_a_study_is_submitted_by_its_method(self) -> None:
        expected = "python -m hpo slurm submit --cluster 'my cluster.yaml' random --benchmark nano"
        assert next_steps.command("run", "random", benchmark="nano") == expected

    def test_the_others_read_the_shared_store(self) -> None:
        words = "python -m hpo compare --benchmark nano --budget 12"
        expected = f"MLFLOW_TRACKING_URI=sqlite:////shared/mlflow.db {words}"
        assert next_steps.command("compare", benchmark="nano", budget=12) == expected

    def test_the_browser_opens_the_shared_store(self) -> None:
        first, _ = next_steps.browser_lines("http://127.0.0.1:3333", "1", "hpo-trials")
        assert first == "mlflow ui --backend-store-uri sqlite:////shared/mlflow.db"


class TestWords:
    @pytest.fixture(autouse=True)
    def shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        monkeypatch.delenv(next_steps.CHOSEN_EXPERIMENT, raising=False)

    @pytest.mark.parametrize("words", [["--experiment-name", "my own"], ["--experiment-name=my own"]])
    def test_an_experiment_of_mlflow_run_is_passed_on(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        launcher = next_steps._Launcher("/", ["mlflow", "run", "git@host:a/b", *words, "-e", "asha"])
        monkeypatch.setattr(next_steps, "_launcher", lambda: launcher)
        monkeypatch.setattr(next_steps, "_is_importable", lambda: False)
        run = "mlflow run git@host:a/b -e"
        assert next_steps.command("compare", benchmark="nano") == (
            f"{run} compare -P benchmark=nano -P 'experiment=my own'"
        )
        assert next_steps.command("resume", "12ab") == f"{run} resume -P run_id=12ab"
        assert next_steps.command("run", "random") == f"{run} random -P 'experiment=my own'"

    @pytest.mark.parametrize("number", ["7", "0"])
    def test_the_number_of_an_experiment_is_passed_on(self, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
        first, words = ("MLFLOW_EXPERIMENT_ID=7 ", " --experiment-id 7") if number == "7" else ("", "")
        assert next_steps.command("compare", benchmark="nano") == f"{first}python -m hpo compare --benchmark nano"
        launcher = next_steps._Launcher("/", ["mlflow", "run", "git@host:a/b", "--experiment-id", number])
        monkeypatch.setattr(next_steps, "_launcher", lambda: launcher)
        monkeypatch.setattr(next_steps, "_is_importable", lambda: False)
        expected = f"mlflow run git@host:a/b -e compare{words} -P benchmark=nano"
        assert next_steps.command("compare", benchmark="nano") == expected

    def test_what_is_not_given_is_left_out(self) -> None:
        assert next_steps.command("compare", benchmark="nano", budget=None) == "python -m hpo compare --benchmark nano"

    @pytest.mark.parametrize(
        ("command", "given"),
        [
            ("python -m hpo run asha --benchmark 'my own.yaml' --seed 0", "my own.yaml"),
            ("python -m hpo run asha", "nano"),
            ("python -m hpo run asha --benchmark", "nano"),
            ("broken 'quote", "nano"),
        ],
    )
    def test_a_study_s_benchmark_is_found_as_it_was_given(self, command: str, given: str) -> None:
        assert next_steps.given_benchmark(command, "nano") == given

    @pytest.mark.parametrize(
        ("words", "project"),
        [
            (["mlflow", "run", ".", "-e", "asha", "--env-manager", "local"], [".", "--env-manager", "local"]),
            (["mlflow", "run", "-P", "x=1", "git@host:a/b", "-v", "main"], ["git@host:a/b", "-v", "main"]),
            (["python", "-m", "mlflow", "run", "--experiment-name=x", "/a b"], ["/a b"]),
            (["mlflow", "run", "--build-image", ".", "-e", "asha"], ["."]),
        ],
    )
    def test_a_project_is_found_as_it_was_given(self, words: list[str], project: list[str]) -> None:
        assert next_steps._project(words) == project


def mlflow_run(folder: Path, *words: str) -> str:
    """Run `mlflow run` in a folder that is not the project's; returns what it prints."""
    drop = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    command = [sys.executable, "-m", "mlflow", "run", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.thorough  # the folders are chosen by functions that are tested above
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_mlflow_run_from_another_folder_keeps_everything_there(here: Path) -> None:
    """A relative benchmark, the store, artifacts, results, and the next step, which is typed in the same place."""
    folder, before = here / "elsewhere", set(REPOSITORY.iterdir())
    folder.mkdir()
    (here / "my own.yaml").rename(folder / "my.yaml")
    options = ("--env-manager", "local", "-P", "benchmark=my.yaml")
    out = mlflow_run(folder, f"file://{REPOSITORY}", "-e", "random", *options, "-P", "budget=1")
    [line] = [step for step in steps(out) if " compare " in step]
    words = shlex.split(line)
    assert words[:3] == ["mlflow", "run", f"file://{REPOSITORY}"]
    assert words[-4:] == ["-P", "benchmark=my.yaml", "-P", "budget=1"]
    mlflow_run(folder, *words[2:])
    assert (folder / "results" / "report.html").exists()
    assert list((folder / "mlruns").rglob("best_config.json"))
    assert set(REPOSITORY.iterdir()) == before
