"""Actors that begin on workers that wait and end at once, on a running Ray."""

from __future__ import annotations

import time

import pytest
import ray
from ray.air.execution import PlacementGroupResourceManager, ResourceRequest
from ray.air.execution._internal import RayActorManager
from ray.tune.execution import tune_controller
from ray.tune.execution.class_cache import _ActorClassCache

from hpo.cluster.actors import ActorClasses, RayActors, quick_actors
from hpo.cluster.ray import ADDRESS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_of_two")]
SECONDS = 20.0


class Sleeper:
    """An actor that takes its time to come up."""

    def __init__(self, seconds: float) -> None:
        time.sleep(seconds)

    def answer(self) -> int:
        return 42


def begin(actors: RayActorManager, seconds: float) -> object:
    request = ResourceRequest([{"CPU": 1}])
    tracked = actors.add_actor(Sleeper, {"seconds": seconds}, request)
    while not actors.num_live_actors:
        actors.next(timeout=0.1)
    return tracked


def seconds_to_end(actors: RayActorManager) -> float:
    began = time.monotonic()
    while actors.num_total_actors and time.monotonic() - began < SECONDS:
        actors.next(timeout=0.1)
    return time.monotonic() - began


def test_one_that_is_still_coming_up_is_not_waited_for() -> None:
    actors = RayActors(PlacementGroupResourceManager())
    actors.remove_actor(begin(actors, SECONDS))
    assert seconds_to_end(actors) < SECONDS / 2
    actors.cleanup()


def test_one_that_is_up_ends_in_good_order_after_its_work() -> None:
    actors, answers = RayActors(PlacementGroupResourceManager()), list[int]()
    tracked = begin(actors, 0.0)
    actors.schedule_actor_task(tracked, "answer", on_result=lambda _, answer: answers.append(answer))
    while not answers:
        actors.next(timeout=0.1)
    actors.schedule_actor_task(tracked, "answer", on_result=lambda _, answer: answers.append(answer))
    actors.remove_actor(tracked)
    assert seconds_to_end(actors) < SECONDS
    assert answers == [42, 42]
    actors.cleanup()
    assert ray.is_initialized()


def test_a_class_is_registered_once() -> None:
    classes = ActorClasses()
    assert classes.get(Sleeper) is classes.get(Sleeper)


def test_actors_of_a_cluster_keep_tune_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with quick_actors():
        assert tune_controller._ActorClassCache is ActorClasses
    monkeypatch.setenv(ADDRESS, "127.0.0.1:6379")
    with quick_actors():
        assert tune_controller._ActorClassCache is _ActorClassCache
        assert tune_controller.RayActorManager is RayActors
