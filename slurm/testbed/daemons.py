"""The daemons of a SLURM of two nodes on this machine: real munged, slurmctld and two slurmd, started as root.

Everything lies in one folder: configuration, key, sockets, logs. Nothing of an installed SLURM is touched, and several
test beds may run side by side. The nodes, n1 and n2, are this machine twice, whatever cores it has: nothing is
confined.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.clock import REAL
from benchmarks.ports import free_ports

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n1", "n2")
READY_SECONDS = 60


def lacks() -> str:
    """Name the parts of a test bed that this machine lacks; empty if none."""
    missing = [name for name in DAEMONS if _daemon(name) is None]
    if missing:
        return f"{', '.join(missing)} not found; install Debian's packages slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "slurmd starts jobs of any user, and so must be root"


def start(folder: Path, cpus: int = 4, memory_mb: int = 16000, max_array_size: int = 1001) -> Path:
    """Start it; returns the configuration, to be named in SLURM_CONF.

    Args:
        folder: new or empty; its path short enough for sockets.
        cpus: cores of each node, as SLURM is told.
        memory_mb: memory of each node, as SLURM is told.
        max_array_size: MaxArraySize, by default SLURM's own.

    Raises:
        RuntimeError: the nodes did not come up; the daemons' logs are in the folder.
    """
    for name in ("state", "log", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder, cpus, memory_mb, max_array_size))
    (folder / "gres.conf").write_text("".join(f"NodeName={node} Name=gpu File=/dev/null,/dev/zero\n" for node in NODES))
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "log/munged.log"}
    files |= {"seed-file": "munge.seed"}
    _run(folder, "munged", "--force", *(f"--{option}={folder / name}" for option, name in files.items()))
    _run(folder, "slurmctld")
    for node in NODES:
        start_node(folder, node)
    deadline = REAL.now() + READY_SECONDS
    while not idle(folder):
        if REAL.now() > deadline:
            stop(folder)
            raise RuntimeError(f"the nodes did not come up within {READY_SECONDS} s; see {folder / 'log'}")
        REAL.sleep(0.2)
    return configuration


def idle(folder: Path) -> bool:
    """Tell whether all nodes are up, and no job runs on them."""
    return _query(folder, "sinfo", "--noheader", "--format=%T %D").split() == ["idle", str(len(NODES))]


def start_node(folder: Path, node: str) -> None:
    """Start a node's slurmd; one that runs already stays."""
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        if psutil.Process(int((folder / f"slurmd-{node}.pid").read_text())).name() == "slurmd":
            return
    _run(folder, "slurmd", "-N", node)


def kill_node(folder: Path, node: str) -> None:
    """End everything on a node at once, as if its power had gone: slurmd, its jobs, and their processes."""
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        psutil.Process(int((folder / f"slurmd-{node}.pid").read_text())).kill()
    on_node = _query(folder, "squeue", "--noheader", f"--nodelist={node}", "--format=%A").split()
    for process in psutil.process_iter(["cmdline", "environ"]):
        environment, command = process.info["environ"] or {}, " ".join(process.info["cmdline"] or [])
        is_job = environment.get("SLURMD_NODENAME") == node and environment.get("SLURM_JOB_ID") in on_node
        if is_job or any(command.startswith(f"slurmstepd: [{job}.") for job in on_node):
            with suppress(psutil.Error):
                process.kill()


def stop(folder: Path) -> None:
    """Cancel all jobs and end all daemons."""
    if (folder / "slurmctld.pid").exists():
        jobs = _query(folder, "squeue", "--noheader", "--format=%A").split()
        if jobs:
            _query(folder, "scancel", *jobs)
            deadline = REAL.now() + READY_SECONDS
            while _query(folder, "squeue", "--noheader", "--format=%A").strip() and REAL.now() < deadline:
                REAL.sleep(0.2)
    for name in ("slurmctld.pid", *(f"slurmd-{node}.pid" for node in NODES), "munged.pid"):
        _end(folder / name)


def _end(pid_file: Path) -> None:
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text()))
        process.terminate()
        if psutil.wait_procs([process], timeout=10)[1]:
            process.kill()


def _daemon(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(folder: Path, name: str, *options: str) -> None:
    daemon = _daemon(name)
    assert daemon is not None
    subprocess.run([daemon, *options], env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}, check=True)


def _query(folder: Path, *command: str) -> str:
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout


def _configuration(folder: Path, cpus: int, memory_mb: int, max_array_size: int) -> str:
    """Return slurm.conf: settings for several slurmd on one machine, and waits short enough for tests."""
    host, ports = socket.gethostname(), free_ports(1 + len(NODES))
    has = f"CPUs={cpus} RealMemory={memory_mb} Gres=gpu:2"
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {has}"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    settings = {
        "ClusterName": "testbed",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports[0],
        "FirstJobId": 1 + int(REAL.epoch()) % 1_000_000,  # no two test beds give the same number
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd-%n.pid",
        "SlurmctldLogFile": folder / "log/slurmctld.log",
        "SlurmdLogFile": folder / "log/slurmd-%n.log",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool-%n",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": 1000,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "CANCEL",
        "SlurmdParameters": "config_overrides",
        "GresTypes": "gpu",
        "MaxArraySize": max_array_size,
        "ReturnToService": 2,
        "KillWait": 20,
        "SlurmdTimeout": 15,
        "MpiDefault": "none",
        "SchedulerParameters": "sched_interval=2,bf_interval=2,batch_sched_delay=0",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
    }
    on = f"Nodes={','.join(NODES)} MaxTime=1:00:00 State=UP"
    partitions = [
        f"PartitionName=main {on} Default=YES PriorityTier=1",
        f"PartitionName=urgent {on} PriorityTier=2 PreemptMode=OFF",  # its jobs end those of the other where they must
    ]
    return "\n".join([*(f"{key}={value}" for key, value in settings.items()), *nodes, *partitions]) + "\n"
