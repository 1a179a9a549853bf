"""Job scripts as text. Pure: a script can be read, tested and diffed before anything runs.

A script asks SLURM for the profile's resources, finds its Python, and becomes `python -m hpo slurm <job>` with `exec`,
so that SLURM's signals reach Python and not a shell that waits for it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.files import BenchmarkError, expanded
from slurm import capacity
from slurm.formats import GRES, option_of
from slurm.profile import Profile

PROJECT = Path(__file__).parent.parent
FIRST_TRIAL = "HPO_FIRST_TRIAL"
"""Variable of an array: the trial that its task 0 trains; 0 where it is not set."""
WAYS_IN = ("apptainer", "singularity")
"""Programs that run a container; sites have either."""
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
_NO_MODULE = 'type module > /dev/null 2>&1 || { echo "error: there is no command module on $(hostname)" >&2; exit 1; }'
_FIND_CONTAINER = f"""container=$(command -v {" || command -v ".join(WAYS_IN)}) || \\
    {{ echo "error: neither {" nor ".join(WAYS_IN)} is on $(hostname)" >&2; exit 1; }}"""


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
        """Name this repository and this interpreter, for jobs that work in a folder."""
        return cls(PROJECT, work, sys.executable)


def head(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """Return the script of a head job: Ray's head and the driver; it submits the worker jobs.

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
    return _script(profile, name, resources, profile.head.directives, command, places)


