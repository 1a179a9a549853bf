"""A cluster profile: the resources that jobs ask SLURM for, and their Python. Read from YAML, strictly. Pure.

A cluster's limits have their home here and nowhere else; `slurm.scripts` makes job scripts of them and
`slurm.capacity` says how many trials fit.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from benchmarks.faults import explained
from benchmarks.files import BenchmarkError, expanded, is_file, read_yaml
from benchmarks.space import Strict
from slurm.formats import (
    GPU_TYPE,
    SIGNAL_SECONDS,
    Bind,
    Directive,
    JobName,
    Lines,
    Memory,
    Name,
    Text,
    Time,
    seconds_of,
)

Layout = Literal["jobs", "one_job"]
PROFILES = Path(__file__).parent / "profiles"


class Environment(Strict):
    """The Python of a job; without modules, conda, venv and container it is the one that submitted it.

    Attributes:
        lines: shell lines to run first, such as `export HF_HOME=/scratch/hf`.
        modules: environment modules to load, in order; one that is missing ends the job.
        conda: name or folder of a conda environment.
        venv: folder of a virtual environment.
        after_modules: shell lines to run once modules and environment are there.
        container: image file of apptainer, or its folder, in which the job runs; relative to the profile's file.
        binds: folders that the container sees beside this repository, the folder submitted from, and the logs; as
            apptainer writes them, such as /scratch or /data:/mnt:ro.
    """

    lines: tuple[Lines, ...] = ()
    modules: tuple[Text, ...] = ()
    conda: Text = ""
    venv: Text = ""
    after_modules: tuple[Lines, ...] = ()
    container: Text = ""
    binds: tuple[Bind, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        pythons = {name: text for name in ("conda", "venv", "container") if (text := getattr(self, name))}
        if len(pythons) > 1:
            given = " and ".join(f"{name} is {text!r}" for name, text in pythons.items())
            raise ValueError(f"{given}, but there can be one of them only")
        if self.binds and not self.container:
            raise ValueError("binds are given without container; folders are bound into a container only")
        return self

    @field_validator("container")
    @classmethod
    def _is_image(cls, value: str) -> str:
        if "://" in value:
            raise ValueError(f"must be an image's file; make one: apptainer build image.sif {value}")
        return value

    @property
    def is_empty(self) -> bool:
        """Tell whether jobs use the submitting Python."""
        return not (self.modules or self.conda or self.venv or self.container)

    @property
    def takes_modules(self) -> bool:
        """Tell whether the job needs the command `module`."""
        return bool(self.modules) or any(re.search(r"\bmodule\s", line) for line in (*self.lines, *self.after_modules))


class Node(Strict):
    """The resources that one worker job asks for: one node, or a part of one.

    Attributes:
        cpus: CPU cores, Cnode.
        gpus: GPUs, Gnode, or their type and number, such as v100:4; 0 for training on CPU cores.
        memory: host memory as SLURM writes it, such as 180G; 0 for all of a node's, empty for the site's default.
        gpu_type: type of the GPUs, as the site calls it; empty for any.
    """

    cpus: int = Field(ge=1, lt=2**31)
    gpus: int = Field(0, ge=0, lt=2**31)
    memory: Memory = ""
    gpu_type: Name = ""

    @model_validator(mode="before")
    @classmethod
    def _split_type(cls, content: Any) -> Any:
        gpus = content.get("gpus") if isinstance(content, dict) else None
        if not isinstance(gpus, str):
            return content
        found = GPU_TYPE.fullmatch(gpus)
        if not found:
            raise ValueError(f"gpus must be a number, or a type and a number, such as 4 or v100:4 (got {gpus!r})")
        if content.get("gpu_type", found[1]) != found[1]:
            raise ValueError(f"gpus is {gpus!r} and gpu_type is {content['gpu_type']!r}; give one of the two")
        return {**content, "gpus": int(found[2]), "gpu_type": found[1]}


class Head(Strict):
    """The resources of the head job; it trains nothing, it runs Ray's head and the driver.

    Attributes:
        partition: empty for that of the workers.
        cpus: CPU cores.
        memory: host memory; empty for the site's default.
        directives: further options of sbatch for this job alone, such as `--qos=short`.
    """

    partition: Name = ""
    cpus: int = Field(2, ge=1, lt=2**31)
    memory: Memory = ""
    directives: tuple[Directive, ...] = ()


class Workers(Strict):
    """The worker jobs of a study; in the file also their number alone.

    Attributes:
        count: their number, each on one node; SLURM may put two on the same one if both fit.
        directives: further options of sbatch for these jobs and for those that train trials without Ray, such as
            `--constraint=v100`, `--exclusive` or `--qos=long`.
    """

    count: int = Field(1, ge=1, lt=2**31)
    directives: tuple[Directive, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _count_alone(cls, content: Any) -> Any:
        return {"count": content} if isinstance(content, int | float | str) else content


class Profile(Strict):
    """A cluster, as jobs see it.

    Attributes:
        partition: of the worker jobs; empty for the site's default.
        account: empty for the user's default.
        time: limit of each job, as SLURM writes it: minutes, [days-]hours:minutes:seconds, or UNLIMITED.
        workers: worker jobs of a study.
        node: resources that a worker job asks for.
        layout: jobs, a job for the head and one for each worker; or one_job, one allocation of as many nodes as there
            are workers, for sites where jobs may not submit jobs. The head then runs on the first node, on its
            `cpus_for_ray`.
        cpus_per_rank: CPU cores of one rank of a trial, Cw.
        cpus_for_ray: CPU cores of a worker job that are left to Ray itself, Csys.
        gpu_request: the site's way to ask for GPUs, `--gres=gpu:N` or `--gpus-per-node=N`.
        head: resources that the head job asks for.
        directives: further options of sbatch for all jobs, such as `--qos=normal`.
        environment: the jobs' Python.
        store: an SQLite file for MLflow (a path, relative to this file), or the address of a tracking server.
        logs: folder of the jobs' logs and results.
        grace_seconds: seconds before its time limit at which a job is told to end in good order.
        join_minutes: minutes that the head job waits for worker jobs before it goes on with those it has. With 0 it
            waits for ever while jobs are in the queue, and 10 minutes for one that runs; one that runs and has not
            joined in this time ends the wait, with the reason.
        requeue: whether a job that runs into its time limit is queued again by itself, and resumes its study.
        job_name: beginning of all jobs' names; the method follows, as in `hpo-asha`.
        interface: the network interface at which the nodes' Ray listens, such as ib0; empty to let Ray choose.
        address: the network in which the nodes' Ray listens, such as 10.1.0.0/16, or the head's own address; empty
            to let Ray choose.
    """

    partition: Name = ""
    account: Name = ""
    time: Time = "04:00:00"
    workers: Workers = Workers()
    node: Node
    cpus_per_rank: int = Field(1, ge=1, lt=2**31)
    cpus_for_ray: int = Field(0, ge=0)
    gpu_request: Literal["gres", "gpus-per-node"] = "gres"
    head: Head = Head()
    directives: tuple[Directive, ...] = ()
    environment: Environment = Environment()
    store: Text = "mlflow.db"
    logs: Text = "logs"
    grace_seconds: int = Field(180, ge=10, le=3600)
    join_minutes: float = Field(0, ge=0)
    requeue: bool = True
    job_name: JobName = "hpo"
    layout: Layout = "jobs"
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

    @model_validator(mode="after")
    def _has_time_to_end(self) -> Self:
        least = self.grace_seconds + SIGNAL_SECONDS
        if seconds_of(self.time) <= least:
            raise ValueError(
                f"time is {self.time} ({seconds_of(self.time):.0f} s), but grace_seconds is {self.grace_seconds}: a "
                f"job would be told to end as it begins; time must be above {least} s"
            )
        return self

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

    @model_validator(mode="after")
    def _fits_one_job(self) -> Self:
        if self.layout != "one_job":
            return self
        if self.head != Head():
            raise ValueError("head is given, but with layout one_job the head shares the workers' job; leave it out")
        if not self.cpus_for_ray:
            raise ValueError(
                "cpus_for_ray is 0, but with layout one_job the head runs on the first node, beside trials: give it "
                "the CPUs of 1 or more"
            )
        if self.environment.container:
            raise ValueError(
                "container is given, but layout one_job starts its workers by srun, outside of any container"
            )
        return self

    def with_workers(self, count: int) -> Profile:
        """Return this profile with another number of worker jobs."""
        return self.model_copy(update={"workers": self.workers.model_copy(update={"count": count})})

    @property
    def network(self) -> str:
        """The network of all nodes; empty where `address` is the head's alone, or not given."""
        return self.address if self.address and IPv4Network(self.address, strict=False).num_addresses > 1 else ""

    @property
    def is_served(self) -> bool:
        """Tell whether the store is a tracking server that runs already."""
        return self.store.startswith(("http://", "https://"))

    @property
    def tracking_uri(self) -> str:
        """The store, as MLflow names it."""
        return self.store if self.is_served else f"sqlite:///{self.store}"


def load(path: Path) -> Profile:
    """Read a profile.

    Args:
        path: a YAML file; `store`, `logs` and `environment.container` in it are relative to its folder.

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
    environment = profile.environment
    if environment.container:
        image = str(folder / expanded(environment.container))
        environment = environment.model_copy(update={"container": image})
    return profile.model_copy(update={**places, "environment": environment})
