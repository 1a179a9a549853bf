"""Reads from a store: repeated with a limit where a fault may pass, and final where it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.spec import BenchmarkError
from hpo.store import queries, reading
from tests.flaky_proxy import DROPPED, Proxy, proxy
from tests.stores import fresh_store

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def server() -> Iterator[Proxy]:
    """Serve nothing but faults."""
    with proxy(NOWHERE) as made:
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAITS_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize(
    ("status", "attempts"), [*((s, 4) for s in (429, 500, 502, 503, 504, DROPPED)), (403, 1), (400, 1)]
)
def test_a_read_is_repeated_at_most_three_times_and_only_where_it_may_help(
    server: Proxy, status: int, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault = lambda path, before: status
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with pytest.raises(BenchmarkError, match="cannot be used"):
        queries.stored_runs("nano")
    assert list(server.asked.values()) == [attempts]


def test_an_address_without_a_server_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAITS_SECONDS", (60.0,))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    began = time.monotonic()
    with pytest.raises(BenchmarkError, match="cannot be used"):
        queries.stored_runs("nano")
    assert time.monotonic() - began < 30


def test_a_function_that_fails_three_times_has_its_value() -> None:
    answers = iter([ConnectionError("busy"), TimeoutError("busy"), OSError("busy")])

    def read() -> str:
        for error in answers:
            raise error
        return "text"

    assert reading.retried(read) == "text"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a run with two files in a folder of this machine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    client = MlflowClient()
    made = client.create_run(client.create_experiment("nano", str(tmp_path / "artifacts")))
    for name in ("trials.csv", "units.csv"):
        client.log_text(made.info.run_id, f"text of {name}", name)
    return client.get_run(made.info.run_id)


class TestFilesOfARun:
    def test_those_that_it_has_are_read_and_the_others_are_not_there(self, run: Run) -> None:
        found = reading.read_files(run, ["trials.csv", "best_config.json"])
        assert (found.texts, found.faults) == ({"trials.csv": "text of trials.csv"}, {})

    def test_a_run_without_a_folder_has_none(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "artifacts").rename(tmp_path / "elsewhere")
        assert reading.read_files(run, ["trials.csv"]).texts == {}

    @pytest.mark.parametrize("kind", ["folder", "not text"])
    def test_a_file_that_is_there_and_cannot_be_read_is_named(self, run: Run, kind: str) -> None:
        path = Path(run.info.artifact_uri.removeprefix("file://")) / "trials.csv"
        path.unlink()
        path.mkdir() if kind == "folder" else path.write_bytes(b"\xff\xfe\x00")
        found = reading.read_files(run, ["trials.csv", "units.csv"])
        assert list(found.texts) == ["units.csv"]
        assert list(found.faults) == ["trials.csv"]
        assert found.faults["trials.csv"]
