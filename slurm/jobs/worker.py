"""A worker job: one node's devices, joined to the Ray of a head job until that ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.clock import REAL
from benchmarks.spec import BenchmarkError
from hpo.cluster import access
from hpo.cluster.devices import detect_here
from slurm.jobs import connection, network
from slurm.jobs.connection import Connection
from slurm.processes import Child, Signals, Stamps, job_id, say

OBJECT_STORE_BYTES = 200 * 2**20
WORKER = "worker-"
"""Beginning of the resource by which the head job tells the nodes of its workers apart."""
KIND = "gpus"
"""File beside the connection file with the kind of GPU that the first worker of the head job had."""
STEP = "HPO_WORKER_STEP"
"""Variable that names a worker which is a step of the head job; not set in a job of its own."""
_RAY_START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block")
ANY_PORT = [
    f"--{name}=0"
    for name in (
        "node-manager-port",
        "object-manager-port",
        "min-worker-port",
        "max-worker-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "runtime-env-agent-port",
        "metrics-export-port",
    )
]
"""The system gives a free port to each, so that jobs on one node cannot collide."""


def run_worker_job(file: Path, cpus: int, gpus: int) -> int:
    """Join, stay until the head job ends Ray or SLURM ends this job; return the exit status.

    Args:
        file: the head job's connection file.
        cpus: CPU cores that trials may use; SLURM gave this job more where some are left to Ray.
        gpus: GPUs that trials may use.
    """
    step = os.environ.get(STEP, "")
    name = f"worker step {job_id()}.{step}" if step else f"worker job {job_id()}"
    with Stamps(name) as stamps, Signals() as signals:
        if step:  # SLURM tells all steps of a job that it cancels; the head job ends them once its study has ended
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stamps.status = _stay(connection.read(file), file.parent, cpus, gpus, signals)
    return stamps.status


def _stay(joined: Connection, logs: Path, cpus: int, gpus: int, signals: Signals) -> int:
    step = os.environ.get(STEP, "")
    name = step or job_id()
    own = network.own_address(joined.interface, joined.network)
    command = [*ray_start(cpus, gpus, own, name), f"--address={joined.address}"]
    say(f"joins the Ray of job {joined.job} at {joined.address} with {cpus} CPUs, {gpus} GPUs")
    log = logs / f"worker-{name}.ray.log"
    variables: Mapping[str, str] = {}
    if gpus:
        devices = detect_here()
        _require_same_kind(devices.accelerator, logs / KIND)
        variables = devices.variables
    environment = {**joined.environment, **_interface(joined), **variables}
    with (
        access.temporary_folder(access.place_for_sockets(os.environ.get("RAY_TMPDIR", ""))) as folder,
        Child([*command, f"--temp-dir={folder}"], environment, log, shielded=bool(step), is_bound=True) as ray,
    ):
        while ray.status is None and not signals.received:
            REAL.sleep(0.5)
        if signals.received:
            say("ends: the head job has ended its study" if step else "ends: SLURM asked this job to")
            return 0
        say("ends: the head job has ended Ray, or cannot be reached")
        return 0 if ray.status == 0 else 1


def _require_same_kind(kind: str, file: Path) -> None:
    """Make sure that this node has the kind of GPU of those that joined before, in whose hours the study counts.

    Args:
        kind: of this node's GPUs.
        file: where the first worker wrote its kind; written if this is the first.

    Raises:
        BenchmarkError: it is another kind.
    """
    own = file.with_name(f"{file.name}-{os.uname().nodename}-{os.getpid()}")
    own.write_text(kind)
    try:
        os.link(own, file)  # whole, and by one worker alone
    except FileExistsError:
        if (first := file.read_text()) != kind:
            raise BenchmarkError(
                f"this node has {kind}, but the study counts hours of {first}, which joined first; "
                "ask SLURM for one kind, such as `gpus: v100:8` in the profile"
            ) from None
    finally:
        own.unlink()


def _interface(joined: Connection) -> dict[str, str]:
    """Return the variables that let the ranks of a trial on several nodes meet where Ray does."""
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if joined.interface else ()
    return {name: joined.interface for name in names if name not in os.environ}


def ray_start(cpus: int, gpus: int, address: str = "", worker: str = "") -> list[str]:
    """Return the command that starts a node of Ray, less the Ray that it belongs to.

    Args:
        cpus: CPU cores for trials; Ray alone would take all of the machine's.
        gpus: GPUs for trials.
        address: where it listens; empty to let Ray choose.
        worker: name of the worker; empty for the head.
    """
    named = [f"--resources={json.dumps({WORKER + worker: 1})}"] if worker else []
    return [
        *_RAY_START,
        f"--num-cpus={cpus}",
        f"--num-gpus={gpus}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        *named,
        *([f"--node-ip-address={address}"] if address else []),
        "--disable-usage-stats",
        "--include-log-monitor=false",
        *ANY_PORT,
    ]
