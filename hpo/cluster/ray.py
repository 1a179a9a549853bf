"""The Ray that studies run on: one of our own on this machine, or a cluster that runs already.

A cluster is named by the variable RAY_ADDRESS, as for any program of Ray's; `slurm.jobs.head_job` sets it.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil
import ray
from ray import tune
from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]  # compiled
from ray.actor import ActorHandle
from ray.exceptions import AuthenticationError, RayActorError
from ray.util import remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from benchmarks.devices.visible import BY_BUS, ORDER
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from benchmarks.tasks.task import TokenStatistics
from benchmarks.training.pool import RankPool
from benchmarks.training.ranks import open_ranks
from hpo.cluster import access as ray_access
from hpo.cluster.devices import Allotment, Devices, allot, detect_here
from hpo.cluster.garbage import collect_from_here
from hpo.cluster.helpers import no_helpers
from hpo.cluster.nodes import Newcomers, ask, devices_of, living, name_of, used
from hpo.cluster.reservations import on_fit_nodes
from hpo.core.wording import counted

PROJECT = Path(__file__).parents[2]
OBJECT_STORE_BYTES = 200 * 2**20
START_SECONDS = 300.0
"""Time after which a Ray that has not started never will; 5 to 10 seconds are usual."""
ADDRESS = "RAY_ADDRESS"
SERVICES = ("raylet", "gcs_server")
"""Processes of Ray that are never replaced."""
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # `hpo.store.tracker` writes, once
    "RAY_AIR_NEW_OUTPUT": "0",  # `hpo.engine.progress` shows the study
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a proposal made early is made knowing less
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # 40 kB per trial, time and again; `hpo.engine.study_folder` keeps the state
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `hpo.engine.signals` ends a study instead
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    ORDER: BY_BUS,
}
"""Settings of Ray and Tune, which read them when they start, unless the user has made others."""


class Cluster:
    """A running Ray.

    Args:
        services: Ray's processes on this machine by name, where it is a Ray of our own.
    """

    def __init__(self, services: Mapping[str, psutil.Process] | None = None) -> None:
        self._services = services or {}
        self._pool: ActorHandle | None = None
        self._newcomers: Newcomers | None = None
        self._folder: Path | None = None

    def pool_for(self, benchmark: Benchmark) -> ActorHandle | None:
        """Return the warm ranks of all studies that run here, see `benchmarks.training.pool`; None if it needs none."""
        if self._pool is None and benchmark.trial.trains_model:
            self._pool = RankPool.remote()  # type: ignore[attr-defined]  # added by ray.remote
        return self._pool

    @property
    def fault(self) -> str:
        """Return a sentence if a vital part of Ray has died, else an empty text; Ray ends the driver soon after."""
        dead = [name for name, process in self._services.items() if not _is_alive(process)]
        return f"Ray's {dead[0]} has died" if dead else ""

    def reclaim(self) -> None:
        """End the ranks of dead trials after a study. A pool that died has taken its ranks along."""
        if self.fault or self._pool is None:
            return
        with suppress(RayActorError):
            ray.get(self._pool.reclaim.remote())

    def require_shared(self, folder: Path) -> None:
        """Make sure that nodes of a cluster see a folder that the driver has made, since ranks keep checkpoints there.

        Raises:
            BenchmarkError: one does not.
        """
        if not os.environ.get(ADDRESS):
            return
        self._folder = folder
        nodes = used(living())
        seen = ask(nodes, _sees, folder)
        names = [name_of(node) for node, sees in zip(nodes, seen, strict=True) if not sees]
        if names:
            which = f"{counted(len(names), 'node')} of the cluster ({', '.join(names)})"
            raise BenchmarkError(
                f"{which} cannot see {folder}, where the ranks of a trial keep its checkpoints; start the study in a "
                "folder that all nodes share"
            )

    def end_ranks(self) -> None:
        """End the warm ranks."""
        if self._pool is not None:
            ray.kill(self._pool)

    @contextmanager
    def holding(self, devices: Devices, allotment: Allotment) -> Iterator[None]:
        """Keep a study on a cluster to fit nodes, and to the number of trials at once that was asked for.

        Nodes that join meanwhile are asked before a trial begins there.
        """
        if not devices.cpus_per_device:
            yield
            return
        self._newcomers = Newcomers(devices, self._folder)
        self._newcomers.wait_for(used(living()))
        with on_fit_nodes(self._newcomers, allotment.most_trials):
            yield

    def present(self, devices: Devices) -> Devices:
        """Return the devices that the study has by now: nodes join late and die. A Ray of our own keeps its number."""
        return self._newcomers.present(living()) if self._newcomers and os.environ.get(ADDRESS) else devices

    @property
    def refusals(self) -> list[str]:
        """A sentence about each node that has joined and on which no trial begins."""
        return self._newcomers.faults if self._newcomers else []

    def warm_up(self, benchmark: Benchmark, devices: Devices) -> list[TokenStatistics]:
        """Start ranks for as many trials as fit at once, so that no study pays for it; return the data's statistics.

        A benchmark whose trials need no ranks has nothing to start, and no data.

        Raises:
            RayError: a rank died, or raised.
        """
        pool = self.pool_for(benchmark)
        if pool is None:
            return []
        allotment = allot(devices, benchmark.ranks_per_trial, trials_per_gpu=benchmark.trials_per_gpu)
        start = ray.remote(num_cpus=0, max_retries=0)(_start_and_give_back)
        with reserved(allotment, allotment.concurrency) as groups:
            found: list[list[TokenStatistics]] = ray.get(
                [
                    start.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote(
                        benchmark, allotment.cpus_per_rank, allotment.gpus_per_rank, pool
                    )
                    for group in groups
                ]
            )
        return found[0]


@contextmanager
def reserved(allotment: Allotment, trials: int) -> Iterator[list[PlacementGroup]]:
    """Reserve the devices of so many trials meanwhile."""
    groups = [resources(allotment).to_placement_group() for _ in range(trials)]
    ray.get([group.ready() for group in groups])
    try:
        yield groups
    finally:
        for group in groups:
            remove_placement_group(group)


def _start_and_give_back(
    benchmark: Benchmark, cpus_per_rank: float, gpus_per_rank: float, pool: ActorHandle | None
) -> list[TokenStatistics]:
    """Begin a trial and leave it."""
    process = open_ranks(benchmark, cpus_per_rank, gpus_per_rank, pool)
    try:
        process.start({}, 0)
        return process.token_statistics()
    finally:
        process.close()


def set_defaults() -> None:
    """Put our settings of Ray and Tune into the environment, before either starts."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def detect() -> Devices:
    """Find the devices of this machine, or those of the cluster that RAY_ADDRESS names.

    Raises:
        BenchmarkError: that cluster cannot be reached, or has nothing to train on.
    """
    return cluster_devices() if os.environ.get(ADDRESS) else detect_here()


