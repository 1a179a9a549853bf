"""The ranks of one trial: warm processes, one device each, joined in one process group.

A rank is a Ray actor in the trial's placement group, so ranks may lie on several nodes, end with the trial's
owner, and are scheduled, watched and killed by Ray. They outlive a trial: `start` gives them the next
configuration while imports, process group, tokenised data and base weights stay in place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from benchmarks.spec import Benchmark, Config


class TrialProcess(Protocol):
    """What runs a trial: `Ranks`, or `synthetic.SyntheticTrial`."""

    def start(self, config: Config, seed: int) -> dict[str, float]:
        """Begin a trial; returns `startup_seconds`."""

    def run_unit(self) -> dict[str, float]:
        """Train one unit and evaluate; the keys are those of `finetune.Session.run_unit`."""

    def set_hyperparameters(self, config: Config) -> None:
        """Continue with other hyperparameters."""

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""

    def close(self) -> None:
        """End; release the devices."""


def open_trial(benchmark: Benchmark, cpus_per_rank: float, gpus_per_rank: int) -> TrialProcess:
    """The processes for trials of `benchmark`, inside the calling actor's placement group."""
    if benchmark.synthetic is not None:
        from benchmarks.synthetic import SyntheticTrial

        return SyntheticTrial(benchmark)
    group = ray.util.get_current_placement_group()
    return Ranks(benchmark, cpus_per_rank, gpus_per_rank, group)


class Ranks:
    """`ranks_per_trial` warm processes. Every method runs on all of them and returns rank 0's answer.

    Args:
        benchmark: a benchmark with a `finetune` block.
        cpus_per_rank: CPU cores that each reserves; it runs as many threads, at least one.
        gpus_per_rank: 1, or 0 on machines without GPUs.
        placement_group: a group with one bundle a rank; without one, ranks go wherever there is room.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        cpus_per_rank: float,
        gpus_per_rank: int,
        placement_group: PlacementGroup | None = None,
    ) -> None:
        self._actors = [
            _Rank.options(  # type: ignore[attr-defined]  # added by ray.remote
                num_cpus=cpus_per_rank,
                num_gpus=gpus_per_rank,
                scheduling_strategy=_in_bundle(placement_group, rank),
            ).remote(max(1, int(cpus_per_rank)))
            for rank in range(benchmark.ranks_per_trial)
        ]
        self._join()
        self._all("load_session", benchmark)

    def _join(self) -> None:
        """Rank 0 opens the store on a port the system gives it, so no port is bound, closed and bound again."""
        places = self._all("place")
        visible = _devices_by_node(places)
        local_ranks = [[p[0] for p in places[:rank]].count(place[0]) for rank, place in enumerate(places)]
        address = ray.get(self._actors[0].open_store.remote(len(self._actors)))
        ray.get(
            [
                actor.join.remote(rank, len(self._actors), local_ranks[rank], address, visible[places[rank][0]])
                for rank, actor in enumerate(self._actors)
            ]
        )

    def start(self, config: Config, seed: int) -> dict[str, float]:
        """See `finetune.Session.start`."""
        return dict(self._first("start", config, seed))

    def run_unit(self) -> dict[str, float]:
        """See `finetune.Session.run_unit`; the peak memory is the largest of any rank."""
        results = self._all("run_unit")
        return {**results[0], "peak_memory_mb": max(result["peak_memory_mb"] for result in results)}

    def evaluate(self, split: str) -> dict[str, float]:
        """See `finetune.Session.evaluate`."""
        return dict(self._first("evaluate", split))

    def set_hyperparameters(self, config: Config) -> None:
        """See `finetune.Session.set_hyperparameters`."""
        self._all("set_hyperparameters", config)

    def save(self, folder: Path) -> None:
        """See `finetune.Session.save`."""
        self._all("save", folder)

    def load(self, folder: Path) -> None:
        """See `finetune.Session.load`."""
        self._all("load", folder)

    def process_ids(self) -> list[int]:
        """Process ids, by rank."""
        return [int(place[1]) for place in self._all("place")]

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return list(ray.get([getattr(actor, method).remote(*arguments) for actor in self._actors]))

    def _first(self, method: str, *arguments: Any) -> Any:
        return self._all(method, *arguments)[0]


def _in_bundle(group: PlacementGroup | None, rank: int) -> PlacementGroupSchedulingStrategy | str:
    return "DEFAULT" if group is None else PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)


def _devices_by_node(places: list[tuple[str, int, str]]) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES for each node: the devices of all its ranks, in order of rank.

    Ray shows each actor its own GPU only; local rank 1 would then not exist, and ranks could not reach each
    other's memory directly.
    """
    by_node: dict[str, list[str]] = {}
    for node, _, devices in places:
        by_node.setdefault(node, []).extend(d for d in devices.split(",") if d)
    return {node: ",".join(devices) for node, devices in by_node.items()}


@ray.remote
class _Rank:
    """One rank's process: a `finetune.Session` behind Ray's mailbox."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._store: Any = None
        self._session: Any = None

    def place(self) -> tuple[str, int, str]:
        """Node id, process id, visible GPUs."""
        return ray.get_runtime_context().get_node_id(), os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def open_store(self, world_size: int) -> tuple[str, int]:
        """Host and port of a new store."""
        from torch._C._distributed_c10d import TCPStore

        host = ray.util.get_node_ip_address()
        self._store = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def join(self, rank: int, world_size: int, local_rank: int, address: tuple[str, int], devices: str) -> None:
        """Enter the process group."""
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices  # before CUDA is initialised in this process
        _bind_gloo_to(ray.util.get_node_ip_address())
        from benchmarks import finetune

        finetune.prepare_process(self._threads)
        from torch._C._distributed_c10d import TCPStore

        store = self._store or TCPStore(*address, world_size, is_master=False)
        finetune.join_process_group(rank, world_size, local_rank, store)

    def load_session(self, benchmark: Benchmark) -> None:
        """Load model, tokenizer and data."""
        from benchmarks.finetune import Session

        self._session = Session(benchmark)

    def start(self, config: Config, seed: int) -> dict[str, float]:
        result: dict[str, float] = self._session.start(config, seed)
        return result

    def run_unit(self) -> dict[str, float]:
        result: dict[str, float] = self._session.run_unit()
        return result

    def evaluate(self, split: str) -> dict[str, float]:
        result: dict[str, float] = self._session.evaluate(split)
        return result

    def set_hyperparameters(self, config: Config) -> None:
        self._session.set_hyperparameters(config)

    def save(self, folder: Path) -> None:
        self._session.save(folder)

    def load(self, folder: Path) -> None:
        self._session.load(folder)


def _bind_gloo_to(node_ip: str) -> None:
    """Let gloo use the interface that Ray uses (loopback on one machine), not whatever the host name means."""
    import psutil

    for interface, addresses in psutil.net_if_addrs().items():
        if any(address.address == node_ip for address in addresses):
            os.environ["GLOO_SOCKET_IFNAME"] = interface
