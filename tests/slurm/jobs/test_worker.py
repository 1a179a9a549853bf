"""A worker job that joins a Ray; in Ray's place a program that writes down how it was started."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.jobs import connection, worker
from slurm.jobs.connection import Connection
from tests.benchmarks.devices.machines import gpu, machine, put_in, sliced

NOTE = """
import json, os
names = [name for name in os.environ if name.startswith("CUDA_")]
print("started with", json.dumps({name: os.environ[name] for name in names}))
"""


@pytest.fixture
def join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The connection file of a head job; signals are restored."""
    scripts = tmp_path / "in-rays-place" / "ray" / "scripts"
    scripts.mkdir(parents=True)
    for folder in (scripts, scripts.parent):
        (folder / "__init__.py").touch()
    (scripts / "scripts.py").write_text(NOTE)
    monkeypatch.setenv("PYTHONPATH", str(scripts.parents[1]))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    connection.write(Connection("127.0.0.1:6379", "token", "7"), tmp_path / "ray.json")
    yield tmp_path / "ray.json"
    for number, handler in handlers.items():
        signal.signal(number, handler)


def started_with(folder: Path) -> dict[str, str]:
    """Read the variables with which Ray was started."""
    [log] = folder.glob("worker-*.ray.log")
    found = re.search(r"started with (.*)", log.read_text())
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.mark.parametrize(
    ("described", "visible", "expected"),
    [
        (machine(gpu(0), gpu(1), gpu(2)), "GPU-2,GPU-0", "2,0"),
        (machine(gpu(0), gpu(1)), None, "0,1"),
        (machine(sliced(0, "1g.10gb", "1g.10gb")), None, "MIG-00e-9,MIG-01e-9"),
    ],
)
def test_ray_counts_the_node_s_gpus_as_its_driver_does(
    join: Path, monkeypatch: pytest.MonkeyPatch, described: str, visible: str | None, expected: str
) -> None:
    put_in(monkeypatch, described, visible)
    worker.run_worker_job(join, cpus=2, gpus=2)
    assert started_with(join.parent) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": expected}


def test_a_worker_without_gpus_asks_no_driver(join: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, machine(gpu(0), gpu(1, "NVIDIA T400")))
    worker.run_worker_job(join, cpus=2, gpus=0)
    assert started_with(join.parent) == {}


def test_a_node_with_unlike_gpus_does_not_join(
    join: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_in(monkeypatch, machine(gpu(0), gpu(1, "NVIDIA T400")))
    assert worker.run_worker_job(join, cpus=2, gpus=2) == 1
    assert re.search(r"error: this machine has GPUs of 2 kinds, .* CUDA_VISIBLE_DEVICES=0\n", capsys.readouterr().out)
    assert not list(join.parent.glob("worker-*"))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


def test_a_node_that_joins_later_with_gpus_of_another_kind_does_not(
    join: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hours could not be added to those of the nodes that the study began on."""
    put_in(monkeypatch, machine(gpu(0)))
    for job in ("11", "12"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        worker.run_worker_job(join, cpus=2, gpus=1)
    assert len(list(join.parent.glob("worker-*"))) == 2
    put_in(monkeypatch, machine(gpu(0, "NVIDIA T400")))
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert worker.run_worker_job(join, cpus=2, gpus=1) == 1
    assert "this node has NVIDIA T400, but the study counts hours of" in capsys.readouterr().out
    assert len(list(join.parent.glob("worker-*"))) == 2
    assert [path.name for path in join.parent.glob("gpus*")] == ["gpus"]