@contextmanager
def ray_cluster(devices: Devices) -> Iterator[Cluster]:
    """Start a Ray of our own on loopback, shut down at the end; or return the one this process is connected to."""
    set_defaults()
    if ray.is_initialized():
        cluster = Cluster()
        try:
            yield cluster
        finally:
            cluster.end_ranks()
            if os.environ.get(ADDRESS):
                _shut_down_ray()  # our connection to it
        return
    workers_path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(workers_path)  # workers import hpo wherever the driver was started
    os.environ.update(devices.variables)
    with _unstartable(), ExitStack() as stack:
        settings = stack.enter_context(ray_access.private())
        with no_helpers():
            ray.init(
                address="local",
                num_cpus=devices.cpus,
                num_gpus=devices.count if devices.gpu_name else 0,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **settings,
            )
        started = stack.pop_all()
    with started:
        try:
            children = psutil.Process().children()
            yield Cluster({name: child for child in children if (name := child.name()) in SERVICES})
        finally:
            _shut_down_ray()


class EarlyRay:
    """A Ray that starts in the background while the driver imports the rest and opens its store.

    Entering waits for it. It ends once, when it is left or closed, whichever comes first: in the background again
    where it is left, so that the driver stores and reports its results meanwhile. One thread starts and ends it:
    Ray's processes die with the thread that has started them.

    Args:
        devices: as for `ray_cluster`.
    """

    def __init__(self, devices: Devices) -> None:
        self._started: Future[Cluster] = Future()
        self._is_over, self._hangs = Event(), False
        self._thread = Thread(target=self._run, args=(devices,), name="ray", daemon=True)
        self._thread.start()

    def _run(self, devices: Devices) -> None:
        try:
            with ray_cluster(devices) as cluster:
                self._started.set_result(cluster)
                self._is_over.wait()
        except BaseException as error:
            if self._started.done():  # it has ended badly, with the study's results stored
                raise
            self._started.set_exception(error)

    def __enter__(self) -> Cluster:
        try:
            cluster = self._started.result(START_SECONDS)
        except TimeoutError:  # not one of Ray's own: `ray_cluster` turns those into sentences
            self._hangs = True
            raise BenchmarkError(
                f"Ray has not started within {START_SECONDS:g} s; end what else keeps this machine busy, and run the "
                "study again"
            ) from None
        collect_from_here()  # all is imported and the store is open; `_shut_down_ray` goes through the rest alone
        return cluster

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def close(self) -> None:
        """Wait for its end, also where no study has waited for it; one that hangs ends with this process."""
        self._is_over.set()
        self._thread.join(0.0 if self._hangs else None)


