"""MLflow's server on loopback, as tests use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.ports import free_port

SECONDS_TO_START = 120


class Server:
    """`mlflow server` or `mlflow ui`, at a port of the system's; it can be stopped and started again.

    Args:
        words: what follows `mlflow`, without a port.
        folder: where it runs.
        health: what it answers to a question for its health.

    Attributes:
        uri: its address.
        pid: its process, while it runs.
    """

    def __init__(self, words: Sequence[str], folder: Path, health: bytes = b"OK") -> None:
        port = free_port()
        self.uri, self.pid = f"http://127.0.0.1:{port}", 0
        self._command = [sys.executable, "-m", "mlflow", *words, "--port", str(port), "--workers", "1"]
        self._folder, self._health = folder, health

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that we do not need
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, env=settings, start_new_session=True, stderr=subprocess.DEVNULL
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                assert answer.read() == self._health
                return
            time.sleep(0.3)
        self.stop()
        raise AssertionError(f"{self.uri} does not answer")

    def stop(self) -> None:
        """Kill it and its workers, which are of its process group."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def serve(store: str, folder: Path, *options: str) -> Server:
    """Make an `mlflow server` for a store."""
    return Server(["server", "--host", "127.0.0.1", "--backend-store-uri", store, *options], folder)
