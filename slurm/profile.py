"""A cluster profile: what a job asks SLURM for, and how it finds its Python. Read from YAML, strictly. Pure.

A cluster's limits have their home here and nowhere else; `slurm.scripts` makes job scripts of them and
`slurm.capacity` says what fits.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmarks.faults import explained
from benchmarks.files import BenchmarkError, expanded, is_file, read_yaml

PROFILES = Path(__file__).parent / "profiles"
_TIME = re.compile(r"([0-9]{1,4}-)?[0-9]{1,3}(:[0-9][0-9]){0,2}")
_WORD = re.compile(r"[\w.@,+:=/\[\]-]+", re.ASCII)
_MEMORY = re.compile(r"[0-9]{1,12}[KMGT]?")
OWNED = ("--job-name", "--output", "--time", "--cpus-per-task", "--mem", "--signal", "--array", "--chdir")
"""Directives that the suite writes itself."""


def _check_memory(value: str) -> str:
    if value and not _MEMORY.fullmatch(value):
        raise ValueError("must be a number of megabytes, or one with K, M, G or T, such as 180G")
    return value


def _check_name(value: str) -> str:
    if value and not _WORD.fullmatch(value):
        raise ValueError("must be a name without spaces or quotes")
    return value


def _check_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable characters")
    return value


def _check_lines(value: str) -> str:
    for line in value.split("\n"):
        _check_text(line.replace("\t", " "))
    return value


Memory = Annotated[str, AfterValidator(_check_memory)]
Name = Annotated[str, AfterValidator(_check_name)]
Text = Annotated[str, AfterValidator(_check_text)]
Lines = Annotated[str, AfterValidator(_check_lines)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Environment(_Strict):
    """How a job finds its Python; without any of these it takes the one that submitted it.

    Attributes:
        modules: environment modules to load, in order.
        conda: name or folder of a conda environment.
        venv: folder of a virtual environment.
        lines: shell lines to run first, for what the others do not cover, such as `export HF_HOME=/scratch/hf`.
    """

    modules: tuple[Text, ...] = ()
    conda: Text = ""
    venv: Text = ""
    lines: tuple[Lines, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.conda and self.venv:
            raise ValueError(f"conda is {self.conda!r} and venv is {self.venv!r}, but there can be one of them only")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said, and jobs use the submitting Python."""
        return not (self.modules or self.conda or self.venv)


class Node(_Strict):
    """What one worker job asks for: one node, or a part of one.

    Attributes:
        cpus: CPU cores, Cnode.
        gpus: GPUs, Gnode; 0 for training on CPU cores.
        memory: host memory as SLURM writes it, such as 180G; empty for the site's default.
    """

    cpus: int = Field(ge=1, lt=2**31)
    gpus: int = Field(0, ge=0, lt=2**31)
    memory: Memory = ""


class Head(_Strict):
    """What the head job asks for; it trains nothing, it runs Ray's head, the MLflow server and the driver.

    Attributes:
        partition: empty for that of the workers.
        cpus: CPU cores.
        memory: host memory; empty for the site's default.
    """

    partition: Name = ""
    cpus: int = Field(2, ge=1, lt=2**31)
    memory: Memory = ""


