"""The ranks of one trial: warm processes, one device each, joined in one process group.

A rank is a Ray actor, so ranks may lie on several nodes, and are watched and killed by Ray. They outlive a trial:
`start` gives them the next configuration while imports, process group, tokenised data and base weights stay in
place. From a `RankPool` they outlive the study too, and the next one finds them warm.

A rank reserves nothing itself. It runs where the trial's placement group has reserved a bundle for it, on that
bundle's devices, and its owner gives it up with the reservation.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.devices.places import Place, devices_by_node, find_places
from benchmarks.devices.visible import BY_BUS, ORDER, VISIBLE
from benchmarks.out_of_memory import sign_of
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics
from benchmarks.training import memory
from benchmarks.training.checkpoint.files import write_list
from benchmarks.training.checkpoint.keeper import Keepers, Kept, wait_for
from benchmarks.trials.trial import TrialProcess

SECONDS_TO_COUNT = 30.0
"""Time in which a node answers how often its kernel has killed."""


def open_ranks(
    benchmark: Benchmark, cpus_per_rank: float, gpus_per_rank: float, pool: ActorHandle | None = None
) -> TrialProcess:
    """Start the ranks for trials of `benchmark`, on the devices of the calling actor's placement group.

    Args:
        benchmark: the benchmark of the trials.
        cpus_per_rank: CPU cores that the group reserves for each; a rank runs as many threads, at least one.
        gpus_per_rank: 1, a share of one where trials share GPUs, or 0 on machines without.
        pool: a `RankPool` to take warm ranks from and give them back to; without one they end with the caller.
    """
    places = find_places(benchmark.ranks_per_trial, gpus_per_rank, ray.util.get_current_placement_group())
    return Ranks(benchmark, places, max(1, int(cpus_per_rank)), pool)


class Ranks:
    """A trial's warm processes. Every method but `token_statistics` runs on all of them; rank 0 answers.

    Args:
        benchmark: a benchmark with a `finetune` block, whose `precision` is settled.
        places: node and devices of each rank.
        threads: CPU threads of each.
        pool: see `open_ranks`.
    """

    def __init__(
        self, benchmark: Benchmark, places: Sequence[Place], threads: int = 1, pool: ActorHandle | None = None
    ) -> None:
        self._pool, self._lease, self._is_sound = pool, -1, True
        self._places = places
        self._kills: dict[str, ray.ObjectRef] = {}
        self._keepers = Keepers(pool, [place.node_id for place in places]) if pool else None
        settings = benchmark.training_settings()
        self._timeout_seconds, self._precision = settings.timeout_seconds, settings.precision
        if pool is None:
            self._actors, is_new = start_ranks(places, threads), True
        else:
            key, owner = f"{threads} {benchmark.model_dump_json()}", _current_actor()
            self._lease, self._actors, is_new = ray.get(pool.lease.remote(key, places, threads, owner))
        if is_new:
            self._join(places)
            self._all("load_session", benchmark)

    def _join(self, places: Sequence[Place]) -> None:
        """Join the ranks, by a store of rank 0 on a port of the system's choice, which is never closed between."""
        visible = devices_by_node(places)
        local_ranks = [[p.node_id for p in places[:rank]].count(place.node_id) for rank, place in enumerate(places)]
        [address] = self._answers([self._actors[0].open_store.remote(len(self._actors))])
        self._answers(
            [
                actor.join.remote(
                    rank,
                    len(self._actors),
                    local_ranks[rank],
                    address,
                    visible[places[rank].node_id],
                    self._timeout_seconds,
                )
                for rank, actor in enumerate(self._actors)
            ]
        )

    def token_statistics(self) -> list[TokenStatistics]:
        """See `session.Session.token_statistics`."""
        [statistics] = self._answers([self._actors[0].token_statistics.remote()])  # all ranks have the same data
        return list(statistics)

    def precision(self) -> str:
        """Tell the arithmetic of the trial, which the driver has settled and each rank has checked on its device."""
        return self._precision

    def start(self, config: Config, seed: int) -> None:
        """See `session.Session.start`."""
        self._all("start", config, seed)

    def run_unit(self) -> dict[str, float]:
        """See `session.Session.run_unit`; the peak memory is the largest of any rank."""
        results = self._all("run_unit")
        return {**results[0], "peak_memory_mb": max(result["peak_memory_mb"] for result in results)}

    def evaluate(self, split: str) -> dict[str, float]:
        """See `session.Session.evaluate`."""
        return dict(self._all("evaluate", split)[0])

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """See `session.Session.evaluate_each`."""
        scores, each = self._all("evaluate_each", split)[0]
        return dict(scores), dict(each)

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """See `session.Session.save`; into the memory of each rank's node where there is room, see `TrialProcess`."""
        calls = zip(self._actors, self._keepers_by_rank(), strict=True)
        sizes = self._answers([actor.save.remote(folder, keeper, to_disk) for actor, keeper in calls])
        write_list(folder, {name: size for of_rank in sizes for name, size in of_rank.items()})

    def load(self, folder: Path) -> None:
        """See `session.Session.load`; from the memory of each rank's node, else from the disk.

        Raises:
            LostCheckpointError: a file was in the memory of a node that has died.
        """
        keepers = self._keepers_by_rank()
        for keeper in set(keepers):
            wait_for(folder, keeper, self._keepers)
        self._answers([actor.load.remote(folder, keeper) for actor, keeper in zip(self._actors, keepers, strict=True)])

    def _keepers_by_rank(self) -> list[ActorHandle | None]:
        return self._keepers.by_rank() if self._keepers else [None] * len(self._actors)

    def save_model(self, folder: Path) -> None:
        """See `session.Session.save_model`; rank 0 must reach the folder."""
        self._all("save_model", folder)

    def close(self) -> None:
        """Give the processes back to the pool, or end them."""
        if self._pool is None:
            end_ranks(self._actors)
        else:
            give_up = self._pool.give_back if self._is_sound else self._pool.discard
            ray.get(give_up.remote(self._lease))

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._answers([getattr(actor, method).remote(*arguments) for actor in self._actors])

    def _answers(self, calls: list[ray.ObjectRef]) -> list[Any]:
        """Wait for the ranks' answers; if one does not come in time, end them all.

        Raises:
            TimeoutError: the ranks that hang.
            MemoryError: the kernel has killed a rank for want of memory.
        """
        kills = memory.kills()
        try:
            answers = list(ray.get(calls, timeout=self._timeout_seconds))
            self._note_kills()
            return answers
        except GetTimeoutError:
            _, silent = ray.wait(calls, num_returns=len(calls), timeout=0)
            which = ", ".join(str(rank) for rank, call in enumerate(calls) if call in silent)
            self._is_sound = False
            self.close()
            raise TimeoutError(
                f"rank {which} did not answer for {self._timeout_seconds:g} s (timeout_seconds of the benchmark)"
            ) from None
        except RayActorError as error:
            self._is_sound = False
            if memory.kills() > kills or have_grown(self._kills):
                raise MemoryError("the kernel killed a rank, since memory was used up") from error
            raise
        except Exception as error:
            # The others may be waiting for a rank that has failed; one that is alone can begin its next trial.
            self._is_sound = len(self._actors) == 1 and bool(sign_of(error))
            raise

    def _note_kills(self) -> None:
        """Ask the other nodes of the trial how often their kernels have killed; they answer before the next call."""
        here = ray.get_runtime_context().get_node_id()
        ranks = zip(self._places, self._actors, strict=True)
        self._kills = {place.node_id: actor.kills.remote() for place, actor in ranks if place.node_id != here}


