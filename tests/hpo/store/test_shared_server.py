"""A server with users, PostgreSQL and artifacts of its own, as a group shares one; see docs/shared-server.md."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from requests import HTTPError

from hpo.app import cli
from hpo.engine.in_process import InProcess
from tests.postgres import INSTALL, programs, serving_postgres
from tests.servers import serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(programs() is None, reason=f"no PostgreSQL here: {INSTALL}"),
]
ADMIN, USERS = "admin", ("ada", "bob")
RUN = ["run", "random", "--benchmark", "synthetic", "--budget", "1"]


@dataclass(frozen=True)
class Shared:
    """A server.

    Attributes:
        uri: its address.
        artifacts: the folder that it alone writes.
        passwords: of its users, by name.
    """

    uri: str
    artifacts: Path
    passwords: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("server")
    passwords = {name: secrets.token_urlsafe(16) for name in (ADMIN, *USERS)}
    with serving_postgres(secrets.token_urlsafe(16)) as store, pytest.MonkeyPatch.context() as monkeypatch:
        settings = [
            "[mlflow]",
            "default_permission = READ",
            f"database_uri = sqlite:///{folder}/users.db",
            f"admin_username = {ADMIN}",
            "auth_cache_ttl_seconds = 60",  # each request has the password, whose hash takes a tenth of a second
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        ]
        (folder / "auth.ini").write_text("\n".join(settings))
        monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(folder / "auth.ini"))
        monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", passwords[ADMIN])
        monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_urlsafe(16))
        artifacts = folder / "artifacts"
        options = ("--serve-artifacts", "--artifacts-destination", str(artifacts), "--app-name", "basic-auth")
        with serve(store, folder, *options) as server:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", passwords[ADMIN])
            for name in USERS:
                get_app_client("basic-auth", server.uri).create_user(name, passwords[name])
            yield Shared(server.uri, artifacts, passwords)


@contextmanager
def signed_in(shared: Shared, name: str, folder: Path) -> Iterator[MlflowClient]:
    """Work as a user of the server, in a folder, without Ray."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", shared.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", shared.passwords[name])
        monkeypatch.setattr("hpo.engine.runner.OnRay", lambda: InProcess(2))
        yield MlflowClient(shared.uri)


def runs(client: MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def study_in(client: MlflowClient, experiment: str) -> Run:
    [study] = [run for run in runs(client, experiment) if run.data.tags["hpo.kind"] == "study"]
    return study


@pytest.fixture(scope="module")
def both(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """A server on which each user has run a study into an experiment of their own."""
    folder = tmp_path_factory.mktemp("users")
    for name in USERS:
        with signed_in(shared, name, folder / name):
            assert cli.main([*RUN, "--experiment", f"{name} synthetic"]) == 0
    return shared


@pytest.mark.parametrize("name", USERS)
def test_each_compares_their_own_study(
    both: Shared, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signed_in(both, name, tmp_path / name) as client:
        assert cli.main(["compare", "--benchmark", "synthetic", "--experiment", f"{name} synthetic"]) == 0
        assert "MLflow lacks" not in capsys.readouterr().out
        [comparison] = [r for r in runs(client, f"{name} synthetic") if r.data.tags["hpo.kind"] == "comparison"]
        assert "report.html" in [file.path for file in client.list_artifacts(comparison.info.run_id)]


def test_artifacts_go_through_the_server(both: Shared, tmp_path: Path) -> None:
    with signed_in(both, "ada", tmp_path / "ada") as client:
        study = study_in(client, "ada synthetic")
        assert study.info.artifact_uri.startswith("mlflow-artifacts:/")
        local = Path(client.download_artifacts(study.info.run_id, "trials.csv", str(tmp_path)))
    [stored] = [path for path in both.artifacts.rglob("trials.csv") if study.info.run_id in path.parts]
    assert local.read_bytes() == stored.read_bytes()


def test_neither_writes_into_the_other_s_experiment(
    both: Shared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signed_in(both, "bob", tmp_path / "bob") as client:
        before = {run.info.run_id for run in runs(client, "ada synthetic")}
        assert cli.main([*RUN, "--experiment", "ada synthetic"]) == 2
        error = capsys.readouterr().err
        assert "the experiment belongs to another user: choose one of your own with --experiment NAME" in error
        assert error.count("\n") == 1
        study = study_in(client, "ada synthetic")
        (tmp_path / "note.txt").write_text("mine")
        for write in (
            lambda: client.log_metric(study.info.run_id, "f1", 1.0),
            lambda: client.set_tag(study.info.run_id, "hpo.method", "mine"),
            lambda: client.log_artifact(study.info.run_id, str(tmp_path / "note.txt")),
            lambda: client.delete_run(study.info.run_id),
        ):
            with pytest.raises((MlflowException, HTTPError), match=r"(?i)permission denied|403"):
                write()
        assert {run.info.run_id for run in runs(client, "ada synthetic")} == before
        assert not (tmp_path / "bob" / "unfinished").exists()


def test_one_who_may_only_read_compares_into_a_folder(
    both: Shared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signed_in(both, "bob", tmp_path / "bob"):
        assert cli.main(["compare", "--benchmark", "synthetic", "--experiment", "ada synthetic"]) == 0
    assert (tmp_path / "bob" / "results" / "report.html").exists()
    assert "note: MLflow lacks the comparison, the folder has all of it" in capsys.readouterr().out


def test_a_wrong_password_is_a_sentence(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with signed_in(shared, "ada", tmp_path / "ada"):
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        assert cli.main(RUN) == 2
    error = capsys.readouterr().err
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in error
    assert "wrong" not in error