class Profile(_Strict):
    """A cluster, as jobs see it.

    Attributes:
        partition: of the worker jobs; empty for the site's default.
        account: empty for the user's default.
        time: limit of each job, as SLURM writes it: minutes, [days-]hours:minutes:seconds.
        workers: worker jobs of a study, each on a node of its own.
        node: what a worker job asks for.
        cpus_per_rank: CPU cores of one rank of a trial, Cw.
        cpus_for_ray: CPU cores of a worker job that are left to Ray itself, Csys.
        gpu_request: how the site wants GPUs asked for, `--gres=gpu:N` or `--gpus-per-node=N`.
        head: what the head job asks for.
        directives: further options for all jobs, such as `--constraint=v100`.
        environment: how jobs find their Python.
        store: an SQLite file for MLflow (a path, relative to this file), or the address of a tracking server.
        logs: folder of the jobs' logs and results.
        grace_seconds: how long before its time limit a job is told to end in good order.
        join_minutes: how long the head job waits for worker jobs before it goes on with those it has. With 0 it waits
            for ever while jobs are in the queue, and 10 minutes for one that runs; one that runs and has not joined
            in this time ends the wait, with the reason.
        interface: the network interface at which the nodes' Ray listens, such as ib0; empty to let Ray choose.
        address: the network in which the nodes' Ray listens, such as 10.1.0.0/16, or the head's own address; empty
            to let Ray choose.
        requeue: whether a job that runs into its time limit is queued again by itself, and goes on where it stood.
    """

    partition: Name = ""
    account: Name = ""
    time: str = "04:00:00"
    workers: int = Field(1, ge=1, lt=2**31)
    node: Node
    cpus_per_rank: int = Field(1, ge=1, lt=2**31)
    cpus_for_ray: int = Field(0, ge=0)
    gpu_request: Literal["gres", "gpus-per-node"] = "gres"
    head: Head = Head()
    directives: tuple[Text, ...] = ()
    environment: Environment = Environment()
    store: Text = "mlflow.db"
    logs: Text = "logs"
    grace_seconds: int = Field(180, ge=10, le=3600)
    join_minutes: float = Field(0, ge=0)
    requeue: bool = True
    interface: Name = ""
    address: str = ""

    @field_validator("interface")
    @classmethod
    def _is_interface(cls, value: str) -> str:
        if value == "lo":
            raise ValueError("must be an interface that other nodes reach; lo is this machine alone")
        return value

    @field_validator("address")
    @classmethod
    def _is_network(cls, value: str) -> str:
        if not value:
            return value
        try:
            network = IPv4Network(value, strict=False)
        except ValueError:
            raise ValueError("must be an IPv4 network such as 10.1.0.0/16, or one address in it") from None
        if network.is_loopback or network.is_multicast:
            raise ValueError("must be a network by which other nodes reach this one, not a loopback address")
        return value

    @field_validator("time")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if not _TIME.fullmatch(value):
            raise ValueError("must be minutes, or [days-]hours:minutes:seconds")
        return value

    @field_validator("directives")
    @classmethod
    def _are_directives(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not value.startswith("--"):
                raise ValueError(f"{value!r} is no option of sbatch; one a line, such as --constraint=v100")
            if value.split("=")[0].split()[0] in OWNED:
                raise ValueError(f"{value!r} is set by the profile's own keys; the suite writes {', '.join(OWNED)}")
        return values

    @model_validator(mode="after")
    def _leaves_cpus(self) -> Self:
        if self.cpus_for_ray >= self.node.cpus:
            raise ValueError(
                f"cpus_for_ray is {self.cpus_for_ray}, but a node has {self.node.cpus} CPUs: none are left for trials"
            )
        return self

    @model_validator(mode="after")
    def _counts_cores_as_devices(self) -> Self:
        if not self.node.gpus and self.cpus_per_rank != 1:
            raise ValueError(
                f"cpus_per_rank is {self.cpus_per_rank}, but where a node has no GPUs a rank is one CPU core"
            )
        return self

    @property
    def network(self) -> str:
        """The network of all nodes; empty where `address` is the head's alone, or not given."""
        return self.address if self.address and IPv4Network(self.address, strict=False).num_addresses > 1 else ""

    @property
    def is_served(self) -> bool:
        """Whether the store is a tracking server that runs already."""
        return self.store.startswith(("http://", "https://"))

    @property
    def tracking_uri(self) -> str:
        """The store, as MLflow names it."""
        return self.store if self.is_served else f"sqlite:///{self.store}"


def load(path: Path) -> Profile:
    """Read a profile.

    Args:
        path: a YAML file; `store` and `logs` in it are relative to its folder.

    Raises:
        BenchmarkError: it cannot be read, or a key or value does not hold.
    """
    if not is_file(path) and is_file(PROFILES / path.name):
        raise BenchmarkError(f"cluster profile {path}: no such file; there is an example: {PROFILES / path.name}")
    content = read_yaml(path)
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        raise BenchmarkError(f"{path}: {explained(error, Profile)}") from None
    folder = path.resolve().parent
    places = {"logs": str(folder / expanded(profile.logs))}
    if not profile.is_served:
        places["store"] = str(folder / expanded(profile.store))
    return profile.model_copy(update=places)
