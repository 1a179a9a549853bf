"""The network of HyperQueue's server: nobody but its own processes reaches it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.spec import BenchmarkError
from slurm.hq import isolation

REPOSITORY = Path(__file__).parents[3]
SERVE = """
import sys
from hyperqueue import LocalCluster
from hyperqueue.cluster import WorkerConfig
if sys.argv[2] == "apart":
    from slurm.hq import isolation
    isolation.enter()
with LocalCluster(sys.argv[1], WorkerConfig(cores=1)):
    print("ready", flush=True)
    sys.stdin.read()
"""
INTRUDE = """
import sys
from hyperqueue import Client, Job
job, client = Job(), Client(sys.argv[1])
job.program(["touch", sys.argv[2]], stdout=None, stderr=None)
client.connection.wait_for_jobs([client.submit(job).id], lambda jobs: None)
"""


def serve(folder: Path, how: str) -> subprocess.Popen[str]:
    folder.mkdir()
    words = [sys.executable, "-c", SERVE, str(folder), how]
    server = subprocess.Popen(
        isolation.command(words) if how == "apart" else words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
    )
    assert server.stdout is not None
    for line in server.stdout:  # the package prints a table first
        if line == "ready\n":
            return server
    raise AssertionError(server.wait())


def intrude(folder: Path, server: Path, proof: Path) -> subprocess.CompletedProcess[str]:
    """Submit as one who knows the ports alone, which anyone finds by trying; access.json itself is for its owner."""
    access = json.loads((server / "hq-current/access.json").read_text())
    assert access["client"]["secret_key"] is None
    access["client"]["host"] = "localhost"
    forged = folder / "hq-current"
    forged.mkdir(parents=True)
    (forged / "access.json").write_text(json.dumps({**access, "server_uid": "guessed"}))
    words = [sys.executable, "-c", INTRUDE, str(folder), str(proof)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "is_open"), [("as the package starts it", True), ("apart", False)])
def test_who_knows_the_port_cannot_submit(how: str, is_open: bool, tmp_path: Path) -> None:
    """The first case is why the second is needed: the day it fails, the package has a key, and this can go."""
    isolation.require()
    server = serve(tmp_path / "server", how)
    try:
        done = intrude(tmp_path / "forged", tmp_path / "server", tmp_path / "proof")
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
    assert (tmp_path / "proof").exists() == is_open
    assert (done.returncode == 0) == is_open
    assert is_open or "Connection refused" in done.stderr


def test_a_machine_without_namespaces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ("bash", "-c", "echo unshare: Operation not permitted >&2; exit 1")
    for unshare, reason in ((refused, "unshare: Operation not permitted"), (("no-such-program",), "No such file")):
        monkeypatch.setattr(isolation, "UNSHARE", unshare)
        with pytest.raises(BenchmarkError, match=f"needs a network of its own, .* none .*{reason}.*`slurm array`"):
            isolation.require()


def test_a_process_in_the_machine_s_network_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    name = socket.gethostname()
    monkeypatch.setattr(isolation, "_is_up", lambda interface: True)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    with pytest.raises(RuntimeError, match="interface eth0 is up"):
        isolation.enter()
    assert socket.gethostname() == name
