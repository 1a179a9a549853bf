"""Every method on one, two and eight devices: a study reaches its end, whatever is done first and whatever dies.

Real actors take seconds to start, and eight of them do not fit on two cores. So the calls that Tune makes to its
actors are run in this process here, one at a time, in an order drawn by lot; and nothing is stored, which takes three
times as long as the rest. That rest is as in any study: Tune's controller and actor manager, the schedulers, the
searchers, the trials, the runner. Studies on real actors, and stored, are in test_methods_contract (all methods, two
devices) and test_brackets (one, two and eight devices).
"""

from __future__ import annotations

import io
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution.resources import ResourceManager
from ray.exceptions import RayActorError, RayTaskError
from rich.console import Console

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo import methods
from hpo.cluster import Cluster
from hpo.devices import Devices
from hpo.results import TrialRow
from hpo.runner import GRACEFUL_SIGNALS, Finished, execute
from hpo.study import Study

BUDGET, SEED = 4, 1
DEVICES = (1, 2, 8)
PAUSING = ["hyperband", "bohb", "pbt", "pb2"]
SIGNAL = signal.SIGUSR1
IDLE_ROUNDS = 100
"""Rounds of Tune's loop with nothing under way after which nothing will ever be."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_of_two"),
    pytest.mark.timeout(60),
]  # a study that stalls may do so within Tune's own waiting


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
def in_process(devices: int, order: int = 0, dies: Death = nobody_dies) -> Iterator[InProcessRay]:
    """Studies run on actors in this process."""
    stand_in = InProcessRay(devices, order, dies)
    controller = "ray.tune.execution.tune_controller"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")  # actors would change this process's working directory
        monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", os.getcwd())  # and set this for good
        monkeypatch.setattr("ray.air.execution._internal.actor_manager.ray", stand_in)
        monkeypatch.setattr("ray.air.execution._internal.event_manager.ray", stand_in)
        monkeypatch.setattr(f"{controller}.PlacementGroupResourceManager", lambda: stand_in)
        monkeypatch.setattr(f"{controller}._ActorClassCache", lambda: SimpleNamespace(get=lambda trainable: trainable))
        monkeypatch.setattr(f"{controller}.time", SimpleNamespace(**{**vars(time), "sleep": stand_in.sleep}))
        monkeypatch.setattr("hpo.runner.Tracker", _NoStore)
        monkeypatch.setattr("hpo.runner.detect", lambda: Devices(count=devices, gpu_name=None, cpus=8))
        yield stand_in


class _NoStore:
    """A tracker that stores nothing."""

    run_id = ""

    def __init__(self, *_: Any) -> None: ...

    def __getattr__(self, method: str) -> Any:
        return lambda *_: None


# ---- studies


class _NoRanks(Cluster):
    """The Ray that there is, without a pool of warm ranks: these trials have none."""

    def reclaim(self) -> None: ...


def synthetic(max_units: int = 9, diverge_above: float | None = None, seconds_per_unit: float = 0.0) -> Benchmark:
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    changes = {"diverge_above": diverge_above, "seconds_per_unit": seconds_per_unit}
    resource = benchmark.resource.model_copy(update={"max_units": max_units})
    settings = benchmark.synthetic.model_copy(update=changes)
    return benchmark.model_copy(update={"resource": resource, "synthetic": settings})


def run(study: Study) -> Finished:
    return execute(study, "python -m hpo", Console(file=io.StringIO(), width=160), cluster=_NoRanks(pool=None))


@dataclass(frozen=True)
class Ran:
    """A study that has run."""

    study: Study
    finished: Finished
    most_at_once: int

    @property
    def rows(self) -> list[TrialRow]:
        return self.finished.results.rows

    @property
    def trained_units(self) -> int:
        return sum(row.trained_units for row in self.rows)

    def assert_ended_well(self) -> None:
        """It reached its end by itself, within its budget, and has ended every trial."""
        assert self.finished.reason == ""
        assert self.finished.reached_end
        assert self.trained_units <= self.study.budget_units
        assert {row.outcome for row in self.rows} <= {"completed", "stopped", "diverged", "failed"}


@pytest.fixture(scope="module")
def run_on(ray_of_two: None) -> Callable[..., Ran]:
    """Runs the study of a method on so many devices, once."""

    @cache
    def run_once(method: str, devices: int, order: int = 0, diverge_above: float | None = None) -> Ran:
        study = Study(method, synthetic(diverge_above=diverge_above), seed=SEED, budget=BUDGET)
        with in_process(devices, order) as stand_in:
            return Ran(study, run(study), stand_in.most_in_use)

    return run_once


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("method", methods.names())
class TestDevices:
    def test_the_study_ends_well(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        run_on(method, devices).assert_ended_well()

    def test_nothing_fails(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        assert [row.reason for row in run_on(method, devices).rows if row.outcome == "failed"] == []

    def test_no_unit_is_trained_twice(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        rows = run_on(method, devices).rows
        assert [row.trained_units for row in rows] == [row.units for row in rows]


@pytest.mark.parametrize("order", range(3))
class TestOrder:
    """Eight devices and a third of the trials diverging, in several orders of events."""

    @pytest.mark.parametrize("method", [*PAUSING, "asha", "median"])
    def test_the_study_ends_well(self, run_on: Callable[..., Ran], method: str, order: int) -> None:
        ran = run_on(method, devices=8, order=order, diverge_above=1e-3)
        ran.assert_ended_well()
        assert "diverged" in {row.outcome for row in ran.rows} or method in ("pbt", "pb2")  # those replace them

    def test_hyperband_promotes_the_same_trials(self, run_on: Callable[..., Ran], order: int) -> None:
        """A rung is compared as a whole, so it does not matter who arrives first."""
        serial, parallel = run_on("hyperband", devices=1), run_on("hyperband", devices=8, order=order)
        assert _reached(parallel) == _reached(serial)


def _reached(ran: Ran) -> list[tuple[float, int]]:
    return sorted((float(row.config["learning_rate"]), row.units) for row in ran.rows)


class TestDeaths:
    """Actors die, at every kind of call. Tune tries a trial again once."""

    @pytest.mark.parametrize("call", ["__ray_ready__", "reset", "train", "save", "restore"])
    @pytest.mark.parametrize("method", [*PAUSING, "median"])
    def test_the_study_ends_well(self, method: str, call: str) -> None:
        study = Study(method, synthetic(), seed=SEED, budget=BUDGET)
        with in_process(devices=3, dies=every(4, call)) as stand_in:
            Ran(study, run(study), stand_in.most_in_use).assert_ended_well()

    def test_a_trial_that_lost_units_is_trained_to_the_end_where_the_budget_has_them(self) -> None:
        """Two full trainings of three, and six units of an attempt that died in its seventh: 24 of 27."""
        study = Study("default", synthetic(), seed=SEED, budget=3, arguments={"repeats": 2})
        with in_process(devices=2, dies=first(lambda call: call.trial == 1 and units_of(call) == 6)) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        ran.assert_ended_well()
        assert [(row.outcome, row.units, row.trained_units) for row in ran.rows] == [
            ("completed", 9, 9),
            ("completed", 9, 15),
        ]

    def test_a_trial_that_lost_units_is_ended_by_the_budget_where_it_has_none(self) -> None:
        study = Study("default", synthetic(), seed=SEED, budget=2, arguments={"repeats": 2})
        with in_process(devices=2, dies=first(lambda call: call.trial == 1 and units_of(call) == 6)) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        ran.assert_ended_well()
        assert [(row.outcome, row.units, row.trained_units) for row in ran.rows] == [
            ("completed", 9, 9),
            ("stopped", 3, 9),
        ]

    def test_a_trial_that_fails_for_good_says_why(self) -> None:
        study = Study("default", synthetic(), seed=SEED, budget=BUDGET)
        with in_process(devices=1, dies=every(1, "train")):
            rows = run(study).results.rows
        assert {row.outcome for row in rows} == {"failed"}
        assert all(row.reason.startswith("RayActorError: ") for row in rows), [row.reason for row in rows]

    @pytest.mark.parametrize("order", range(3))
    def test_a_member_that_dies_at_its_rung_is_compared_once_it_is_back(self, order: int) -> None:
        """Its checkpoint was lost, so it trains up to the rung again, while the others wait for it."""
        study = Study("hyperband", synthetic(), seed=SEED, budget=BUDGET)
        lost: set[int] = set()

        def dies(call: Call) -> bool:
            is_first = call.method == "save" and call.trial in (6, 7) and call.trial not in lost
            lost.update([call.trial] * is_first)
            return is_first

        with in_process(devices=3, order=order, dies=dies) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        assert lost == {6, 7}
        ran.assert_ended_well()

    @pytest.mark.parametrize("method", ["hyperband", "bohb"])
    @pytest.mark.parametrize("order", range(3))
    def test_members_do_not_wait_for_one_that_was_promoted_and_never_came(self, method: str, order: int) -> None:
        """An actor that dies as it is given the next trial costs that trial both attempts."""
        study = Study(method, synthetic(), seed=SEED, budget=3)
        seen: set[str] = set()

        def is_promotion(call: Call) -> bool:
            """The actor is given a trial that has run before."""
            if call.method == "train":
                seen.add(call.actor.instance.trial_id)
            return call.method == "reset" and call.arguments[0]["__trial_info__"].trial_id in seen

        with in_process(devices=3, order=order, dies=first(is_promotion)) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        ran.assert_ended_well()
        assert [row.outcome for row in ran.rows].count("failed") == 1

    @pytest.mark.parametrize("order", range(6))
    def test_a_bracket_that_lost_units_does_not_overspend(self, order: int) -> None:
        """Budget 5 at resource 3 is three brackets, 5 + 6 + 4 units, nothing left to replace what is lost."""
        study = Study("hyperband", synthetic(max_units=3), seed=SEED, budget=5)
        dies = first(lambda call: call.trial == 3 and units_of(call) == 2)
        with in_process(devices=8, order=order, dies=dies) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        assert ran.rows[3].trained_units >= 2
        ran.assert_ended_well()


@pytest.mark.parametrize("number", GRACEFUL_SIGNALS)
def test_every_signal_that_asks_a_study_to_end_ends_it(number: signal.Signals) -> None:
    """The first one; a second has its usual effect."""
    left = iter([number])

    def interrupt(call: Call) -> bool:
        if call.method == "train" and call.trial == 2 and next(left, None):
            os.kill(os.getpid(), number)
        return False

    before = signal.getsignal(number)
    with in_process(devices=2, dies=interrupt):
        finished = run(Study("random", synthetic(), seed=SEED, budget=6))
    assert (finished.reached_end, finished.reason) == (False, "interrupted")
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("method", ["random", *PAUSING])
class TestEnds:
    """A study may end at any moment; some trials run then and others are paused."""

    def test_an_interrupted_study_ends(self, method: str, devices: int) -> None:
        """By a signal during its twelfth unit."""
        units = 0

        def interrupt(call: Call) -> bool:
            nonlocal units
            units += call.method == "train"
            if call.method == "train" and units == 12:
                os.kill(os.getpid(), SIGNAL)
            return False

        study = Study(method, synthetic(), seed=SEED, budget=6)
        with in_process(devices, dies=interrupt):
            finished = run(study)
        assert not finished.reached_end
        assert finished.reason == "interrupted"
        assert units <= 12 + devices  # each actor may have been told to go on already
        assert "interrupted" in {row.outcome for row in finished.results.rows}
        assert "running" not in {row.outcome for row in finished.results.rows}

    def test_a_study_whose_device_hours_are_spent_ends(self, method: str, devices: int) -> None:
        """Within the third unit of nine of its first training."""
        benchmark = synthetic(seconds_per_unit=0.1)
        study = Study(method, benchmark, seed=SEED, budget=12, gpu_hours=0.25 * devices / 3600)
        with in_process(devices) as stand_in:
            ran = Ran(study, run(study), stand_in.most_in_use)
        ran.assert_ended_well()
        assert ran.trained_units < study.budget_units / 3
        assert any("budget was spent" in row.reason for row in ran.rows)
