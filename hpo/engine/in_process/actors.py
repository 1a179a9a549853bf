"""Actors that are calls in this process: Tune's actor manager and its resources, without Ray's processes."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import ray
from ray.air.execution import ResourceManager
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.event_manager import RayEventManager
from ray.exceptions import RayActorError, RayTaskError

MAX_IDLE_ROUNDS = 100
"""Rounds of Tune's loop without a call after which none will ever come."""


class StalledError(Exception):
    """Tune waits for a call, and none is under way."""


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


class ActorClass(ray.actor.ActorClass):  # Ray's manager asks for one
    """A trainable that starts as an `Actor`."""

    def __init__(self, trainable: type, dies: Death, numbers: Iterator[int]) -> None:
        self._trainable, self._dies, self._numbers = trainable, dies, numbers

    def remote(self, **keywords: Any) -> Actor:
        """Start an actor."""
        return Actor(next(self._numbers), partial(self._trainable, **keywords), self._dies)


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

    def resolve_future(self, future: Call) -> None:
        """Do a call and pass its result on."""
        on_result, on_error = self._tracked_futures.pop(future)
        try:
            result = future.actor.finish(future)
        except (RayActorError, RayTaskError) as error:
            on_error(error)
        else:
            on_result(result)


class Actors(RayActorManager):
    """Ray's manager of actors, with calls in place of Ray's futures.

    Args:
        slots: the devices.
        lot: draws the actor whose call is done next.
    """

    def __init__(self, slots: Slots, lot: random.Random) -> None:
        super().__init__(resource_manager=slots)
        self._actor_state_events, self._actor_task_events = Events(), Events()
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
