"""A SLURM of two nodes on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm import scheduler
from slurm.testbed import daemons
from tests.slurm.testbed.drills import REPOSITORY, running, wait_until, write_profile
from tests.studies import write_slow_synthetic


@pytest.fixture(scope="session")
def bed() -> Iterator[Path]:
    """Its folder; SLURM's commands find it."""
    if lacking := daemons.lacks():
        pytest.skip(f"no SLURM can be started here: {lacking}")
    with tempfile.TemporaryDirectory(prefix="bed-") as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name)
        monkeypatch.setenv("SLURM_CONF", str(daemons.start(folder)))
        try:
            yield folder
        finally:
            daemons.stop(folder)


@pytest.fixture
def work(bed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a name that shells stumble over, a cluster profile and a benchmark; no job is left at its end."""
    folder = tmp_path / 'it\'s "mine", 100% $HOME'
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_profile(folder)
    write_slow_synthetic(folder, 0.05, "slow")
    yield folder
    scheduler.cancel(running())
    wait_until(lambda: not running(), "the jobs' end")
