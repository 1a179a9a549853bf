"""Studies on actors that run in this process: what Tune does, on as many devices as wanted, without waiting.

Real actors take seconds to start, and eight of them do not fit on two cores. So the calls that Tune makes to its
actors are run in this process here, one at a time, in an order drawn by lot; and nothing is stored in MLflow, which
takes three times as long as the rest. That rest is as in any study: Tune's controller and actor manager, the
schedulers, the searchers, the trials, the runner.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution.resources import ResourceManager
from ray.exceptions import RayActorError, RayTaskError
from rich.console import Console

from benchmarks import spec
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Devices
from hpo.cluster.ray import Cluster
from hpo.core.study import Study
from hpo.engine.runner import Finished, execute

RUN_ID = "0123abcd"
IDLE_ROUNDS = 100
"""Rounds of Tune's loop with nothing under way after which nothing will ever be."""

# ---- actors that run in this process


@dataclass(eq=False)
class Call:
    """A call of an actor's method; done when it is waited for."""

    actor: Actor
    method: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def trial(self) -> int:
        """The number of the trial it is for; -1 if the actor has none or its id does not tell."""
        _, _, number = str(getattr(self.actor.instance, "trial_id", "")).partition("_")
        return int(number) if number else -1


Death = Callable[[Call], bool]


class Actor:
    """An actor whose calls wait in a queue."""

    def __init__(self, number: int, start: Callable[[], Any]) -> None:
        self.number, self.start = number, start
        self.instance: Any = None
        self.is_dead = False
        self.queue: list[Call] = []

    def __getattr__(self, method: str) -> Any:
        if method == "get_auto_filled_metrics":  # what a trial shows before its first result
            return SimpleNamespace(remote=lambda **_: {})
        return SimpleNamespace(remote=partial(self._enqueue, method))

    def _enqueue(self, method: str, *arguments: Any, **keywords: Any) -> Call:
        self.queue.append(Call(self, method, arguments, keywords))
        return self.queue[-1]


class StalledError(Exception):
    """Tune waits, and nothing is under way."""


class InProcessRay(ResourceManager):
    """What Tune's actor manager uses of Ray, and as many devices as wanted.

    Args:
        devices: actors at once at most.
        order: seeds the lot by which the next call is drawn.
        dies: whether an actor dies in a call.
    """

    actor, ObjectRef = ray.actor, ray.ObjectRef

    def __init__(self, devices: int, order: int, dies: Death) -> None:
        self._lot, self._dies = random.Random(order), dies
        self._devices, self._in_use, self._actors, self._idle_rounds = devices, 0, 0, 0
        self.most_in_use = 0

    # ---- Ray

    def wait(self, calls: Sequence[Call], num_returns: int = 1, timeout: float | None = None) -> Any:
        """One of the calls that are next on their actor."""
        first: dict[int, Call] = {}
        for call in sorted(calls, key=lambda call: call.actor.queue.index(call)):
            first.setdefault(call.actor.number, call)
        self._idle_rounds = 0 if first else self._idle_rounds + 1
        if self._idle_rounds > IDLE_ROUNDS:
            raise StalledError("nothing is under way")
        return [first[number] for number in [self._lot.choice(sorted(first))]] if first else [], []

    def get(self, call: Call) -> Any:
        """Do a call, and those that Tune has not waited for before it."""
        while call in call.actor.queue:
            following = call.actor.queue.pop(0)
            try:
                result = self._do(following)
            except (RayActorError, RayTaskError):
                if following is call:
                    raise
        return result

    def _do(self, call: Call) -> Any:
        actor = call.actor
        actor.is_dead = actor.is_dead or self._dies(call)
        if actor.is_dead:
            raise RayActorError
        if call.method == "__ray_ready__":
            actor.instance = actor.start()
            return None
        try:
            return getattr(actor.instance, call.method)(*call.arguments, **call.keywords)
        except Exception as error:
            raise RayTaskError(call.method, traceback.format_exc(), error) from error

    def sleep(self, seconds: float) -> None:
        """Tune waits for something other than a call: it would wait for ever."""
        raise StalledError("nothing is under way")

    def kill(self, actor: Actor) -> None:
        actor.is_dead = True

    def remote(self, trainable: type) -> type:
        return trainable

    # ---- resources

    def request_resources(self, resource_request: Any) -> None:
        """There are no queues."""

    def cancel_resource_request(self, resource_request: Any) -> None:
        """There are no queues."""

    def has_resources_ready(self, resource_request: Any) -> bool:
        return self._in_use < self._devices

    def acquire_resources(self, resource_request: Any) -> Any:
        self._in_use += 1
        self.most_in_use = max(self.most_in_use, self._in_use)
        return SimpleNamespace(resource_request=resource_request, annotate_remote_entities=self._annotate)

    def free_resources(self, acquired_resource: Any) -> None:
        self._in_use -= 1

    def clear(self) -> None:
        self._in_use = 0

    def _annotate(self, trainables: list[type]) -> list[Any]:
        return [SimpleNamespace(remote=partial(self._new_actor, trainable)) for trainable in trainables]

    def _new_actor(self, trainable: type, **keywords: Any) -> Actor:
        self._actors += 1
        return Actor(self._actors, partial(trainable, **keywords))


