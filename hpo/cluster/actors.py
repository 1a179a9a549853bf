"""Actors of Ray's that end at once: Tune waits for one that is still coming up, only to end it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import ray
from ray.air.execution._internal import RayActorManager, TrackedActor


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


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Tune's controllers use these actors; none of its arguments chooses the class."""
    with patch("ray.tune.execution.tune_controller.RayActorManager", RayActors):
        yield
