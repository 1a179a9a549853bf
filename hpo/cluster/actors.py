"""Tune's actors, begun on workers that wait for them and ended at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import ray
from ray.actor import ActorClass
from ray.air.execution._internal import RayActorManager, TrackedActor

from hpo.cluster.ray import ADDRESS

CONTROLLER = "ray.tune.execution.tune_controller"


class RayActors(RayActorManager):
    """Tune's actors, of which those that are not up yet are killed and not asked to end.

    The last trials of a short study run on the actors that came up first. The others are still importing then, which
    takes seconds, and hold no trial.
    """

    def remove_actor(
        self, tracked_actor: TrackedActor, kill: bool = False, stop_future: ray.ObjectRef | None = None
    ) -> bool:
        """End an actor; see Ray's own method for arguments and result."""
        kill = kill or self._is_coming_up(tracked_actor)
        was_alive: bool = super().remove_actor(tracked_actor, kill, stop_future)
        return was_alive

    def _is_coming_up(self, tracked_actor: TrackedActor) -> bool:
        awaited = list(self._tracked_actors_to_state_futures.get(tracked_actor, ()))  # of its start, until it is up
        return bool(awaited) and not ray.wait(awaited, timeout=0)[0]


class ActorClasses:
    """Classes of actors without an environment of their own.

    Tune hands its actors some of the driver's variables, and a worker that Ray has started beforehand has none of
    them: each actor would start a worker anew, which takes a second or more.
    """

    def __init__(self) -> None:
        self._classes: dict[type, ActorClass] = {}

    def get(self, trainable: type) -> ActorClass:
        """Return the actor class around a Trainable, registered with Ray once."""
        if trainable not in self._classes:
            self._classes[trainable] = ray.remote(trainable)
        return self._classes[trainable]


@contextmanager
def quick_actors() -> Iterator[None]:
    """Let Tune's controllers use these actors; none of its arguments chooses the classes.

    On a cluster Tune's own variables stay: its workers have not inherited them from the driver.
    """
    with ExitStack() as stack:
        stack.enter_context(patch(f"{CONTROLLER}.RayActorManager", RayActors))
        if not os.environ.get(ADDRESS):
            stack.enter_context(patch(f"{CONTROLLER}._ActorClassCache", ActorClasses))
        yield