def nobody_dies(call: Call) -> bool:
    return False


def every(nth: int, method: str) -> Death:
    """Each `nth` call of a method is an actor's last."""
    calls = 0

    def dies(call: Call) -> bool:
        nonlocal calls
        calls += call.method == method
        return call.method == method and calls % nth == 0

    return dies


def first(is_deadly: Death) -> Death:
    """The first such call is an actor's last."""
    number = 0

    def dies(call: Call) -> bool:
        nonlocal number
        deadly = is_deadly(call)
        number += deadly
        return deadly and number == 1

    return dies


def units_of(call: Call) -> int:
    """Units that the trial has when it is called for another; -1 for other calls."""
    return int(call.actor.instance.training_iteration) if call.method == "train" else -1


@contextmanager
def in_process(
    devices: int, order: int = 0, dies: Death = nobody_dies, where: Path | None = None
) -> Iterator[InProcessRay]:
    """Studies run on actors in this process, in a working directory of their own."""
    stand_in = InProcessRay(devices, order, dies)
    controller = "ray.tune.execution.tune_controller"
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder if where is None else where)
        monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")  # actors would change this process's working directory
        monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", os.getcwd())  # and set this for good
        monkeypatch.setattr("ray.air.execution._internal.actor_manager.ray", stand_in)
        monkeypatch.setattr("ray.air.execution._internal.event_manager.ray", stand_in)
        monkeypatch.setattr(f"{controller}.PlacementGroupResourceManager", lambda: stand_in)
        monkeypatch.setattr(f"{controller}._ActorClassCache", lambda: SimpleNamespace(get=lambda trainable: trainable))
        monkeypatch.setattr(f"{controller}.time", SimpleNamespace(**{**vars(time), "sleep": stand_in.sleep}))
        monkeypatch.setattr("hpo.engine.runner.Tracker", _NoStore)
        monkeypatch.setattr("hpo.engine.runner.detect", lambda: Devices(count=devices, gpu_name=None, cpus=8))
        yield stand_in


class _NoStore:
    """A tracker that stores nothing."""

    run_id = RUN_ID
    fault = ""

    def __init__(self, study: Study, *_: Any, **__: Any) -> None:
        self.benchmark_digest = digest(study.benchmark)

    def __getattr__(self, method: str) -> Any:
        return lambda *_: None


# ---- studies


class _NoRanks(Cluster):
    """The Ray that there is, without a pool of warm ranks: these trials have none."""

    def reclaim(self) -> None: ...


def synthetic(
    max_units: int = 9,
    diverge_above: float | None = None,
    seconds_per_unit: float = 0.0,
    checkpoint_seconds: float = 60.0,
) -> Benchmark:
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    changes = {"diverge_above": diverge_above, "seconds_per_unit": seconds_per_unit}
    resource = benchmark.resource.model_copy(update={"max_units": max_units, "checkpoint_seconds": checkpoint_seconds})
    settings = benchmark.synthetic.model_copy(update=changes)
    return benchmark.model_copy(update={"resource": resource, "synthetic": settings})


def run(study: Study, run_id: str | None = None) -> Finished:
    """Run a study, or go on with it."""
    console = Console(file=io.StringIO(), width=160)
    return execute(study, "python -m hpo", console, cluster=_NoRanks(pool=None), run_id=run_id)