def have_grown(kills: Mapping[str, ray.ObjectRef]) -> bool:
    """Tell whether the kernel of a node has killed for want of memory since it was asked; one that has died has not.

    Args:
        kills: answers of `memory.kills` by Ray's id of the node.
    """
    count = ray.remote(num_cpus=0)(memory.kills)
    for node_id, before in kills.items():
        now = count.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote()
        with suppress(RayError):
            earlier, later = ray.get([before, now], timeout=SECONDS_TO_COUNT)
            if later > earlier:
                return True
    return False


def _current_actor() -> ActorHandle | None:
    """Return the actor that this runs in; None in a driver."""
    context = ray.get_runtime_context()
    return context.current_actor if context.get_actor_id() else None


def start_ranks(places: Sequence[Place], threads: int) -> list[ActorHandle]:
    """Start processes, one per place, owned by the caller: they end with it."""
    return [
        _Rank.options(  # type: ignore[attr-defined]  # added by ray.remote
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(place.node_id, soft=False)
        ).remote(threads)
        for place in places
    ]


def end_ranks(actors: Sequence[ActorHandle]) -> None:
    """End processes, busy ones too."""
    for actor in actors:
        ray.kill(actor)


@ray.remote
class _Rank:
    """One rank's process: a `session.Session` behind Ray's mailbox."""

    def __init__(self, threads: int) -> None:
        from benchmarks.training.process import set_up_threads

        set_up_threads(threads)  # before `open_store`, which imports torch
        self._threads = threads
        self._store: Any = None
        self._session: Any = None

    def open_store(self, world_size: int) -> tuple[str, int]:
        """Open a store on Ray's address alone, not on every interface as it would itself; return its host and port."""
        from torch._C._distributed_c10d import TCPStore

        host = ray.util.get_node_ip_address()
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = listener.getsockname()[1]
        self._store = TCPStore(
            host, port, world_size, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        return host, port

    def join(
        self,
        rank: int,
        world_size: int,
        local_rank: int,
        address: tuple[str, int],
        devices: str,
        timeout_seconds: float,
    ) -> None:
        """Enter the process group.

        Raises:
            BenchmarkError: this rank was given a GPU, and torch cannot use it.
        """
        os.environ |= {ORDER: BY_BUS, VISIBLE: devices}  # before CUDA is initialised in this process
        bind_interfaces_to(ray.util.get_node_ip_address())
        from benchmarks.training.process import join_process_group, prepare_process

        prepare_process(self._threads)
        if devices:
            from benchmarks.devices.torch_device import require_gpu

            require_gpu(local_rank)
        from torch._C._distributed_c10d import TCPStore

        store = self._store or TCPStore(*address, world_size, is_master=False)
        join_process_group(rank, world_size, local_rank, store, timeout_seconds)

    def load_session(self, benchmark: Benchmark) -> None:
        """Load model, tokenizer and data."""
        from benchmarks.training.session import Session

        self._session = Session(benchmark)

    def kills(self) -> int:
        return memory.kills()

    def token_statistics(self) -> list[TokenStatistics]:
        result: list[TokenStatistics] = self._session.token_statistics()
        return result

    def start(self, config: Config, seed: int) -> None:
        self._session.start(config, seed)

    def run_unit(self) -> dict[str, float]:
        result: dict[str, float] = self._session.run_unit()
        return result

    def evaluate(self, split: str) -> dict[str, float]:
        result: dict[str, float] = self._session.evaluate(split)
        return result

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        result: tuple[dict[str, float], dict[str, list[float]]] = self._session.evaluate_each(split)
        return result

    def save(self, folder: Path, keeper: ActorHandle | None, to_disk: bool) -> dict[str, int]:
        result: dict[str, int] = self._session.save(folder, Kept(keeper, to_disk) if keeper else None)
        return result

    def load(self, folder: Path, keeper: ActorHandle | None) -> None:
        self._session.load(folder, Kept(keeper) if keeper else None)

    def save_model(self, folder: Path) -> None:
        self._session.save_model(folder)


def bind_interfaces_to(node_ip: str) -> None:
    """Let gloo and NCCL use the interface that Ray uses (loopback on one machine).

    Left alone, gloo takes the one that the host name means, and NCCL the first that is neither loopback nor Docker's.
    An NCCL_SOCKET_IFNAME that is set stays, since sites name their fast network in it.
    """
    import psutil

    for interface, addresses in psutil.net_if_addrs().items():
        if any(address.address == node_ip for address in addresses):
            os.environ["GLOO_SOCKET_IFNAME"] = interface
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