def one_job(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """Return the script of a head job whose workers are steps of its own: one allocation of as many nodes.

    Args:
        profile: the cluster.
        name: of the job; also the first part of its log's name.
        command: arguments of `python -m hpo`.
        places: folders and interpreter of the job.
    """
    node = profile.node
    resources = [
        *_devices(profile, node.cpus, node.gpus, node.memory, profile.workers.count),
        "--ntasks-per-node=1",
        "--no-kill",  # a node that fails ends its worker, not the study
        f"--signal=B:USR1@{profile.grace_seconds}",
        "--requeue" if profile.requeue else "--no-requeue",
    ]
    return _script(profile, name, resources, profile.workers.directives, command, places)


def step(profile: Profile, node: int) -> list[str]:
    """Return the options of srun that start a worker on a node of this job's allocation.

    Args:
        profile: the cluster.
        node: its place among the job's nodes, from 0.
    """
    one = ["--nodes=1", "--ntasks=1", f"--relative={node}", f"--cpus-per-task={profile.node.cpus}"]
    return ["--overlap", *one, "--kill-on-bad-exit=0"]


def worker(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """Return the script of a worker job: a node's devices, joined to a head job's Ray. The head job replaces it."""
    resources = [*_devices(profile, profile.node.cpus, profile.node.gpus, profile.node.memory), "--no-requeue"]
    return _script(profile, name, resources, profile.workers.directives, command, places)


def trials(
    profile: Profile,
    name: str,
    command: Sequence[str],
    places: Places,
    ranks: int,
    is_array: bool,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Return the script of a job that trains trials without Ray, with the resources of one of them.

    Args:
        profile: the cluster.
        name: of the job.
        command: arguments of `python -m hpo`.
        places: where things are.
        ranks: of a trial.
        is_array: whether sbatch will make many tasks of it; such a task is not queued again by itself.
        variables: environment variables of the job.

    Raises:
        BenchmarkError: a trial's share of a node's memory is not known.
    """
    resources = [
        *_devices(
            profile, ranks * profile.cpus_per_rank, ranks * bool(profile.node.gpus), memory_share(profile, ranks)
        ),
        f"--signal=B:USR1@{profile.grace_seconds}",
        "--requeue" if profile.requeue and not is_array else "--no-requeue",
    ]
    log = "%x-%A_%a" if is_array else "%x-%j"
    return _script(profile, name, resources, profile.workers.directives, command, places, log, variables or {})


def node(profile: Profile, name: str, command: Sequence[str], places: Places) -> str:
    """Return the script of a job that has the CPU cores and memory of a whole node, and none of its GPUs.

    Args:
        profile: the cluster.
        name: of the job.
        command: arguments of `python -m hpo`.
        places: folders and interpreter of the job.
    """
    signal = f"--signal=B:USR1@{profile.grace_seconds}"
    resources = [*_devices(profile, profile.node.cpus, 0, profile.node.memory), signal, "--no-requeue"]
    return _script(profile, name, resources, profile.workers.directives, command, places)


def memory_share(profile: Profile, ranks: int) -> str:
    """Return a trial's share of a node's memory, as SLURM writes it; empty for the site's default.

    Raises:
        BenchmarkError: the profile asks for all of a node's memory without saying how much that is.
    """
    memory, trials_node = profile.node.memory, max(1, capacity.without_ray(profile, ranks).trials_node)
    if not memory:
        return ""
    megabytes = int(memory.rstrip("KMGT")) * _MEGABYTES[memory[-1] if memory[-1].isalpha() else "M"]
    if not megabytes and trials_node == 1:
        return memory
    if not megabytes:
        raise BenchmarkError(
            f"node.memory is {memory}, all of a node's, and {trials_node} trials without Ray share a node; write the "
            "memory that a node has, such as 180G"
        )
    return f"{int(megabytes / trials_node)}M"


def _devices(profile: Profile, cpus: int, gpus: int, memory: str, nodes: int = 1) -> list[str]:
    """Return the request for worker nodes, or a part of one."""
    typed = f"{profile.node.gpu_type}:{gpus}".lstrip(":")
    request = f"--gres=gpu:{typed}" if profile.gpu_request == "gres" else f"--gpus-per-node={typed}"
    return [
        f"--partition={profile.partition}",
        f"--nodes={nodes}",
        f"--cpus-per-task={cpus}",
        f"--mem={memory}",
        request if gpus else "",
    ]


def _script(
    profile: Profile,
    name: str,
    resources: Sequence[str],
    own_directives: Sequence[str],
    command: Sequence[str],
    places: Places,
    log: str = "%x-%j",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    directives = [
        f"--job-name={name}",
        f"--output={_quoted(profile.logs)}/{log}.out",
        "--open-mode=append",
        f"--time={profile.time}",
        f"--account={profile.account}",
        *_with_one_gres([*resources, *profile.directives, *own_directives]),
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
        *(f"export {name}={shlex.quote(text)}" for name, text in variables.items()),
        f"exec {_container(profile, places)}{shlex.join(run)}",
    ]
    return "\n".join(lines) + "\n"


def _with_one_gres(directives: Sequence[str]) -> list[str]:
    """Join all requests for generic resources: of several, sbatch takes the last alone."""
    gres = [directive for directive in directives if option_of(directive) == GRES]
    if len(gres) < 2:
        return list(directives)
    joined = f"{GRES}={','.join(one.removeprefix(GRES)[1:].strip() for one in gres)}"
    others = [directive for directive in directives if directive not in gres[1:]]
    return [joined if directive == gres[0] else directive for directive in others]


def _quoted(text: str) -> str:
    """Put text into double quotes, as sbatch reads its directives; a percent sign would begin a pattern."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _shebang(profile: Profile) -> str:
    """Return a login shell where it must know `module` and `conda`; elsewhere it would undo an inherited PATH."""
    environment = profile.environment
    return "#!/bin/bash -l" if environment.takes_modules or environment.conda else "#!/bin/bash"


def _activation(profile: Profile) -> list[str]:
    """Return shell lines that find the job's Python; without it no other must be taken."""
    environment = profile.environment
    lines = [*environment.lines, *([_NO_MODULE] if environment.takes_modules else [])]
    lines += [f"module load {shlex.quote(module)} || exit 1" for module in environment.modules]
    if environment.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(environment.conda)} || exit 1"]
    if environment.venv:
        lines.append(f". {shlex.quote(str(expanded(environment.venv) / 'bin/activate'))} || exit 1")
    if environment.container:
        lines.append(_FIND_CONTAINER)
    return [*lines, *environment.after_modules]


def _container(profile: Profile, places: Places) -> str:
    """Return the words that run the rest of a line in the container; empty without one."""
    environment = profile.environment
    if not environment.container:
        return ""
    folders = [str(places.project), str(places.work), profile.logs]
    if unfit := [folder for folder in folders if set(folder) & set(":,")]:
        raise BenchmarkError(f"{unfit[0]}: has a colon or a comma in its name, and so cannot be bound into a container")
    binds = [word for folder in dict.fromkeys([*folders, *environment.binds]) for word in ("--bind", folder)]
    gpus = ["--nv"] if profile.node.gpus else []
    words = ["exec", *gpus, *binds, "--pwd", str(places.work), environment.container]
    return f'"$container" {shlex.join(words)} '
