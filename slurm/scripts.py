"""Job scripts as text. Pure: what is submitted can be read, tested and diffed before anything runs.

A script asks SLURM for what the profile says, finds its Python, and becomes `python -m hpo slurm <job>` with `exec`,
so that SLURM's signals reach Python and not a shell that waits for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm.profile import Profile


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
    gpus = profile.node.gpus
    request = f"--gres=gpu:{gpus}" if profile.gpu_request == "gres" else f"--gpus-per-node={gpus}"
    resources = [
        f"--partition={profile.partition}",
        "--nodes=1",
        f"--cpus-per-task={profile.node.cpus}",
        f"--mem={profile.node.memory}",
        request if gpus else "",
        "--no-requeue",
    ]
    return _script(profile, name, resources, command, places)


def _script(profile: Profile, name: str, resources: Sequence[str], command: Sequence[str], places: Places) -> str:
    directives = [
        f"--job-name={name}",
        f"--output={_quoted(profile.logs)}/%x-%j.out",
        "--open-mode=append",
        f"--time={profile.time}",
        f"--account={profile.account}",
        *resources,
        *profile.directives,
    ]
    asked = [f"#SBATCH {directive}" for directive in directives if not directive.endswith("=")]
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
    environment = profile.environment
    lines = [f"module load {shlex.quote(module)}" for module in environment.modules]
    if environment.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(environment.conda)}"]
    if environment.venv:
        lines.append(f". {shlex.quote(str(Path(environment.venv).expanduser() / 'bin/activate'))}")
    return [*lines, *environment.lines]
