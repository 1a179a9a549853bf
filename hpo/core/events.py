"""The events of a study: the one account of its trials, from the first device reserved to the last released. Pure.

Each event is a frozen record with its time. A log of them tells the study whole: `hpo.core.books` applies them, live
and again from a file. One line of a log (`hpo.core.event_log`):

    {"event": "ended", "at": 31.5, "trial": "5f1e6_00002", "outcome": "completed", "reason": "reached the full ..."}

Times are in seconds since the study began, and never decrease. `trial` is Tune's trial id, or any other name that is
unique in its study. Devices may be shares: two trials on one device hold 0.5 each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import TokenStatistics
from hpo.core import metrics as stored
from hpo.core.ledger import PARTS
from hpo.core.results import MICRO_BATCH, PRECISION, RECORDS, TOKENS, Outcome
from hpo.core.study import Study, training_of


@dataclass(frozen=True)
class _Timed:
    """A record with its time.

    Attributes:
        at: seconds since the study began.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    at: float


@dataclass(frozen=True)
class _OfTrial(_Timed):
    """A record of one trial.

    Attributes:
        trial: the trial's id.
    """

    trial: str


# ---- devices


@dataclass(frozen=True)
class Reserved(_Timed):
    """Devices were reserved for the study.

    Attributes:
        devices: how many.
        holder: the reservation, such as a SLURM job, if there are several.
        accelerator: name of the devices, if there are several holders.
    """

    devices: float
    holder: str = ""
    accelerator: str = ""


@dataclass(frozen=True)
class Resized(_Timed):
    """The number of reserved devices changed: workers of a cluster join late, and die.

    Attributes:
        devices: how many there are now.
        holder: see `Reserved`.
    """

    devices: float
    holder: str = ""


@dataclass(frozen=True)
class Released(_Timed):
    """Reserved devices were released.

    Attributes:
        holder: see `Reserved`.
    """

    holder: str = ""


# ---- trials


@dataclass(frozen=True)
class Proposed(_OfTrial):
    """A trial was created.

    Attributes:
        number: its place in order of creation, from 0.
        seed: drives its model initialisation, dropout and data order.
        schedule: its complete configurations, each with the units at which it takes effect, the first with 0.
        varies: whether its hyperparameters may change within the trial.
        exploits: number of takeovers that its schedule comes from, if it was trained elsewhere.
        by_model: whether a model of earlier results proposed it; None for methods without one, and if it is not known.
    """

    number: int
    seed: int
    schedule: tuple[tuple[int, Config], ...]
    varies: bool = False
    exploits: int = 0
    by_model: bool | None = None


@dataclass(frozen=True)
class Exploited(_OfTrial):
    """A trial took over another's weights and schedule, and continues with other hyperparameters.

    Attributes:
        donor: id of the other trial.
        units: resource units at which it happened.
        config: the complete configuration from then on.
    """

    donor: str
    units: int
    config: Config


@dataclass(frozen=True)
class Began(_OfTrial):
    """A trial, or another attempt at it, got its devices.

    Attributes:
        devices: how many it holds.
    """

    devices: float


@dataclass(frozen=True)
class Unit(_OfTrial):
    """A trial reported a result.

    Attributes:
        units: resource units it has reached.
        objective: the result in the searcher's terms.
        diverged: whether the loss is lost.
        metrics: all metrics.
        seconds: seconds since the trial's last event, by part, see `hpo.core.ledger.PARTS`.
        trained: resource units that the result stands for; more than 1 only in studies that ran elsewhere.
        tokens: statistics of the data, in an actor's first result.
        precision: the arithmetic: fp32, bf16 or fp16; empty where nothing is trained.
        micro_batch: samples of a forward pass, if the trial was rescued: with its own batch size it ran out of memory.
        records: figures of each record of the test split, if it was scored there; see `hpo.core.results.RECORDS`.
    """

    units: int
    objective: float
    diverged: bool
    metrics: dict[str, float]
    seconds: dict[str, float]
    trained: int = 1
    tokens: tuple[TokenStatistics, ...] = ()
    precision: str = ""
    micro_batch: int | None = None
    records: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint(_OfTrial):
    """A trial wrote a checkpoint: a later failure does not lose the work before it.

    Attributes:
        continues: whether the trial keeps its devices; if not, it is paused.
        seconds: time that the trial waited for it, which no unit reports.
    """

    continues: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Failed(_OfTrial):
    """An attempt at a trial failed: its work since the last checkpoint is lost.

    Attributes:
        reason: cause in one line.
        raised: the error with its traceback; empty if there is none.
        lost_seconds: seconds since the trial's last event on each of its devices; None if the times of the events
            tell them, as they do in studies that run here.
    """

    reason: str
    raised: str = ""
    lost_seconds: float | None = None


@dataclass(frozen=True)
class Retried(_OfTrial):
    """A trial whose attempt failed is tried again.

    Attributes:
        reason: cause of the failure in one line.
    """

    reason: str


@dataclass(frozen=True)
class Ended(_OfTrial):
    """A trial ended.

    Attributes:
        outcome: how.
        reason: why, in a sentence.
    """

    outcome: Outcome
    reason: str


# ---- the study


@dataclass(frozen=True)
class Skipped(_Timed):
    """Proposals were not trained, since they ask for as much memory as a trial that ran out of it.

    Attributes:
        proposals: how many so far.
        of_trial: id that the trial of the last one would have had, where ids are known beforehand.
    """

    proposals: int
    of_trial: str = ""


@dataclass(frozen=True)
class Interrupted(_Timed):
    """The study's driver stopped while trials held devices: their work since their last checkpoints is lost."""


Event = (
    Reserved
    | Resized
    | Released
    | Proposed
    | Exploited
    | Began
    | Unit
    | Checkpoint
    | Failed
    | Retried
    | Ended
    | Skipped
    | Interrupted
)
KINDS: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in Event.__args__}
"""Classes of events by the name that a log gives them."""


# ---- events from Tune's terms


def proposed(
    study: Study,
    trial: str,
    number: int,
    proposal: Mapping[str, Any],
    at: float,
    varies: bool = False,
    by_model: bool | None = None,
) -> Proposed:
    """Make the event of a proposal, of a method or of a confirmation.

    Args:
        study: the study that runs.
        trial: the trial's id.
        number: its place in order of creation.
        proposal: the proposal, which may leave hyperparameters at the benchmark's default.
        at: seconds since the study began.
        varies: whether the method changes hyperparameters within a trial.
        by_model: see `Proposed`.
    """
    training = training_of(study, proposal)
    changes = varies or len(training.schedule) > 1
    return Proposed(at, trial, number, training.seed, training.schedule, changes, by_model=by_model)


def unit(benchmark: Benchmark, trial: str, result: Mapping[str, Any], at: float) -> Unit:
    """Make the event of a trial's result, which has each part of its time as `<part>_seconds`.

    Args:
        benchmark: the benchmark that is tuned.
        trial: the trial's id.
        result: the result as the trial reported it.
        at: seconds since the study began.
    """
    names = (*stored.of_unit(benchmark), *stored.of_test(benchmark))
    return Unit(
        at,
        trial,
        units=int(result["units"]),
        objective=float(result["objective"]),
        diverged=bool(result["diverged"]),
        metrics={key: float(result[key]) for key in names if key in result},
        seconds={part: float(result[f"{part}_seconds"]) for part in PARTS if f"{part}_seconds" in result},
        tokens=tuple(result.get(TOKENS, ())),
        precision=str(result.get(PRECISION, "")),
        micro_batch=result.get(MICRO_BATCH),
        records=dict(result.get(RECORDS, {})),
    )
