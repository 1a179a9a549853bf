"""An executor without Ray's processes: a study's trials run as calls in this process.

Tune's controller, its actor manager, the schedulers, the searchers and the trials are those of any study. Only the
actors differ: Tune's calls to them wait in queues and are done here, one at a time, in an order drawn by lot. So a
study may have any number of devices, needs no running Ray, and costs tenths of a second.

    execute(study, command, console, executor=InProcess(devices=8), open_tracker=Unstored)

Trials must need no ranks: those of a synthetic benchmark do not.
"""

from __future__ import annotations

import copy
import logging
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray.air.execution import ResourceManager
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.event_manager import RayEventManager
from ray.exceptions import RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune import PlacementGroupFactory, Trainable, with_resources
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.schedulers.util import _set_search_properties_backwards_compatible as tell_scheduler
from ray.tune.search.util import _set_search_properties_backwards_compatible as tell_searcher

from benchmarks.spec import BenchmarkError
from hpo.cluster.devices import Allotment, Devices
from hpo.cluster.ray import Cluster
from hpo.core.ledger import Shares
from hpo.core.results import Results, TrialRow
from hpo.core.study import Study
from hpo.store.tracker import Tracker

MAX_IDLE_ROUNDS = 100
"""Rounds of Tune's loop without a call after which none will ever come."""
CHANGES_FOLDER = "RAY_CHDIR_TO_TRIAL_DIR"
"""Variable of Ray's: a trial's actor makes its own folder the working directory."""
FOLDER_BEFORE = "TUNE_ORIG_WORKING_DIR"
"""Variable of Tune's, in which an actor notes the working directory it came from."""


class StalledError(Exception):
    """Tune waits for a call, and none is under way."""


# ---- actors


@dataclass(eq=False)
class Call:
    """A call of an actor's method, which is done when Tune asks for its result.

    Attributes:
        actor: the actor.
        method: the method's name.
        arguments: its positional arguments.
        keywords: its keyword arguments.
    """

    actor: Actor
    method: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def trial(self) -> int:
        """The number of the trial that the call is for; -1 if the actor has none or its id does not tell."""
        _, _, number = str(getattr(self.actor.instance, "trial_id", "")).partition("_")
        return int(number) if number else -1


Death = Callable[[Call], bool]
"""A predicate: the actor dies in this call, as a process may."""


def nobody_dies(call: Call) -> bool:
    """Let every call be done."""
    return False


class Actor:
    """An actor whose calls wait in a queue.

    Args:
        number: its place among a study's actors, from 1.
        start: makes the trainable.
        dies: decides in which call it dies.
    """

    def __init__(self, number: int, start: Callable[[], Any], dies: Death) -> None:
        self.number, self.instance = number, None
        self.is_dead = False
        self.queue: list[Call] = []
        self._start, self._dies = start, dies

    def __getattr__(self, method: str) -> Any:
        """Return a method as Ray's handles offer it, with `remote`."""
        if method == "get_auto_filled_metrics":  # shown of a trial before its first result
            return SimpleNamespace(remote=lambda **_: {})
        return SimpleNamespace(remote=partial(self._enqueue, method))

    def _enqueue(self, method: str, *arguments: Any, **keywords: Any) -> Call:
        self.queue.append(Call(self, method, arguments, keywords))
        return self.queue[-1]

    def finish(self, call: Call) -> Any:
        """Do a call, after those before it, which Tune has not waited for; returns its result.

        Raises:
            RayActorError: the actor is dead.
            RayTaskError: the method raised.
        """
        while self.queue and self.queue[0] is not call:
            try:
                self._do(self.queue.pop(0))
            except (RayActorError, RayTaskError):
                continue
        self.queue.remove(call)
        return self._do(call)

    def _do(self, call: Call) -> Any:
        self.is_dead = self.is_dead or self._dies(call)
        if self.is_dead:
            raise RayActorError
        if call.method == "__ray_ready__":
            self.instance = self._start()
            return None
        try:
            return getattr(self.instance, call.method)(*call.arguments, **call.keywords)
        except Exception as error:
            raise RayTaskError(call.method, traceback.format_exc(), error) from error


class _ActorClass(ray.actor.ActorClass):  # Ray's manager asks for one
    """A trainable that starts as an `Actor`."""

    def __init__(self, trainable: type, dies: Death, numbers: Iterator[int]) -> None:
        self._trainable, self._dies, self._numbers = trainable, dies, numbers

    def remote(self, **keywords: Any) -> Actor:
        """Start an actor."""
        return Actor(next(self._numbers), partial(self._trainable, **keywords), self._dies)


# ---- Tune's parts that speak with Ray


