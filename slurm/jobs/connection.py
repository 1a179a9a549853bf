"""The file by which worker jobs find the Ray of their head job: one per head job, readable by its owner alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.files import write_whole
from benchmarks.spec import BenchmarkError
from hpo.cluster.access import authentication


@dataclass(frozen=True)
class Connection:
    """A running Ray.

    Attributes:
        address: host and port of its head.
        token: the secret that every process that joins must know, see Ray's token authentication
            (https://docs.ray.io/en/latest/ray-security/token-auth.html).
        job: SLURM's id of the head job.
        interface: the network interface at which a node of this Ray listens; empty for any.
        network: the network, such as 10.1.0.0/16, in which a node of this Ray listens; empty for any.
    """

    address: str
    token: str
    job: str
    interface: str = ""
    network: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Ray's commands and drivers join; an environment is its owner's to read."""
        return {"RAY_ADDRESS": self.address, **authentication(self.token)}


def write(connection: Connection, path: Path) -> None:
    """Write a connection file whole or not at all, readable by its owner alone."""
    write_whole(path, json.dumps(asdict(connection)), mode=0o600)


def read(path: Path) -> Connection:
    """Read it.

    Raises:
        BenchmarkError: it is not there, or others may read it.
    """
    try:
        mode = path.stat().st_mode & 0o077
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise BenchmarkError(
            f"connection file {path} is gone: its head job has ended, or it was deleted; "
            "a worker that starts without it cannot join"
        ) from None
    if mode:
        raise BenchmarkError(f"connection file {path} is readable by others, and so is the token in it; not used")
    return Connection(**content)
