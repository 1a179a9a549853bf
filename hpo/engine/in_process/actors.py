"""Actors that are calls in this process: Tune's actor manager and its resources, without Ray's processes.

Each actor has a clock of its own, on which its trial waits. A call begins when Tune asked for it, or when the actor's
call before it has ended, and ends as much later as the actor's clock has moved. The study's clock jumps to the call
that ends first; of those that end together, the one that Tune asked for first comes first.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import ray
from ray.air.execution import ResourceManager
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.event_manager import RayEventManager
from ray.exceptions import RayActorError, RayTaskError

from benchmarks.clock import Clock, VirtualClock

NO_METRICS = SimpleNamespace(remote=lambda **_: {})
MAX_IDLE_ROUNDS = 100
"""Rounds of Tune's loop without a call after which none will ever come."""


READY, RESET = "__ray_ready__", "reset"
"""Methods that start a trial: on a new actor, and on one that had another trial before."""


class StalledError(Exception):
    """Tune waits for a call, and none is under way."""


@dataclass(eq=False)
class Call:
    """A call of an actor's method.

    Attributes:
        actor: the actor.
        method: the method's name.
        asked: the moment at which Tune asked for it.
        number: its place in the order in which Tune asked.
        arguments: its positional arguments.
        keywords: its keyword arguments.
        ends: the moment at which it ends; known once it is done.
        result: its result.
        error: the error that it raised.
    """

    actor: Actor
    method: str
    asked: float
    number: int
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    ends: float | None = None
    result: Any = None
    error: Exception | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The proposal that the call is for: of a new trial where it starts one, else that of the actor's trial."""
        if self.method == READY:
            whole = self.actor.config
        else:
            whole = self.arguments[0] if self.method == RESET else self.actor.instance.config
        return {name: value for name, value in whole.items() if not name.startswith("__")}  # those are Tune's own

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
        start: makes the trainable, which waits on the clock that it is given.
        dies: decides in which call it dies.
        queue: of the study: gives calls their moment and number.
        config: the proposal of its first trial.
    """

    def __init__(
        self, number: int, start: Callable[[Clock], Any], dies: Death, queue: Queue, config: dict[str, Any]
    ) -> None:
        self.number, self.config = number, config
        self.instance: Any = None
        self.is_dead = False
        self.calls: list[Call] = []
        self._start, self._dies, self._queue = start, dies, queue
        self._clock = VirtualClock(queue.clock.epoch() - queue.clock.now())

    def __getattr__(self, method: str) -> Any:
        """Return a method as Ray's handles offer it, with `remote`."""
        if method == "get_auto_filled_metrics":  # shown of a trial before its first result
            return NO_METRICS
        return SimpleNamespace(remote=partial(self._enqueue, method))

    def _enqueue(self, method: str, *arguments: Any, **keywords: Any) -> Call:
        call = self._queue.call(self, method, arguments, keywords)
        self.calls.append(call)
        return call

    def finish(self, call: Call) -> None:
        """Do a call, unless it is done, after those before it, which Tune has not waited for."""
        while call.ends is None:
            self._do(self.calls.pop(0))

    def _do(self, call: Call) -> None:
        self._clock.jump_to(call.asked)
        try:
            call.result = self._result_of(call)
        except (RayActorError, RayTaskError) as error:
            call.error = error
        call.ends = self._clock.now()

    def _result_of(self, call: Call) -> Any:
        """Do a call; returns its result.

        Raises:
            RayActorError: the actor is dead.
            RayTaskError: the method raised.
        """
        self.is_dead = self.is_dead or self._dies(call)
        if self.is_dead:
            raise RayActorError
        if call.method == READY:
            self.instance = self._start(self._clock)
            return None
        try:
            return getattr(self.instance, call.method)(*call.arguments, **call.keywords)
        except Exception as error:
            raise RayTaskError(call.method, traceback.format_exc(), error) from error