class _Slots(ResourceManager):
    """A number of devices, without queues.

    Attributes:
        most_in_use: trials at once at most, so far.
    """

    def __init__(self, count: int) -> None:
        self._count, self._in_use, self.most_in_use = count, 0, 0

    def request_resources(self, resource_request: Any) -> None:
        """Do nothing: there is no queue."""

    def cancel_resource_request(self, resource_request: Any) -> None:
        """Do nothing: there is no queue."""

    def has_resources_ready(self, resource_request: Any) -> bool:
        """Tell whether a device is free."""
        return self._in_use < self._count

    def acquire_resources(self, resource_request: Any) -> Any:
        """Take a device."""
        self._in_use += 1
        self.most_in_use = max(self.most_in_use, self._in_use)
        return SimpleNamespace(resource_request=resource_request, annotate_remote_entities=list)

    def free_resources(self, acquired_resource: Any) -> None:
        """Give a device back."""
        self._in_use -= 1

    def clear(self) -> None:
        """Give all devices back."""
        self._in_use = 0


class _Events(RayEventManager):
    """Calls that Tune waits for."""

    def resolve_future(self, future: Call) -> None:
        """Do a call and pass its result on."""
        on_result, on_error = self._tracked_futures.pop(future)
        try:
            result = future.actor.finish(future)
        except (RayActorError, RayTaskError) as error:
            on_error(error)
        else:
            on_result(result)


class _Actors(RayActorManager):
    """Ray's manager of actors, with calls in place of Ray's futures.

    Args:
        slots: the devices.
        lot: draws the actor whose call is done next.
    """

    def __init__(self, slots: _Slots, lot: random.Random) -> None:
        super().__init__(resource_manager=slots)
        self._actor_state_events, self._actor_task_events = _Events(), _Events()
        self._slots, self._lot, self._idle_rounds = slots, lot, 0

    def next(self, timeout: float | None = None) -> bool:
        """Do one call, if there is one.

        Raises:
            StalledError: none is under way, nor will be.
        """
        was_killed = self._try_kill_actor()
        self._try_start_actors()
        if was_killed:
            return True
        states, tasks = self._actor_state_events.get_futures(), self._actor_task_events.get_futures()
        self._idle_rounds = 0 if states or tasks else self._idle_rounds + 1
        if self._idle_rounds > MAX_IDLE_ROUNDS:
            raise StalledError("nothing is under way")
        if not states and not tasks:
            return False
        call = self._draw(states | tasks)
        (self._actor_state_events if call in states else self._actor_task_events).resolve_future(call)
        self._try_start_actors()
        return True

    def _draw(self, calls: Iterable[Call]) -> Call:
        """Draw one of the calls that come next on their actor."""
        first: dict[int, Call] = {}
        for call in sorted(calls, key=lambda call: call.actor.queue.index(call)):
            first.setdefault(call.actor.number, call)
        return first[self._lot.choice(sorted(first))]

    def _try_kill_actor(self) -> bool:
        if not self._live_actors_to_kill:
            return False
        tracked = self._live_actors_to_kill.pop()
        self._live_actors_to_ray_actors_resources[tracked][0].is_dead = True
        self._cleanup_actor_futures(tracked)
        self._actor_stop_resolved(tracked)
        return True

    def cleanup(self) -> None:
        """Forget every actor."""
        self._slots.clear()
        self.__init__(self._slots, self._lot)  # type: ignore[misc]  # as Ray's own does


class _Controller(TuneController):
    """Tune's controller, on actors in this process."""

    def __init__(self, actors: _Actors, dies: Death, **settings: Any) -> None:
        super().__init__(resource_manager_factory=lambda: actors._slots, **settings)
        numbers = iter(range(1, 2**62))
        self._actor_manager = actors
        self._class_cache = SimpleNamespace(get=lambda trainable: _ActorClass(trainable, dies, numbers))

    def _update_trial_queue(self, blocking: bool = False, timeout: int = 600) -> bool:
        """Ask for a trial once: time brings none here, so waiting for one would take ten minutes."""
        return bool(super()._update_trial_queue(blocking=False))


class _Storage(StorageContext):
    """The folders of a study, temporary files included, which Ray keeps in the folder of its session."""

    def _get_session_path(self) -> str:
        return str(Path(self.storage_fs_path, "session", self.experiment_dir_name))


class _Experiment(Experiment):
    """A study as Tune knows it, in these folders."""

    _storage_context_cls = _Storage


# ---- the executor


