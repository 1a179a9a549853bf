"""Two nodes of Ray's on this machine that share no temporary folder, as two machines do not (mount namespaces)."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.ports import free_port
from tests.studies import REPOSITORY

SECONDS_TO_START = 60
NODE = "--block --num-cpus=1 --object-store-memory=100000000 --disable-usage-stats --include-log-monitor=false"


def lacks() -> str:
    """Say why this machine cannot have them; empty where it can."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


@contextmanager
def two_nodes(*hidden: Path) -> Iterator[dict[str, str]]:
    """Start the nodes, of one core each; yields the environment of a driver on the first.

    Args:
        hidden: folders that the second node has empty ones of its own in the place of.
    """
    with tempfile.TemporaryDirectory(prefix="nodes-") as name, ExitStack() as stack:
        port = free_port()
        temporary = Path(name, "tmp")
        temporary.mkdir()
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(REPOSITORY),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "CUDA_VISIBLE_DEVICES": "",
        }
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
        stack.enter_context(_node([*head, f"--temp-dir={name}/a"], [temporary], environment, Path(name, "a.log")))
        other = [f"--address=127.0.0.1:{port}", f"--temp-dir={name}/b"]
        stack.enter_context(_node(other, [temporary, *hidden], environment, Path(name, "b.log")))
        yield {**environment, "TMPDIR": tempfile.gettempdir(), "RAY_ADDRESS": f"127.0.0.1:{port}"}


@contextmanager
def _node(arguments: list[str], own: list[Path], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a node that has these folders for itself."""
    mounts = "".join('mount -t tmpfs none "$1"; shift; ' for _ in own)
    command = ["unshare", "--mount", "bash", "-ec", f'{mounts}exec "$@"', "bash", *map(str, own)]
    command += [sys.executable, "-m", "ray.scripts.scripts", "start", *NODE.split(), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
