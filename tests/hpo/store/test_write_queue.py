"""Writes that wait for a store: in order, each with the effect of once, and none lost while there is hope."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from benchmarks.spec import BenchmarkError
from hpo.store import write_queue as spool
from hpo.store.write_queue import Spool


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PAUSE_SECONDS", 0.01)


class Store:
    """Takes what is written while it is up."""

    def __init__(self) -> None:
        self.is_up = True
        self.taken: list[int] = []
        self.refused = 0

    def write(self, number: int) -> Callable[[], None]:
        def write() -> None:
            if not self.is_up:
                self.refused += 1
                raise OSError("connection refused")
            self.taken.append(number)

        return write


@pytest.fixture
def store() -> Store:
    return Store()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_writes_happen_in_order(store: Store) -> None:
    queue = Spool()
    for number in range(50):
        queue.add(store.write(number))
    queue.close(1.0)
    assert store.taken == list(range(50))
    assert queue.fault == ""


def test_while_the_store_is_away_they_wait_and_then_arrive_in_order(store: Store) -> None:
    queue = Spool()
    queue.add(store.write(0))
    wait_until(lambda: store.taken == [0])
    store.is_up = False
    for number in range(1, 4):
        queue.add(store.write(number))
    wait_until(lambda: store.refused > 2)
    assert "connection refused" in queue.fault
    assert queue.waiting == 3
    store.is_up = True
    wait_until(lambda: queue.waiting == 0)
    assert queue.fault == ""
    queue.close(1.0)
    assert store.taken == [0, 1, 2, 3]


def test_the_end_waits_for_a_store_that_comes_back(store: Store) -> None:
    queue, store.is_up = Spool(), False
    queue.add(store.write(0))
    threading.Timer(0.3, lambda: setattr(store, "is_up", True)).start()
    queue.close(10.0)
    assert store.taken == [0]


def test_but_not_for_ever(store: Store) -> None:
    queue, store.is_up = Spool(), False
    queue.add(store.write(0))
    with pytest.raises(BenchmarkError, match="connection refused"):
        queue.close(0.2)
    time.sleep(0.1)
    refused = store.refused
    time.sleep(0.1)
    assert store.refused == refused, "nobody tries any more"


def test_a_store_that_is_slow_but_takes_what_comes_is_waited_for() -> None:
    queue, taken = Spool(), []

    def write() -> None:
        time.sleep(0.1)
        taken.append(1)

    for _ in range(5):
        queue.add(write)
    queue.close(0.3)  # shorter than all of it
    assert len(taken) == 5


def test_a_fault_of_another_kind_loses_nothing_behind_it(store: Store) -> None:
    queue, attempts = Spool(), []

    def fails_once() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise KeyError("unheard of")

    queue.add(fails_once)
    queue.add(store.write(1))
    queue.close(1.0)
    assert store.taken == [1]


def test_a_write_that_takes_long_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SLOW_SECONDS", 0.05)
    queue, may_end = Spool(), threading.Event()
    time.sleep(0.1)  # nothing to write takes no time
    queue.add(lambda: may_end.wait(10) and None)
    assert queue.fault == ""
    wait_until(lambda: "no answer for" in queue.fault)
    may_end.set()
    queue.close(10.0)
    assert queue.fault == ""


def test_nothing_to_write_ends_at_once() -> None:
    Spool().close(60.0)
