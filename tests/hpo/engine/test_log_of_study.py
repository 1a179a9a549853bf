"""The log of a study that ran: it alone gives the study's books again, through failures, pauses and interruptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hpo.cluster.ray import Cluster
from hpo.core import event_log
from hpo.core.books import Books
from hpo.core.events import Event, Exploited, Failed, Interrupted, Released, Reserved, Resized, Unit
from hpo.core.study import Study
from hpo.engine import snapshot
from hpo.engine.in_process import InProcess, Unstored
from hpo.engine.in_process.actors import Call, Death
from hpo.engine.runner import Finished
from hpo.engine.study_folder import Unfinished
from tests.hpo.engine.in_process import every, run, synthetic
from tests.stores import working_in

BUDGET = 4


class KilledError(BaseException):
    """Nothing in the driver handles it, as nothing handles SIGKILL."""


def killing(is_last: Callable[[Call], bool]) -> Death:
    """Kill the driver at a call."""

    def dies(call: Call) -> bool:
        if is_last(call):
            raise KilledError
        return False

    return dies


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the text of each log that a tracker is given."""
    given: list[str] = []

    def finish(self: Unstored, books: Books, log: Callable[[], str], *_: Any) -> None:
        given.append(log())

    monkeypatch.setattr(Unstored, "finish", finish)
    return given


def applied(log: str) -> tuple[list[Event], Books]:
    events, books = [event_log.event_of(line) for line in log.splitlines()], Books(synthetic())
    for event in events:
        books.apply(event)
    return events, books


def content(books: Books) -> str:
    return repr((books.rows, books.units, books.shares(), books.seconds, books.open_trials))


def study_of(method: str) -> Study:
    return Study(method, synthetic(diverge_above=1e-3), seed=1, budget=BUDGET)


def is_told(finished: Finished, log: str) -> list[Event]:
    """Check a log against the books of the driver; returns its events."""
    events, books = applied(log)
    assert content(books) == content(finished.books)
    assert isinstance(events[0], Reserved)
    assert isinstance(events[-1], Released)
    units = [event for event in events if isinstance(event, Unit)]
    assert books.trained_units == len(units) <= study_of("asha").budget_units
    shares = books.shares()
    assert sum(shares.seconds.values()) == pytest.approx(shares.reserved_seconds)
    assert sum(row.device_seconds for row in books.rows) <= shares.reserved_seconds
    return events


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dies"), [("asha", every(9, "train")), ("pbt", every(7, "train"))])
def test_it_gives_the_books_of_a_study_whose_actors_die(method: str, dies: Death, logs: list[str]) -> None:
    finished = run(study_of(method), InProcess(2, order=0, dies=dies))
    events = is_told(finished, *logs)
    failed = [event for event in events if isinstance(event, Failed)]
    assert failed
    assert finished.shares.seconds["failed"] > 0
    assert any(isinstance(event, Exploited) for event in events) == (method == "pbt")
    reasons = [reason for row in finished.books.rows for reason in row.failures]
    assert reasons[0] == failed[0].reason


@pytest.mark.slow
def test_it_gives_the_books_of_a_study_that_was_killed_and_resumed(logs: list[str], tmp_path: Path) -> None:
    calls = count(1)
    study = study_of("pbt")
    with pytest.raises(KilledError):
        run(study, InProcess(2, dies=killing(lambda _: next(calls) == 25)), tmp_path)
    with working_in(tmp_path):
        kept = Unfinished(Unstored.RUN_ID)
        state = snapshot.read(kept)
        assert state is not None
        events, torn = event_log.read(kept.folder / "events.jsonl")
        assert content(state.books) == content(applied(event_log.text_of(events))[1])
        assert torn == ""
        assert state.books.rows
    finished = run(study, InProcess(2), tmp_path, Unstored.RUN_ID)
    whole = is_told(finished, *logs)
    assert repr(whole[: len(events)]) == repr(events)  # as text, NaN equals NaN
    assert isinstance(whole[len(events)], Interrupted)
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.slow
def test_a_study_that_is_resumed_on_more_devices_books_those_from_then_on(logs: list[str], tmp_path: Path) -> None:
    calls = count(1)
    with pytest.raises(KilledError):
        run(study_of("random"), InProcess(2, dies=killing(lambda _: next(calls) == 25)), tmp_path)
    events = is_told(run(study_of("random"), InProcess(4), tmp_path, Unstored.RUN_ID), *logs)
    [reserved] = [event for event in events if isinstance(event, Reserved)]
    [resized] = [event for event in events if isinstance(event, Resized)]
    assert (reserved.devices, resized.devices) == (2, 4)
    assert isinstance(events[events.index(resized) - 1], Interrupted)


def test_a_torn_last_line_is_said_when_the_study_is_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KilledError):
        run(study_of("random"), InProcess(1, dies=killing(lambda call: call.trial == 2)), tmp_path)
    path = tmp_path / "unfinished" / Unstored.RUN_ID / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "un')
    with working_in(tmp_path):
        assert snapshot.read(Unfinished(Unstored.RUN_ID)) is not None
    said = capsys.readouterr().err
    assert said.startswith("warning: ")
    assert "its last line is torn (13 bytes) and left out" in said


def test_devices_of_a_node_that_dies_are_reserved_until_its_trials_have_failed(
    logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is seen to be gone before its trials are: what they hold cannot be released meanwhile."""
    monkeypatch.setattr("hpo.engine.events.SECONDS_PER_COUNT", 0.0)
    monkeypatch.setattr(Cluster, "present", lambda self, devices: replace(devices, count=1))
    finished = run(study_of("random"), InProcess(4), None)
    resized = [event for event in is_told(finished, *logs) if isinstance(event, Resized)]
    assert resized
    assert min(event.devices for event in resized) >= 1
    books, most = Books(study_of("random").benchmark), 0.0
    for line in logs[0].splitlines():
        books.apply(event_log.event_of(line))
        shares = books.shares()
        assert sum(shares.seconds.values()) == pytest.approx(shares.reserved_seconds)
        most = max(most, books.held_devices)
    assert most > 1  # more than one trial ran on the node that had gone


@pytest.mark.slow
def test_events_after_the_snapshot_are_dropped_and_happen_again(tmp_path: Path, logs: list[str]) -> None:
    """The machine may have failed between a log's line and the snapshot that goes with it."""
    study = study_of("random")

    with pytest.raises(KilledError):
        run(study, InProcess(1, dies=killing(lambda call: call.trial == 2)), tmp_path)
    path = tmp_path / "unfinished" / Unstored.RUN_ID / "events.jsonl"
    before = path.read_text()
    with path.open("a") as file:
        file.write('{"event": "interrupted", "at": 1e9}\n{"event": "unit", "at"')
    finished = run(study, InProcess(1), tmp_path, Unstored.RUN_ID)
    is_told(finished, *logs)
    assert logs[0].startswith(before)
    assert finished.shares.reserved_seconds < 1e6


@pytest.mark.slow
def test_a_log_that_lacks_events_is_refused(tmp_path: Path) -> None:
    study = study_of("random")

    with pytest.raises(KilledError):
        run(study, InProcess(1, dies=killing(lambda call: call.trial == 2)), tmp_path)
    path = tmp_path / "unfinished" / Unstored.RUN_ID / "events.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="but the study's snapshot was taken at"):
        run(study, InProcess(1), tmp_path, Unstored.RUN_ID)
