"""Job scripts as text. Pure: what is submitted can be read, tested and diffed before anything runs.

A script asks SLURM for what the profile says, finds its Python, and becomes `python -m hpo slurm <job>` with `exec`,
so that SLURM's signals reach Python and not a shell that waits for it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.files import expanded
from slurm import capacity
from slurm.profile import Profile

PROJECT = Path(__file__).parent.parent
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


@dataclass(frozen=True)
class Places:
    """Where a job finds things.

    Attributes:
        project: the repository.
        work: the folder that relative paths in the command are relative to.
        python: the interpreter that submits; used where the profile's environment names no other.
    """

    project: Path
    work: Path
    python: str

    @classmethod
    def here(cls, work: Path) -> Places:
        """This repository and this interpreter, for jobs that work in a folder."""
        return cls(PROJECT, work, sys.executable)


def head(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """The head job: Ray's head, the MLflow server, and the driver; it submits the worker jobs.

    Args:
        profile: the cluster.
        name: of the job; also the first part of its log's name.
        command: arguments of `python -m hpo`.
        places: where things are.
    """
    resources = [
        f"--partition={profile.head.partition or profile.partition}",
        "--nodes=1",
        f"--cpus-per-task={profile.head.cpus}",
        f"--mem={profile.head.memory}",
        f"--signal=B:USR1@{profile.grace_seconds}",
        "--requeue" if profile.requeue else "--no-requeue",
    ]
    return _script(profile, name, resources, command, places)


def worker(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """A worker job: a node's devices, joined to the Ray of a head job. Not requeued: the head job sees to it."""
    resources = [*_devices(profile, profile.node.cpus, profile.node.gpus, profile.node.memory), "--no-requeue"]
    return _script(profile, name, resources, command, places)


def trials(profile: Profile, name: str, command: Sequence[str], places: Places, ranks: int, is_array: bool) -> str:
    """A job that trains trials without Ray, and takes what one of them takes.

    Args:
        profile: the cluster.
        name: of the job.
        command: arguments of `python -m hpo`.
        places: where things are.
        ranks: of a trial.
        is_array: whether sbatch will make many tasks of it; such a task is not queued again by itself.
    """
    resources = [
        *_devices(
            profile, ranks * profile.cpus_per_rank, ranks * bool(profile.node.gpus), memory_share(profile, ranks)
        ),
        f"--signal=B:USR1@{profile.grace_seconds}",
        "--requeue" if profile.requeue and not is_array else "--no-requeue",
    ]
    return _script(profile, name, resources, command, places, "%x-%A_%a" if is_array else "%x-%j")


def memory_share(profile: Profile, ranks: int) -> str:
    """The share of a node's memory of a trial, as SLURM writes it; empty for the site's default."""
    memory = profile.node.memory
    if not memory:
        return ""
    megabytes = int(memory.rstrip("KMGT")) * _MEGABYTES[memory[-1] if memory[-1].isalpha() else "M"]
    return f"{int(megabytes / max(1, capacity.of(profile.model_copy(update={'cpus_for_ray': 0}), ranks).trials_node))}M"


def _devices(profile: Profile, cpus: int, gpus: int, memory: str) -> list[str]:
    """A request for a part of a worker node."""
    request = f"--gres=gpu:{gpus}" if profile.gpu_request == "gres" else f"--gpus-per-node={gpus}"
    return [
        f"--partition={profile.partition}",
        "--nodes=1",
        f"--cpus-per-task={cpus}",
        f"--mem={memory}",
        request if gpus else "",
    ]


def _script(
    profile: Profile,
    name: str,
    resources: Sequence[str],
    command: Sequence[str],
    places: Places,
    log: str = "%x-%j",
) -> str:
    directives = [
        f"--job-name={name}",
        f"--output={_quoted(profile.logs)}/{log}.out",
        "--open-mode=append",
        f"--time={profile.time}",
        f"--account={profile.account}",
        *resources,
        *profile.directives,
    ]
    asked = [f"#SBATCH {directive}" for directive in directives if directive and not directive.endswith("=")]
    run = [places.python if profile.environment.is_empty else "python", "-m", "hpo", *command]
    lines = [
        _shebang(profile),
        *asked,
        "",
        *_activation(profile),
        f"cd {shlex.quote(str(places.work))}",
        f"export PYTHONPATH={shlex.quote(str(places.project))}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"exec {shlex.join(run)}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text within double quotes, as sbatch reads its directives; a percent sign would begin a pattern."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _shebang(profile: Profile) -> str:
    """A login shell where it must know `module` and `conda`; it would undo a PATH that was inherited."""
    environment = profile.environment
    return "#!/bin/bash -l" if environment.modules or environment.conda else "#!/bin/bash"


def _activation(profile: Profile) -> list[str]:
    """Shell lines that find the job's Python; without it no other must be taken."""
    environment = profile.environment
    lines = [f"module load {shlex.quote(module)} || exit 1" for module in environment.modules]
    if environment.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(environment.conda)} || exit 1"]
    if environment.venv:
        lines.append(f". {shlex.quote(str(expanded(environment.venv) / 'bin/activate'))} || exit 1")
    return [*lines, *environment.lines]
