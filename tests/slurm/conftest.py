"""A SLURM of two nodes on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.testbed import __main__ as testbed


@pytest.fixture(scope="session")
def bed() -> Iterator[Path]:
    """Its folder; SLURM's commands find it."""
    if lacking := testbed.lacks():
        pytest.skip(f"no SLURM can be started here: {lacking}")
    with tempfile.TemporaryDirectory(prefix="bed-") as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name)
        monkeypatch.setenv("SLURM_CONF", str(testbed.start(folder)))
        try:
            yield folder
        finally:
            testbed.stop(folder)
    assert "SLURM_CONF" not in os.environ or os.environ["SLURM_CONF"] != f"{name}/slurm.conf"
