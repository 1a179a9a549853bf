"""Faults of the tracking store: away for a while or for good, locked, destroyed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.servers import Server, serve
from tests.stores import fresh_store
from tests.studies import finish, read, start, steps, wait_for_trials, write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
AWAY_SECONDS = 30
ONCE = "in order and once"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    artifacts = ("--artifacts-destination", str(folder / "artifacts"))
    with serve(fresh_store(folder), tmp_path, *artifacts) as one:
        yield one


def wait_for_line(driver: subprocess.Popen[str], text: str) -> str:
    """Read a driver's output up to a line with this text, which must come."""
    assert driver.stdout is not None
    printed = ""
    for line in driver.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(f"{text!r} was not printed, but:\n{printed}")


def assert_all_are_shown(out: str, trials: int) -> None:
    """Make sure that the table of results has all trials."""
    rows = [line.split() for line in out.splitlines() if " completed " in line and "|" not in line]
    assert sorted(int(words[0]) for words in rows) == list(range(trials))


def assert_complete(store: str, trials: int, experiment: str = "short") -> None:
    study, found = read(store, experiment)
    assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", 9 * trials)
    assert [int(trial.data.tags["hpo.trial"]) for trial in found] == list(range(trials))
    for trial in found:
        assert (trial.info.status, trial.data.tags["hpo.outcome"]) == ("FINISHED", "completed")
        assert steps(store, trial) == list(range(1, 10))


@pytest.mark.thorough  # test_write_queue has stores that fail for a while, in process
def test_a_server_that_is_away_for_a_while_gets_all_of_it_later(tmp_path: Path, server: Server, record: Record) -> None:
    benchmark = write_slow_synthetic(tmp_path, 0.4)
    driver = start(server.uri, "random", "--benchmark", benchmark, "--budget", 14, folder=tmp_path)
    wait_for_trials(server.uri, "FINISHED")
    server.stop()
    stopped = time.monotonic()
    warned = wait_for_line(driver, "warning: tracking store")
    assert "writes wait, and none is lost" in warned
    time.sleep(max(0.0, stopped + AWAY_SECONDS - time.monotonic()))
    server.start()
    status, out, err = finish(driver)
    assert status == 0, err
    assert "Traceback" not in warned + out + err
    assert_complete(server.uri, 14)
    assert not (tmp_path / "unfinished").exists()
    record("the tracking server is away", "killed, started again after 30 s", f"the study goes on; all arrives, {ONCE}")


@pytest.mark.thorough  # test_sync delivers, in process
def test_what_a_server_never_took_is_delivered_by_sync(tmp_path: Path, server: Server, record: Record) -> None:
    """Nobody waits here for the minute in which the end of a study hopes for its store."""
    driver = start(
        server.uri, "random", "--benchmark", write_slow_synthetic(tmp_path, 0.2), "--budget", 6, folder=tmp_path
    )
    wait_for_trials(server.uri, "FINISHED")
    server.stop()
    wait_for_line(driver, "waits for its store")
    time.sleep(3)  # a signal at once after one that ended the study would be taken for the same
    driver.send_signal(signal.SIGINT)
    status, out, err = finish(driver)
    assert status == 1
    assert "Traceback" not in err
    assert "python -m hpo sync" in err
    assert_all_are_shown(out, 6)
    status, _, err = finish(start(server.uri, verb="sync", folder=tmp_path))
    assert (status, "cannot be used" in err, "Traceback" in err) == (1, True, False)
    server.start()
    status, out, err = finish(start(server.uri, verb="sync", folder=tmp_path))
    assert (status, "6 trials, 54 units delivered" in out) == (0, True), err
    assert_complete(server.uri, 6)
    assert not (tmp_path / "unfinished").exists()
    assert "no study here has anything to deliver" in finish(start(server.uri, verb="sync", folder=tmp_path))[1]
    outcome = f"the study ends with all results on the screen; `python -m hpo sync` delivers them, {ONCE}"
    record("the tracking server is gone", "killed, and not started before the study's end", outcome)


@pytest.mark.thorough  # test_write_queue has stores that fail for a while, in process
def test_a_store_that_another_process_has_locked(tmp_path: Path, store: str, record: Record) -> None:
    driver = start(store, "random", "--benchmark", write_slow_synthetic(tmp_path, 0.3), "--budget", 8)
    wait_for_trials(store, "FINISHED")
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, timeout=60)
    lock.execute("BEGIN EXCLUSIVE")
    wait_for_line(driver, "warning: tracking store")
    time.sleep(5)
    lock.execute("ROLLBACK")
    lock.close()
    status, out, err = finish(driver)
    assert status == 0, err
    assert "the store works again" in out
    assert "Traceback" not in out + err
    assert_complete(store, 8)
    record(
        "the SQLite store is locked", "another process holds it exclusively", f"the study goes on; all arrives, {ONCE}"
    )


@pytest.mark.thorough
def test_a_store_that_is_destroyed(tmp_path: Path, store: str, record: Record) -> None:
    driver = start(store, "random", "--benchmark", write_slow_synthetic(tmp_path, 0.2), "--budget", 6)
    wait_for_trials(store, "FINISHED")
    sound = (tmp_path / "mlflow.db").read_bytes()
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 500)
    wait_for_line(driver, "waits for its store")
    time.sleep(3)
    driver.send_signal(signal.SIGINT)
    status, out, err = finish(driver)
    assert (status, "Traceback" in err) == (1, False)
    assert_all_are_shown(out, 6)
    (tmp_path / "mlflow.db").write_bytes(sound)
    status, _, err = finish(start(store, verb="sync"))
    assert status == 0, err
    assert_complete(store, 6)
    outcome = "as one that is gone; `sync` brings a copy of the store up to date"
    record("the SQLite store is destroyed", "overwritten, and later restored from a copy", outcome)
