"""The executor that runs a study's trials in this process, and Tune's parts for it."""

from __future__ import annotations

import copy
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.train._internal.storage import StorageContext
from ray.tune import PlacementGroupFactory, Trainable, with_resources
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.schedulers.util import _set_search_properties_backwards_compatible as tell_scheduler
from ray.tune.search.util import _set_search_properties_backwards_compatible as tell_searcher

from benchmarks.clock import REAL, Clock
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.own_rank import OwnRank
from benchmarks.trials.trial import TrialProcess
from hpo.cluster.devices import Allotment, Devices
from hpo.cluster.ray import Cluster
from hpo.core.books import Books
from hpo.core.events import Event
from hpo.core.study import Study
from hpo.engine.in_process.actors import ActorClass, Actors, Death, Slots, nobody_dies
from hpo.store.tracker import Tracker

CHANGES_FOLDER = "RAY_CHDIR_TO_TRIAL_DIR"
"""Variable of Ray's: a trial's actor makes its own folder the working directory."""
FOLDER_BEFORE = "TUNE_ORIG_WORKING_DIR"
"""Variable of Tune's, in which an actor notes the working directory it came from."""


# ---- Tune's parts that speak with Ray


class _Controller(TuneController):
    """Tune's controller, on actors in this process."""

    def __init__(self, actors: Actors, dies: Death, **settings: Any) -> None:
        super().__init__(resource_manager_factory=lambda: actors._slots, **settings)
        numbers = iter(range(1, 2**62))
        self._actor_manager = actors
        self._class_cache = SimpleNamespace(get=lambda trainable: ActorClass(trainable, dies, numbers))

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
        order: seeds the lot that decides which trial goes on next.
        dies: decides in which calls an actor dies, for drills.
        open_rank: makes the rank of trials that train; by default it is this process.

    Attributes:
        most_in_use: trials at once at most, in all studies so far.
    """

    def __init__(
        self,
        devices: int,
        order: int = 0,
        dies: Death = nobody_dies,
        open_rank: Callable[[Benchmark], TrialProcess] = OwnRank,
    ) -> None:
        self._devices, self._dies, self._open_rank = devices, dies, open_rank
        self._lot, self.most_in_use = random.Random(order), 0

    @property
    def clock(self) -> Clock:
        """The real clock."""
        return REAL

    def detect(self) -> Devices:
        """Return the devices that were asked for."""
        return Devices(count=self._devices, gpu_name=None, cpus=self._devices)

    @contextmanager
    def open(self, devices: Devices) -> Iterator[Cluster]:
        """Stand in for a running Ray."""
        yield _Here()

    def on(self, cluster: Cluster) -> InProcess:
        """Return this executor: there is nothing to start."""
        return self

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
        experiment = _Experiment(run=_bind(actor, given, resources, self._open_rank), config=space, **settings)
        tell_searcher(search_alg.set_search_properties, None, None, space, **experiment.public_spec)
        tell_scheduler(scheduler.set_search_properties, None, None, **experiment.public_spec)
        slots = Slots(self._devices)
        controller = _Controller(
            Actors(slots, self._lot),
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


def _bind(
    actor: type[Trainable],
    given: Mapping[str, Any],
    resources: PlacementGroupFactory,
    open_rank: Callable[[Benchmark], TrialProcess],
) -> type[Trainable]:
    """Make the class of a trial whose `setup` gets these arguments."""

    class Bound(actor):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, **given)

        def open_ranks(self, benchmark: Benchmark) -> TrialProcess:
            _require_one_rank(benchmark)
            return open_rank(benchmark)

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
        self.run_id, self.began_at = run_id or self.RUN_ID, REAL.epoch()

    @property
    def fault(self) -> str:
        """An empty text, since no store can fail."""
        return ""

    def reopen(self) -> None:
        """Store nothing."""

    def abandon(self) -> None:
        """Store nothing."""

    def resume(self, events: Sequence[Event]) -> None:
        """Store nothing."""

    def tell(self, event: Event, books: Books) -> None:
        """Store nothing."""

    def deliver(self) -> None:
        """Store nothing."""

    def finish(self, books: Books, log: str, on_gpu: bool, status: str) -> None:
        """Store nothing."""
