"""A Ray that starts in the background, and one that never does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from benchmarks.spec import BenchmarkError
from hpo.cluster import ray as cluster
from hpo.cluster.devices import Devices
from hpo.cluster.ray import Cluster, EarlyRay

DEVICES = Devices(count=1, gpu_name=None, cpus=1)


def test_a_study_whose_ray_does_not_start_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself waits for its server without an end; the thread in which it does so ends with the process."""
    release = Event()

    @contextmanager
    def hanging(_: Devices) -> Iterator[Cluster]:
        release.wait()
        yield Cluster()

    monkeypatch.setattr(cluster, "ray_cluster", hanging)
    monkeypatch.setattr(cluster, "START_SECONDS", 0.05)
    early = EarlyRay(DEVICES)
    try:
        with pytest.raises(BenchmarkError, match=r"Ray has not started within 0\.05 s; end what else"):
            early.__enter__()
        began = time.monotonic()
        early.close()
        assert time.monotonic() - began < 5
    finally:
        release.set()


def test_the_garbage_collector_begins_where_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is imported then: at Ray's end the collector goes through the study's own objects alone."""
    begun = []

    @contextmanager
    def started(_: Devices) -> Iterator[Cluster]:
        yield Cluster()

    monkeypatch.setattr(cluster, "ray_cluster", started)
    monkeypatch.setattr(cluster, "collect_from_here", lambda: begun.append(True))
    early = EarlyRay(DEVICES)
    assert not begun
    with early:
        assert begun == [True]
    early.close()
