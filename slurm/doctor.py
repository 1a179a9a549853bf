"""A compute node beside the login node: the facts of both, collected by this process and by a job of its own.

A study that works where it is submitted may fail where it runs: another Python, a missing package, no GPU driver, a
folder that is not shared, no way to the internet.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.clock import REAL
from benchmarks.files import write_whole
from benchmarks.spec import BenchmarkError
from hpo.cluster.devices import look_at_node
from hpo.workflows.doctor import fault_of_torch, pins
from slurm import scheduler, scripts
from slurm.jobs import network
from slurm.processes import OnChange
from slurm.profile import Layout, Profile
from slurm.scripts import PROJECT, Places
from slurm.submit import logs_folder

MINUTES = 10
POLL_SECONDS = 0.5
SAME = ("python", "work folder", "logs folder")
"""Facts that must be equal on both, beside the packages."""
SETTLE_SECONDS = 60.0
"""Seconds in which a file appears here after the job that wrote it has ended: network file systems remember."""
PROBE = "probe.sbatch"
"""Name of a worker job's script, beside the mark; it is never submitted."""
UNFIT = "fails"
USE = "torch on GPUs"
WRITABLE = "shared and writable"
RAY_FOLDERS = ("/tmp", "/dev/shm")  # noqa: S108 - where Ray puts its files
VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "NCCL_SOCKET_IFNAME")
Verdict = Literal["ok", "differs", "LACKS"]


@dataclass(frozen=True)
class ComparedFact:
    """One fact of both nodes.

    Attributes:
        verdict: "LACKS" where a study could not run, or would not be the same; "differs" where that may be as it is.
        name: of the fact.
        here: where the study is submitted.
        there: on the compute node.
    """

    verdict: Verdict
    name: str
    here: str
    there: str


def facts(work: Path, mark: Path, trains: bool = False) -> dict[str, str]:
    """Return the facts of this machine, by name.

    Args:
        work: the folder that studies are submitted from.
        mark: a file that the login node has just made in the logs' folder; it names the cluster's network.
        trains: whether this machine is to train, so that torch is imported and tried on its GPUs.
    """
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "node": socket.gethostname(),
        "system": platform.platform(),
        "python": f"{platform.python_version()} {sys.prefix}",
        "project": _commit(PROJECT),
        "work folder": str(work) if work.is_dir() else f"no {work}",
        "logs folder": _shared(mark),
        "address": _address(mark),
        "sbatch": _sbatch(mark.with_name(PROBE)),
        "srun": shutil.which("srun") or "none",
        "cores": str(cores),
        "memory": f"{memory:.0f} GiB",
        **_gpus(trains),
        "compiler": shutil.which("g++") or "none",
        **{folder: f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free" for folder in RAY_FOLDERS},
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        **{name: os.environ.get(name, "not set") for name in VARIABLES},
    }
    return found | {f"package {name}": _version(name) for name in pins()}


def _gpus(trains: bool) -> dict[str, str]:
    """Return the visible GPUs, and whether torch can train on them; where it is to train, it tries."""
    seen = look_at_node()
    names = ", ".join(gpu.name for gpu in seen.gpus) or "none"
    fault = seen.fault or (fault_of_torch() if seen.gpus and trains else "")
    return {"GPUs": names, USE: f"{UNFIT}: {fault}" if fault else "works" if seen.gpus else "no GPU"}


def _address(mark: Path) -> str:
    """Return the address at which Ray would listen here, or why it cannot."""
    told = json.loads(text) if mark.exists() and (text := mark.read_text()) else {}
    try:
        asked = network.own_address(told.get("interface", ""), told.get("network", ""))
    except BenchmarkError as error:
        return f"{UNFIT}: {error}"
    from ray.util import get_node_ip_address

    address = asked or get_node_ip_address()
    return f"{UNFIT}: {address} is a loopback address" if network.is_loopback(address) else str(address)