@contextmanager
def _unstartable() -> Iterator[None]:
    """Say in a sentence why Ray does not start."""
    try:
        yield
    except Exception as error:  # Ray raises a plain one for a node that starts too slowly
        raise BenchmarkError(
            f"Ray could not be started ({first_line(error)}); look for a full /tmp or /dev/shm and for another Ray "
            "that holds this machine (`ray status`)"
        ) from None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _shut_down_ray() -> None:
    """End Ray with the garbage collector at rest.

    Another thread (one writes to MLflow) may set it off at any time, and Ray ends the whole process with status 1
    where a reference to one of its objects is released in mid-shutdown.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def connect() -> None:
    """Connect to the cluster that RAY_ADDRESS names; once.

    Raises:
        BenchmarkError: it does not answer, or does not know our token.
    """
    if ray.is_initialized():
        return
    set_defaults()
    address = os.environ[ADDRESS]
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, AuthenticationError, RuntimeError, ValueError) as error:
        raise BenchmarkError(
            f"no Ray at {address} ({first_line(error)}), which {ADDRESS} names; unset it to run on this machine alone"
        ) from None
    if get_authentication_mode() != AuthenticationMode.TOKEN:
        print(
            f"warning: the Ray at {address} asks for no token: any program that reaches its ports runs code as "
            "you; start it with RAY_AUTH_MODE=token",
            file=sys.stderr,
        )


def cluster_devices() -> Devices:
    """Return the present devices of the cluster; nodes that join later are asked then, see `hpo.cluster.nodes`.

    Raises:
        BenchmarkError: it has no devices, or GPUs of different kinds, whose hours could not be added up.
    """
    connect()
    nodes = living()
    if not nodes:
        raise BenchmarkError(f"the Ray at {os.environ[ADDRESS]} has no node with CPUs to train on; start workers")
    return devices_of(nodes)


def _sees(folder: Path) -> bool:
    return folder.is_dir()


def resources(allotment: Allotment) -> tune.PlacementGroupFactory:
    """Return an empty bundle for the actor that speaks with Tune, and one for each rank.

    Ray's own strategy would put the ranks of a trial on one node "if possible", and a further trial across nodes on
    the devices that are left over: slower than the others, and more than were counted.
    """
    rank = {"CPU": allotment.cpus_per_rank}
    if allotment.gpus_per_rank:
        rank["GPU"] = allotment.gpus_per_rank
    strategy = "STRICT_PACK" if allotment.on_one_node else "PACK"
    return tune.PlacementGroupFactory([{}, *([rank] * allotment.ranks_per_trial)], strategy=strategy)