class _NoPool:
    """The missing pool of warm ranks: every use of it is refused."""

    def __getattr__(self, name: str) -> Any:
        """Refuse.

        Raises:
            BenchmarkError: always.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        raise BenchmarkError("trials in this process have no ranks to train on; run this benchmark on Ray")


class _Here(Cluster):
    """This process in the place of a Ray."""

    def reclaim(self) -> None:
        """Do nothing: there are no ranks."""

    @contextmanager
    def holding(self, devices: Devices, allotment: Allotment) -> Iterator[None]:
        """Do nothing: no trial starts but those of the one study."""
        yield


class InProcess:
    """An executor that runs a study's trials in this process; see `hpo.engine.runner.Executor`.

    Args:
        devices: how many trials there may be at once.
        order: seeds the lot that decides which trial goes on next.
        dies: decides in which calls an actor dies, for drills.

    Attributes:
        most_in_use: trials at once at most, in all studies so far.
    """

    def __init__(self, devices: int, order: int = 0, dies: Death = nobody_dies) -> None:
        self._devices, self._dies = devices, dies
        self._lot, self.most_in_use = random.Random(order), 0

    def detect(self) -> Devices:
        """Return the devices that were asked for."""
        return Devices(count=self._devices, gpu_name=None, cpus=self._devices)

    @contextmanager
    def open(self, devices: Devices) -> Iterator[Cluster]:
        """Stand in for a running Ray."""
        yield _Here(pool=_NoPool())

    def fit(
        self,
        actor: type[Trainable],
        given: Mapping[str, Any],
        resources: PlacementGroupFactory,
        *,
        config: dict[str, Any],
        search_alg: Any,
        scheduler: Any,
        callbacks: list[Any],
        **settings: Any,
    ) -> None:
        """Let Tune run a study to its end, as `ray.tune.run` does.

        Args:
            actor: the class of a trial.
            given: further arguments of its `setup`, beside a configuration.
            resources: the devices of a trial.
            config: the space.
            search_alg: proposes.
            scheduler: stops and pauses.
            callbacks: are told of each event.
            settings: further arguments of Tune's `Experiment`.
        """
        resolvers = create_resolvers_map()
        space = inject_placeholders(copy.deepcopy(config), resolvers)
        experiment = _Experiment(run=_bind(actor, given, resources), config=space, **settings)
        tell_searcher(search_alg.set_search_properties, None, None, space, **experiment.public_spec)
        tell_scheduler(scheduler.set_search_properties, None, None, **experiment.public_spec)
        slots = _Slots(self._devices)
        controller = _Controller(
            _Actors(slots, self._lot),
            self._dies,
            search_alg=search_alg,
            placeholder_resolvers=resolvers,
            scheduler=scheduler,
            stopper=experiment.stopper,
            callbacks=callbacks,
            trial_checkpoint_config=experiment.checkpoint_config,
            reuse_actors=True,
            storage=experiment.storage,
        )
        try:
            _run(controller, experiment)
        finally:
            self.most_in_use = max(self.most_in_use, slots.most_in_use)


def _bind(actor: type[Trainable], given: Mapping[str, Any], resources: PlacementGroupFactory) -> type[Trainable]:
    """Make the class of a trial whose `setup` gets these arguments."""

    class Bound(actor):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, **given)

    Bound.__name__ = actor.__name__
    bound: type[Trainable] = with_resources(Bound, resources)
    return bound


def _run(controller: _Controller, experiment: Experiment) -> None:
    """Go through Tune's loop until the study has ended."""
    controller.search_alg.add_configurations([experiment])
    controller.update_max_pending_trials()
    controller.setup_experiments([experiment], total_num_samples=controller.search_alg.total_samples)
    with _staying_in_folder(), _without_chatter():
        try:
            while not controller.is_finished():
                controller.step()
        except Exception:
            controller.cleanup()
            raise
        controller.cleanup()


@contextmanager
def _staying_in_folder() -> Iterator[None]:
    """Keep actors, which are this process, from changing its working directory."""
    before = {name: os.environ.get(name) for name in (CHANGES_FOLDER, FOLDER_BEFORE)}
    os.environ[CHANGES_FOLDER] = "0"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Log only Ray's errors, as with a Ray that is started for a study; otherwise it logs a line per checkpoint."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class Unstored(Tracker):
    """A tracker that stores nothing.

    Args:
        study: the study.
        accelerator: not used.
        command: not used.
        run_id: the run of a study that is resumed; by default `RUN_ID`, which is no run of a store.
    """

    RUN_ID = "0123abcd"

    def __init__(self, study: Study, accelerator: str, command: str, run_id: str | None = None) -> None:
        self._study, self._children = study, {}
        self.run_id, self.began_at = run_id or self.RUN_ID, time.time()

    @property
    def fault(self) -> str:
        """An empty text, since no store can fail."""
        return ""

    def reopen(self) -> None:
        """Store nothing."""

    def abandon(self) -> None:
        """Store nothing."""

    def take_up(self, results: Results) -> None:
        """Store nothing."""

    def start_trial(self, row: TrialRow) -> None:
        """Store nothing."""

    def report_trial(self, row: TrialRow) -> None:
        """Store nothing."""

    def end_trial(self, row: TrialRow) -> None:
        """Store nothing."""

    def deliver(self) -> None:
        """Store nothing."""

    def finish(
        self, results: Results, shares: Shares, units: int, wall_seconds: float, on_gpu: bool, status: str
    ) -> None:
        """Store nothing."""
