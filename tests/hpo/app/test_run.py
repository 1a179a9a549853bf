"""The command `run`, which looks at the machine once, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import spec
from hpo.app import cli
from hpo.cluster.devices import Devices
from hpo.engine.in_process import InProcess
from tests.benchmarks.check.models import nano_with
from tests.stores import working_in

RUN = ["hpo", "run", "random", "--budget", "1", "--benchmark", "synthetic"]


class Early:
    """A Ray that starts in the background, which no study here needs."""

    started: list[Devices]

    def __init__(self, devices: Devices) -> None:
        self.started.append(devices)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A process that runs one command; notes how often its devices are looked up, and which Ray is started."""
    found = SimpleNamespace(looked_up=0, started=[], devices=Devices(2, None, 2))

    def detect(*_: object) -> Devices:
        found.looked_up += 1
        return found.devices

    monkeypatch.setattr("hpo.cluster.ray.detect", detect)
    monkeypatch.setattr(InProcess, "detect", detect)
    monkeypatch.setattr("hpo.engine.runner.OnRay", lambda early: InProcess(2))
    monkeypatch.setattr("hpo.cluster.ray.EarlyRay", type("EarlyRay", (Early,), {"started": found.started}))
    monkeypatch.setattr("sys.argv", RUN)
    with working_in(tmp_path):
        yield found


def test_devices_are_looked_up_once(machine: SimpleNamespace) -> None:
    assert cli.main() == 0
    assert machine.looked_up == 1
    assert machine.started == [machine.devices]


def test_a_precision_that_they_lack_is_refused_before_ray_starts(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.devices = Devices(1, "Tesla V100", 4, compute_capability=(7, 0))
    monkeypatch.setattr(spec, "load", lambda *_: nano_with(precision="bf16"))
    assert cli.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: precision is bf16, but Tesla V100 has compute capability 7.0")
    assert machine.started == []
    assert not Path("unfinished").exists()
