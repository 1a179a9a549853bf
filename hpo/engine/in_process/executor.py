"""The executor that runs a study's trials in this process."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable, with_resources
from ray.tune.experiment import Experiment
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.result import TIME_THIS_ITER_S, TIME_TOTAL_S, TRIAL_ID
from ray.tune.schedulers.util import _set_search_properties_backwards_compatible as tell_scheduler
from ray.tune.search.util import _set_search_properties_backwards_compatible as tell_searcher

from benchmarks.clock import REAL, Clock, VirtualClock
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.own_rank import OwnRank
from benchmarks.trials.trial import TrialProcess
from hpo.cluster.devices import Allotment, Devices
from hpo.cluster.ray import Cluster
from hpo.engine.executor import Executor
from hpo.engine.in_process.actors import ActorClass, Actors, Death, Queue, Slots, nobody_dies
from hpo.engine.in_process.controller import Controller, ExperimentHere, making_trials_directly


class _Here(Cluster):
    """This process in the place of a Ray."""

    def pool_for(self, benchmark: Benchmark) -> None:
        """Return nothing: the one rank of a trial is this process, which has no other to keep warm."""

    @contextmanager
    def holding(self, devices: Devices, allotment: Allotment) -> Iterator[None]:
        """Do nothing: no trial starts but those of the one study."""
        yield


class InProcess:
    """An executor that runs a study's trials in this process; see `hpo.engine.executor.Executor`.

    Args:
        devices: how many trials there may be at once.
        order: seeds a lot that decides which trial goes on next, for drills; by default the clock does.
        dies: decides in which calls an actor dies, for drills.
        open_rank: makes the rank of trials that train; by default it is this process.

    Attributes:
        clock: jumps from event to event, through all studies.
        most_in_use: trials at once at most, in all studies so far.
    """

    def __init__(
        self,
        devices: int,
        order: int | None = None,
        dies: Death = nobody_dies,
        open_rank: Callable[[Benchmark], TrialProcess] = OwnRank,
    ) -> None:
        self._devices, self._dies, self._open_rank = devices, dies, open_rank
        self.clock, self.most_in_use = VirtualClock(), 0
        self._lot = None if order is None else random.Random(order)

    def detect(self) -> Devices:
        """Return the devices that were asked for."""
        return Devices(count=self._devices, gpu_name=None, cpus=self._devices)

    @contextmanager
    def open(self, devices: Devices) -> Iterator[Cluster]:
        """Stand in for a running Ray."""
        yield _Here()

    def make_queue(self) -> Queue:
        """Make the order of a study's calls."""
        return Queue(self.clock, self._lot)

    def on(self, cluster: Cluster) -> Executor:
        """Return this executor: there is nothing to start."""
        return self

    def fit(
        self, actor: type[Trainable], given: Mapping[str, Any], resources: PlacementGroupFactory, **plan: Any
    ) -> None:
        """Let Tune run a study to its end, as `ray.tune.run` does.

        Args:
            actor: the class of a trial.
            given: further arguments of its `setup`, beside a configuration.
            resources: the devices of a trial.
            plan: `config` (the space), `search_alg` (proposes), `scheduler` (stops and pauses), `callbacks` (are told
                of each event), and further arguments of Tune's `Experiment`.
        """
        settings = dict(plan)
        config, search_alg, scheduler, callbacks = (
            settings.pop(name) for name in ("config", "search_alg", "scheduler", "callbacks")
        )
        resolvers = create_resolvers_map()
        space = inject_placeholders(copy.deepcopy(config), resolvers)
        trainable = _bind(actor, given, resources, self._open_rank)
        experiment = ExperimentHere(run=trainable, config=space, **settings)
        tell_searcher(search_alg.set_search_properties, None, None, space, **experiment.public_spec)
        tell_scheduler(scheduler.set_search_properties, None, None, **experiment.public_spec)
        slots, queue = Slots(self._devices), self.make_queue()
        controller = Controller(
            Actors(slots, queue),
            ActorClass(trainable, self._dies, queue),
            trainable,
            search_alg=search_alg,
            placeholder_resolvers=resolvers,
            scheduler=scheduler,
            stopper=experiment.stopper,
            callbacks=callbacks,
            reuse_actors=True,
            storage=experiment.storage,
        )
        try:
            _run(controller, experiment)
        finally:
            self.most_in_use = max(self.most_in_use, slots.most_in_use)


def _bind(
    actor: type[Trainable],
    given: Mapping[str, Any],
    resources: PlacementGroupFactory,
    open_rank: Callable[[Benchmark], TrialProcess],
) -> type[Trainable]:
    """Make the class of a trial whose `setup` gets these arguments."""

    class Bound(actor):
        def __init__(self, clock: VirtualClock, config: dict[str, Any], storage: Any) -> None:
            self._own_clock = clock
            super().__init__(config, storage)

        def setup(self, config: dict[str, Any]) -> None:
            own = {"clock": self._own_clock} if "clock" in given else {}
            super().setup(config, **{**given, **own})

        def open_ranks(self, benchmark: Benchmark) -> TrialProcess:
            _require_one_rank(benchmark)
            return Timed(lambda: open_rank(benchmark), self._own_clock)

        def get_auto_filled_metrics(self, *about: Any, **more: Any) -> dict[str, Any]:
            """Fill in what Tune counts by; neither dates nor hosts, nor each hyperparameter in each result."""
            return {TRIAL_ID: self.trial_id, TIME_THIS_ITER_S: 0.0, TIME_TOTAL_S: 0.0}

        def _setup_logdir(self) -> None:
            """Make no folder, and do not change to it."""

    Bound.__name__ = actor.__name__
    bound: type[Trainable] = with_resources(Bound, resources)
    return bound


def _require_one_rank(benchmark: Benchmark) -> None:
    """Make sure that a trial needs no other process than this one.

    Raises:
        BenchmarkError: the trials have several ranks.
    """
    if benchmark.ranks_per_trial > 1:
        raise BenchmarkError(
            f"{benchmark.name} has {benchmark.ranks_per_trial} ranks per trial, but a trial in this process has one; "
            "run this benchmark on Ray"
        )


def _run(controller: Controller, experiment: Experiment) -> None:
    """Go through Tune's loop until the study has ended."""
    controller.search_alg.add_configurations([experiment])
    controller.update_max_pending_trials()
    controller.setup_experiments([experiment], total_num_samples=controller.search_alg.total_samples)
    with _without_chatter(), making_trials_directly():
        try:
            while not controller.is_finished():
                controller.step()
        except Exception:
            controller.cleanup()
            raise
        controller.cleanup()


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


class Timed:
    """A rank that really trains, whose time passes on an actor's clock; the same interface as `OwnRank`.

    Args:
        open_rank: makes the rank.
        clock: the actor's.
    """

    def __init__(self, open_rank: Callable[[], TrialProcess], clock: Clock) -> None:
        self._clock = clock
        with self._taking_its_time():
            self._rank = open_rank()

    @contextmanager
    def _taking_its_time(self) -> Iterator[None]:
        began = REAL.now()
        try:
            yield
        finally:
            self._clock.sleep(REAL.now() - began)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the rank that takes its time."""
        method = getattr(self._rank, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self._taking_its_time():
                return method(*arguments, **keywords)

        return timed
