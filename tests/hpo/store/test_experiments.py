"""Whose runs they are and where they lie: experiments of one's own, and tags that need no look at another run."""

from __future__ import annotations

import getpass
import shlex
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import spec
from hpo.analysis import records
from hpo.app import cli
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.actors import Call
from hpo.store.client import choosing
from hpo.store.runs import CommandRun
from tests.stores import fresh_store

RUN = ["run", "random", "--benchmark", "synthetic", "--budget", "2"]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store of its own, and studies without Ray."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(2))
    return MlflowClient()


def interrupting(call: int) -> Callable[[Call], bool]:
    """Ask the study to end, as Ctrl-C does, at a call of its actors."""
    calls = count(1)

    def dies(_: Call) -> bool:
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return False

    return dies


def runs(client: MlflowClient, experiment: str, kind: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], f"tags.hpo.kind = '{kind}'")) if found else []


@pytest.mark.slow
class TestExperiment:
    def test_a_study_lies_where_it_is_told_to(self, client: MlflowClient) -> None:
        assert cli.main([*RUN, "--experiment", "mine"]) == 0
        assert len(runs(client, "mine", "study")) == 1
        assert len(runs(client, "mine", "trial")) == 2
        assert client.get_experiment_by_name("synthetic") is None
        assert runs(client, "mine", "study")[0].data.tags["hpo.command"].endswith("--experiment mine")

    def test_that_of_mlflow_run_counts_unless_it_is_the_default(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("launched"))
        assert cli.main(RUN) == 0
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
        assert cli.main(RUN) == 0
        assert [len(runs(client, name, "study")) for name in ("launched", "synthetic", "Default")] == [1, 1, 0]

    @pytest.mark.slow  # it compares, with a report
    def test_benchmarks_that_share_one_are_not_mixed(
        self, client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = (Path(spec.HERE) / "synthetic.yaml").read_text()
        (tmp_path / "other.yaml").write_text(text.replace("name: synthetic", "name: other"))
        shared = ["--experiment", "shared"]
        assert cli.main([*RUN, *shared]) == 0
        assert cli.main(["run", "asha", "--benchmark", "other.yaml", "--budget", "2", *shared]) == 0
        capsys.readouterr()
        assert cli.main(["compare", "--benchmark", "synthetic", *shared]) == 0
        out = capsys.readouterr().out
        assert "random" in out
        assert "asha" not in out

    def test_without_it_nothing_of_it_is_read(self, client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*RUN, "--experiment", "my own"]) == 0
        assert cli.main(["compare", "--benchmark", "synthetic"]) == 2
        error = capsys.readouterr().err
        assert "no finished study of synthetic" in error
        assert "experiment 'my own' has some: add --experiment 'my own'; or run one first" in error

    @pytest.mark.parametrize("command", ["compare", "export", "confirm"])
    def test_studies_of_one_that_was_renamed_are_found(
        self, client: MlflowClient, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        assert cli.main(RUN) == 0
        client.rename_experiment("1", "old")
        assert cli.main([command, "--benchmark", "synthetic"]) == 2
        assert "experiment 'old' has some: add --experiment old; or run one first" in capsys.readouterr().err

    @pytest.mark.slow  # it compares, with a report
    def test_earlier_comparisons_in_it_are_read(self, client: MlflowClient) -> None:
        assert cli.main([*RUN, "--experiment", "mine"]) == 0
        compare = ["compare", "--benchmark", "synthetic", "--experiment", "mine"]
        assert cli.main(compare) == 0
        assert cli.main(compare) == 0
        with choosing("mine"):
            assert len(records.read("synthetic").comparisons) == 2

    def test_a_study_resumes_where_it_lies_and_makes_no_other(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(1, dies=interrupting(5)))
        assert cli.main([*RUN, "--experiment", "mine"]) == 1
        monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(1))
        [study] = runs(client, "mine", "study")
        capsys.readouterr()
        assert cli.main(["resume", study.info.run_id]) == 0
        assert client.get_experiment_by_name("synthetic") is None
        assert len(runs(client, "mine", "trial")) == 2
        out = capsys.readouterr().out
        assert f"/#/experiments/{study.info.experiment_id}/runs" in out
        assert "compare --benchmark synthetic --budget 2 --experiment mine\n" in out

    def test_next_commands_look_into_it(self, client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*RUN, "--experiment", "my own"]) == 0
        printed = [line.partition("python -m hpo ")[2] for line in capsys.readouterr().out.splitlines()]
        commands = [shlex.split(words) for words in printed if words]
        assert [words[0] for words in commands] == ["confirm", "compare"]
        assert all(words[-2:] == ["--experiment", "my own"] for words in commands)

    def test_delivering_results_makes_no_other(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(1, dies=interrupting(5)))
        assert cli.main([*RUN, "--experiment", "mine"]) == 1
        assert cli.main(["sync"]) == 0
        assert client.get_experiment_by_name("synthetic") is None

    def test_one_that_was_deleted_is_named_with_its_cure(
        self, client: MlflowClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client.delete_experiment(client.create_experiment("synthetic"))
        assert cli.main(RUN) == 2
        error = capsys.readouterr().err
        assert "experiment 'synthetic'" in error
        assert "mlflow experiments restore --experiment-id 1" in error
        for command in ("compare", "export", "confirm"):
            assert cli.main([command, "--benchmark", "synthetic"]) == 2
            assert "mlflow experiments restore --experiment-id 1" in capsys.readouterr().err
        client.restore_experiment("1")
        assert cli.main(RUN) == 0


@pytest.mark.slow
class TestTags:
    @pytest.fixture
    def trials(self, client: MlflowClient) -> list[Run]:
        assert cli.main([*RUN, "--seed", "3"]) == 0
        return runs(client, "synthetic", "trial")

    def test_a_trial_says_what_it_belongs_to(self, trials: list[Run]) -> None:
        for trial in trials:
            tags = {key: trial.data.tags[f"hpo.{key}"] for key in ("method", "benchmark", "seed", "budget")}
            assert tags == {"method": "random", "benchmark": "synthetic", "seed": "3", "budget": "2"}

    def test_a_trial_s_numbers_are_metrics_too(self, trials: list[Run]) -> None:
        for trial in trials:
            assert trial.data.metrics["units"] == 9
            for name in ("learning_rate", "batch_size_per_device", "weight_decay"):
                assert trial.data.metrics[f"hp.{name}"] == pytest.approx(float(trial.data.params[name]))

    def test_every_run_names_its_user_and_source(self, client: MlflowClient, trials: list[Run]) -> None:
        command = CommandRun("synthetic", "deepspeed of synthetic", {}, {"hpo.kind": "deepspeed"})
        command.add_child("plain", {}, {"hpo.kind": "configuration"}, [], "FINISHED")
        commands = [*runs(client, "synthetic", "deepspeed"), *runs(client, "synthetic", "configuration")]
        assert len(commands) == 2
        for run in [*trials, *runs(client, "synthetic", "study"), *commands]:
            assert run.data.tags["mlflow.user"] == getpass.getuser()
            assert run.data.tags["mlflow.source.name"]

    @pytest.mark.slow  # four members, in process
    def test_a_population_s_numbers_are_those_it_was_trained_with_last(self, client: MlflowClient) -> None:
        assert cli.main(["run", "pbt", "--benchmark", "synthetic", "--budget", "4"]) == 0
        changed: list[Any] = []
        for trial in runs(client, "synthetic", "trial"):
            history = client.get_metric_history(trial.info.run_id, "hp.learning_rate")
            last = max(history, key=lambda point: point.step)
            assert trial.data.metrics["hp.learning_rate"] == last.value
            changed += [trial] * (last.value != pytest.approx(float(trial.data.params["learning_rate"])))
        assert changed
