"""Warm processes for the trainings of a bank: as many as train at once, each on devices of its own.

A benchmark whose trials have one rank, recorded on one device, trains in this process, without Ray; so does a
benchmark whose curves are computed. Otherwise Ray reserves devices for each training, and its ranks stay warm from
training to training. RAY_ADDRESS names a cluster that runs already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.trial import TrialProcess
from hpo.cluster.devices import Devices, Placement, place

Opener = Callable[[], TrialProcess]


class WarmProcess:
    """A process that is opened when it is needed, and again after it was ended.

    Args:
        opener: opens one, or takes a warm one.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._process: TrialProcess | None = None

    def get(self) -> TrialProcess:
        """Return the process."""
        if self._process is None:
            self._process = self._opener()
        return self._process

    def end(self) -> None:
        """End the process, or give it back; the next training opens another."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


def places_of(benchmark: Benchmark, devices: Devices, at_once: int | None) -> Placement:
    """Allot devices to the trainings of a bank.

    Fewer at once than fit get no more cores each, so that their seconds are those of a study that fills the machine.

    Args:
        benchmark: the benchmark.
        devices: that were found.
        at_once: trainings at once; None for as many as fit.

    Raises:
        BenchmarkError: no training fits, or fewer than asked for.
    """
    placement = place(benchmark, devices)
    fitting = placement.allotment.concurrency
    if at_once is not None and not 1 <= at_once <= fitting:
        raise BenchmarkError(f"devices is {at_once}, but must be from 1 to {fitting}, the trainings that fit at once")
    return replace(placement, allotment=replace(placement.allotment, concurrency=at_once or fitting))


@contextmanager
def warm_processes(placement: Placement) -> Iterator[list[WarmProcess]]:
    """Yield a process for each training at once; the first training of each starts it, and the block's end ends it."""
    benchmark, allotment = placement.benchmark, placement.allotment
    is_alone = allotment.concurrency * allotment.ranks_per_trial == 1 and not os.environ.get("RAY_ADDRESS")
    with ExitStack() as stack:
        if is_alone or not benchmark.trial.trains_model:
            openers = [_in_this_process(placement)] * allotment.concurrency
        else:
            openers = stack.enter_context(_on_ray(placement))
        processes = [WarmProcess(opener) for opener in openers]
        try:
            yield processes
        finally:
            for process in processes:
                process.end()


def _in_this_process(placement: Placement) -> Opener:
    threads = max(1, int(placement.allotment.cpus_per_rank))

    def open_rank(benchmark: Benchmark) -> Any:
        from benchmarks.training.own_rank import OwnRank

        os.environ.update(placement.devices.variables)
        return OwnRank(benchmark, threads, on_gpu=placement.devices.gpu_name is not None)

    return lambda: placement.benchmark.trial_process(open_rank)


@contextmanager
def _on_ray(placement: Placement) -> Iterator[list[Opener]]:
    """Reserve the devices of all trainings at once on Ray."""
    from benchmarks.devices.places import find_places
    from benchmarks.training.ranks import Ranks
    from hpo.cluster.ray import ray_cluster, reserved

    allotment = placement.allotment

    def opener(group: Any, pool: Any) -> Opener:
        def open_ranks(benchmark: Benchmark) -> Ranks:
            places = find_places(allotment.ranks_per_trial, allotment.gpus_per_rank, group)
            return Ranks(benchmark, places, max(1, int(allotment.cpus_per_rank)), pool)

        return lambda: placement.benchmark.trial_process(open_ranks)

    with ray_cluster(placement.devices) as cluster:
        pool = cluster.pool_for(placement.benchmark)
        with reserved(allotment, allotment.concurrency) as groups:
            yield [opener(group, pool) for group in groups]