def _sbatch(probe: Path) -> str:
    """Return whether a worker job could be submitted from here."""
    if not probe.exists():
        return "not asked"
    try:
        scheduler.test(probe, probe.parent)
    except BenchmarkError as error:
        return f"{UNFIT}: {error}"
    return "works"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _commit(folder: Path) -> str:
    """Return the folder and its commit; without git, or in another user's checkout, the folder alone."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    return f"{folder} {done.stdout.strip()}".strip() if done else str(folder)


def _shared(mark: Path) -> str:
    """Tell whether a folder is the one in which the login node has left a mark, and can be written."""
    if not mark.exists():
        return f"{mark.parent} is not the login node's"
    return WRITABLE if os.access(mark.parent, os.W_OK) else f"{mark.parent} cannot be written"


def compare(
    here: Mapping[str, str], there: Mapping[str, str], needs_gpu: bool, layout: Layout = "jobs"
) -> list[ComparedFact]:
    """Return both sides, one row per thing.

    Args:
        here: facts of the login node.
        there: facts of the compute node.
        needs_gpu: whether jobs ask for GPUs.
        layout: the profile's.
    """
    ignored = "sbatch" if layout == "one_job" else "srun"
    return [
        ComparedFact(
            _verdict(name, here.get(name, ""), there.get(name, ""), needs_gpu),
            name,
            here.get(name, ""),
            there.get(name, ""),
        )
        for name in dict.fromkeys([*here, *there])
        if name != ignored
    ]


def _verdict(name: str, here: str, there: str, needs_gpu: bool) -> Verdict:
    if needs_gpu and ((name == "GPUs" and there == "none") or (name == USE and there.startswith(UNFIT))):
        return "LACKS"
    if name == "logs folder" and there != WRITABLE:
        return "LACKS"
    if name in ("sbatch", "srun", "address") and (there.startswith(UNFIT) or there == "none"):
        return "LACKS"
    if here == there:
        return "ok"
    return "LACKS" if name in SAME or name.startswith("package ") else "differs"


def compare_nodes(profile: Profile) -> list[ComparedFact]:
    """Ask a compute node, through the queue, and say why the job waits.

    Raises:
        BenchmarkError: SLURM refused, or the job ended without an answer.
    """
    logs, work = logs_folder(profile), Path.cwd()
    name = f"{profile.job_name}-doctor"
    script = logs / f"{name}.sbatch"
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=logs) as folder:
        mark, answer = Path(folder) / "mark", Path(folder) / "answer.json"
        mark.write_text(json.dumps({"interface": profile.interface, "network": profile.network}))
        short = profile.model_copy(update={"time": str(MINUTES)})
        command = ["slurm", "doctor-job", "--mark", str(mark)]
        (mark.with_name(PROBE)).write_text(scripts.worker(short, name, ["methods"], Places.here(work)))
        script.write_text(scripts.worker(short, name, command, Places.here(work)))
        job = scheduler.submit(script, work)
        _wait(job, answer)
        there: dict[str, str] = json.loads(answer.read_text()) if answer.exists() else {}
        here = facts(work, mark)
    if not there:
        log = logs / f"{name}-{job}.out"
        said = log.read_text().strip().splitlines() if log.exists() else []
        why = said[-1] if said else "nothing at all: the node may not reach the logs' folder"
        raise BenchmarkError(f"job {job} ended without an answer; its log says: {why} (all of it: {log})")
    return compare(here, there, profile.node.gpus > 0, profile.layout)


def _wait(job: str, answer: Path) -> None:
    """Wait for the job's end; a Ctrl-C cancels it."""
    log, ended, watch = OnChange(), None, scheduler.QueueWatch()
    try:
        while not answer.exists():
            state = watch.look([job])[job]
            if state.state in scheduler.ENDED:
                ended = ended or REAL.now()
                if state.state != "COMPLETED" or REAL.now() > ended + SETTLE_SECONDS:
                    return
            log.say(f"waits for job {job}: {state}")
            REAL.sleep(POLL_SECONDS)
    except BaseException:
        scheduler.cancel([job])
        raise


def answer(mark: Path) -> None:
    """Write this node's facts beside the mark, whole or not at all."""
    write_whole(mark.with_name("answer.json"), json.dumps(facts(Path.cwd(), mark, trains=True)))
