"""PostgreSQL on loopback, as Debian's package has it, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ports import free_port

USER = "postgres"
"""User of Debian's package, which runs the server where the tests run as root: PostgreSQL refuses root."""
INSTALL = "apt-get install postgresql"


def programs() -> Path | None:
    """Find the folder of PostgreSQL's programs, which Debian leaves out of PATH; None without them."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


@contextmanager
def serving_postgres(password: str) -> Iterator[str]:
    """Start a server with an empty database; returns its URI, password included. It ends with the context."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
            shutil.chown(folder / "password", USER)
        data, options = str(folder / "data"), f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        _run("initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N")
        _run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "-D", data, "-m", "immediate", "stop")


def _run(program: str, *words: str) -> None:
    folder = programs()
    assert folder is not None
    command: Sequence[str] = [str(folder / program), *words]
    if os.geteuid() == 0:
        command = ["runuser", "-u", USER, "--", *command]
    subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