class Queue:
    """The order of a study's calls.

    Args:
        clock: the study's clock.
        lot: draws the actor whose call comes next, for drills; by default the clock decides.
    """

    def __init__(self, clock: VirtualClock, lot: random.Random | None = None) -> None:
        self.clock, self._lot = clock, lot
        self._numbers = iter(range(2**62))

    def call(self, actor: Actor, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Call:
        """Make a call that Tune asks for now."""
        return Call(actor, method, self.clock.now(), next(self._numbers), arguments, keywords)

    def next(self, calls: Sequence[Call]) -> Call:
        """Do calls until it is known which of them ends first; jump to its end and return it."""
        first = self._drawn(calls) if self._lot else self._earliest(calls)
        assert first.ends is not None
        self.clock.jump_to(first.ends)
        return first

    def _earliest(self, calls: Sequence[Call]) -> Call:
        for call in calls:
            call.actor.finish(call)
        return min(calls, key=lambda call: (call.ends, call.number))

    def _drawn(self, calls: Sequence[Call]) -> Call:
        assert self._lot is not None
        heads: dict[int, Call] = {}
        for call in sorted(calls, key=lambda call: call.number):
            heads.setdefault(call.actor.number, call)
        drawn = heads[self._lot.choice(sorted(heads))]
        drawn.actor.finish(drawn)
        return drawn


class ActorClass(ray.actor.ActorClass):  # Ray's manager asks for one
    """A trainable that starts as an `Actor`.

    Args:
        trainable: the class, whose first argument is a clock.
        dies: see `Actor`.
        queue: see `Actor`.
    """

    def __init__(self, trainable: Callable[..., Any], dies: Death, queue: Queue) -> None:
        self._trainable, self._dies, self._queue = trainable, dies, queue
        self._numbers = iter(range(1, 2**62))

    def remote(self, **keywords: Any) -> Actor:
        """Start an actor."""
        start = partial(self._trainable, **keywords)
        return Actor(next(self._numbers), start, self._dies, self._queue, dict(keywords.get("config") or {}))


class Slots(ResourceManager):
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


class Events(RayEventManager):
    """Calls that Tune waits for."""

    @property
    def calls(self) -> Iterable[Call]:
        """The calls, in the order in which Tune began to wait."""
        return self._tracked_futures.keys()  # type: ignore[no-any-return]

    def resolve_future(self, future: Call) -> None:
        """Pass the result of a call on, which is done at last."""
        on_result, on_error = self._tracked_futures.pop(future)
        future.actor.finish(future)
        if future.error is not None:
            on_error(future.error)
        else:
            on_result(future.result)


class Actors(RayActorManager):
    """Ray's manager of actors, with calls in place of Ray's futures.

    Args:
        slots: the devices.
        queue: the order of calls.

    Attributes:
        slots: the devices.
    """

    def __init__(self, slots: Slots, queue: Queue) -> None:
        super().__init__(resource_manager=slots)
        self._actor_state_events, self._actor_task_events = Events(), Events()
        self.slots, self._queue, self._idle_rounds = slots, queue, 0

    def next(self, timeout: float | None = None) -> bool:
        """Pass on the result of one call, if there is one.

        Raises:
            StalledError: none is under way, nor will be.
        """
        was_killed = self._try_kill_actor()
        self._try_start_actors()
        if was_killed:
            return True
        states, tasks = self._actor_state_events, self._actor_task_events
        calls = [*states.calls, *tasks.calls]
        self._idle_rounds = 0 if calls else self._idle_rounds + 1
        if self._idle_rounds > MAX_IDLE_ROUNDS:
            raise StalledError("nothing is under way")
        if not calls:
            return False
        call = self._queue.next(calls)
        (states if call in states.calls else tasks).resolve_future(call)
        self._try_start_actors()
        return True

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
        self.slots.clear()
        self.__init__(self.slots, self._queue)  # type: ignore[misc]  # as Ray's own does
