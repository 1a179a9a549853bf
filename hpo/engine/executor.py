"""Places for a study's trials: Ray's actors here; calls in this process are in `hpo.engine.in_process`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from ray import tune

from benchmarks.clock import REAL, Clock
from hpo.cluster.actors import quick_actors
from hpo.cluster.devices import Devices
from hpo.cluster.ray import Cluster, detect, ray_cluster


class Executor(Protocol):
    """A place for a study's trials: Ray's actors (`OnRay`), or calls in this process (`hpo.engine.in_process`)."""

    @property
    def clock(self) -> Clock:
        """The clock of its studies: real processes take real time, and calls in this process may take none."""

    def detect(self) -> Devices:
        """Find the devices that trials may use."""

    def open(self, devices: Devices) -> AbstractContextManager[Cluster]:
        """Start the place; it ends with the context."""

    def on(self, cluster: Cluster) -> Executor:
        """Return an executor for further studies in the place that is open."""

    def fit(
        self, actor: type[tune.Trainable], given: Mapping[str, Any], resources: tune.PlacementGroupFactory, **plan: Any
    ) -> None:
        """Let Tune run a study to its end.

        Args:
            actor: the class of a trial.
            given: arguments of its `setup`, beside a configuration.
            resources: the devices of a trial.
            plan: further arguments of `ray.tune.run`.
        """


@dataclass(frozen=True)
class OnRay:
    """An executor whose trials are actors of Ray's.

    Attributes:
        cluster: a running Ray; by default the study starts one of its own.
        early: a Ray of the study's own that is starting already.
    """

    cluster: Cluster | None = None
    early: AbstractContextManager[Cluster] | None = None

    @property
    def clock(self) -> Clock:
        """The real clock."""
        return REAL

    def detect(self) -> Devices:
        """Find the devices of this machine, or of the cluster that RAY_ADDRESS names."""
        return detect()

    def open(self, devices: Devices) -> AbstractContextManager[Cluster]:
        """Return the running Ray, or start one."""
        return nullcontext(self.cluster) if self.cluster else self.early or ray_cluster(devices)

    def on(self, cluster: Cluster) -> Executor:
        """Return an executor on this Ray."""
        return OnRay(cluster)

    def fit(
        self, actor: type[tune.Trainable], given: Mapping[str, Any], resources: tune.PlacementGroupFactory, **plan: Any
    ) -> None:
        """Let Tune run a study to its end; see `Executor`.

        `tune.run`, not a Tuner, which pickles callbacks and stopper: they hold the driver's live objects.
        """
        trainable = tune.with_resources(tune.with_parameters(actor, **given), resources)
        with quick_actors():
            tune.run(trainable, reuse_actors=True, raise_on_failed_trial=False, verbose=0, **plan)
