"""A study: method x benchmark x seed x budget. Pure; nothing here touches Ray, MLflow or a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import LOSS, TRAIN_LOSS

TRAINING_SEED = "seed"
"""Key by which a proposal gives its trial another seed than the study's."""
SCHEDULE = "schedule"
"""Key by which a proposal gives its trial several configurations, each with the units at which it takes effect."""
CONFIRMS = "confirms"
"""Key of a proposal that holds the two above, where Tune must see one value."""
FRESH = 1
"""Number that sets the seeds of confirmations apart from those of studies."""
MOST_TRAININGS = 1_000_000
"""The largest budget in full trainings; a store cannot hold more trials."""
PLAN = "plan.json"
"""Artifact of a study that holds the plan of the comparison that it was run for."""
PROTOCOL = "2"
"""Version of the rules in docs/protocol.md; studies under one version are comparable."""


Schedule = Sequence[tuple[int, Config]]
"""Configurations that train one model in turn, each with the units trained before it takes effect, the first with 0."""


@dataclass(frozen=True)
class Study:
    """One run of one method as it was asked for.

    Attributes:
        method: the method's name.
        benchmark: the benchmark that is tuned.
        seed: drives searcher, scheduler, model initialisation, dropout and data order.
        budget: full trainings that may be spent, from 1 to `MOST_TRAININGS`.
        gpu_hours: optional cap in device-hours.
        arguments: the method's own arguments.
        variant: the arguments that are not left at their defaults, for people: "searcher=optuna".
        kind: a study searches; a confirmation trains the studies' incumbents and scores them on the test split.
        plan: text of the plan of the comparison that it is run for, see `hpo.analysis.planned`; empty without one.
    """

    method: str
    benchmark: Benchmark
    seed: int = 0
    budget: int = 12
    gpu_hours: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    kind: Literal["study", "confirmation"] = "study"
    plan: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.budget <= MOST_TRAININGS:
            bound = ">= 1" if self.budget < 1 else f"<= {MOST_TRAININGS}"
            raise BenchmarkError(f"budget is {self.budget}, but must be {bound} (full trainings)")
        if not 0 <= self.seed < 2**32:  # numpy's range
            raise BenchmarkError(f"seed is {self.seed}, but must be >= 0 and < 2**32")
        if self.gpu_hours is not None and not 0 < self.gpu_hours < math.inf:
            raise BenchmarkError(f"gpu_hours is {self.gpu_hours:g}, but must be > 0 and finite")

    @property
    def max_units(self) -> int:
        """Resource units of one full training."""
        return self.benchmark.resource.max_units

    @property
    def budget_units(self) -> int:
        """Resource units that may be spent."""
        return self.budget * self.max_units

    @property
    def name(self) -> str:
        """Short name for people, e.g. "asha searcher=optuna seed 0"."""
        if self.kind == "confirmation":
            return f"confirmation of {self.budget} trainings"
        return f"{self.label} seed {self.seed}"

    @property
    def label(self) -> str:
        """The method with its arguments other than the defaults."""
        return " ".join(filter(None, [self.method, self.variant]))

    @property
    def space_digest(self) -> str:
        """Compute the checksum of its search space."""
        return space_digest(self.benchmark)

    def fingerprint(self, benchmark_digest: str) -> str:
        """Compute a checksum of the whole request: studies that share it would repeat each other.

        Args:
            benchmark_digest: see `benchmarks.identity`.
        """
        asked = {
            "benchmark": benchmark_digest,
            "space": self.benchmark.model_dump(mode="json", include={"space", "grid"}),
            "method": self.method,
            "arguments": dict(self.arguments),
            "seed": self.seed,
            "budget": self.budget,
            "gpu_hours": self.gpu_hours,
            "protocol": PROTOCOL,
        }
        return _checksum(asked)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for `json.dumps`."""
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**content, "benchmark": self.benchmark.model_dump(mode="json"), "arguments": dict(self.arguments)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Study:
        """Make a study from the result of `to_json`.

        Raises:
            ValueError, KeyError or TypeError: another version has written it.
        """
        return cls(**{**content, "benchmark": Benchmark.model_validate(content["benchmark"])})

    def full_config(self, config: Config) -> Config:
        """Complete a proposal by the benchmark's default: every hyperparameter of a trial that is logged."""
        return filled_in(self.benchmark, config)


@dataclass(frozen=True)
class SeededSchedule:
    """The seed and schedule of a trial's training.

    Attributes:
        seed: drives its model initialisation, dropout and data order.
        schedule: its configurations, with every hyperparameter that is logged.
    """

    seed: int
    schedule: tuple[tuple[int, Config], ...]

    @property
    def config(self) -> Config:
        """The configuration it starts with."""
        return self.schedule[0][1]

    def config_at(self, units: int) -> Config:
        """Return the configuration that has trained a checkpoint of so many units last; the first for none."""
        return next((config for begin, config in reversed(self.schedule) if begin < units), self.config)


def training_of(study: Study, proposal: Mapping[str, Any]) -> SeededSchedule:
    """Return the training that a proposal, of a method or of a confirmation, asks of its trial."""
    given = {**proposal, **proposal.get(CONFIRMS, {})}
    seed = int(given.get(TRAINING_SEED, study.seed))
    own = {name: value for name, value in given.items() if name not in (TRAINING_SEED, SCHEDULE, CONFIRMS)}
    schedule = given.get(SCHEDULE, [(0, own)])
    return SeededSchedule(seed, tuple((int(units), study.full_config(config)) for units, config in schedule))


def filled_in(benchmark: Benchmark, config: Config) -> Config:
    """Complete a configuration by the benchmark's default: every hyperparameter of a trial that is logged.

    `Benchmark.hyperparameters` also adds the library's own defaults.
    """
    return {**benchmark.default.model_dump(exclude_unset=True), **config}


def space_digest(benchmark: Benchmark) -> str:
    """Compute a checksum of the search space: methods with different spaces are not comparable."""
    return _checksum(benchmark.model_dump(mode="json", include={"space"}))


def default_schedule(benchmark: Benchmark) -> list[tuple[int, Config]]:
    """Return the schedule that is the benchmark's default configuration all the way."""
    return [(0, filled_in(benchmark, {}))]


def schedule_digest(benchmark: Benchmark, schedule: Schedule) -> str:
    """Compute a checksum of a schedule: equal trainings have equal checksums."""
    return _checksum([[units, benchmark.hyperparameters(config).model_dump()] for units, config in schedule])


def fresh_seeds(seed: int, number: int) -> list[int]:
    """Return seeds to confirm the studies of one block: the same for every method, and used by no study.

    Args:
        seed: the block's.
        number: how many; fewer are the first of more.
    """
    return _derived([seed, FRESH], number)


def training_seeds(seed: int, number: int) -> list[int]:
    """Return seeds for trainings of one configuration: the study's own first, the others derived from it."""
    return [seed, *_derived(seed, max(0, number - 1))][:number]


def _derived(entropy: int | list[int], number: int) -> list[int]:
    """Derive seeds with numpy. The import takes a while, so `--help` avoids it."""
    from numpy.random import SeedSequence

    return [int(value) for value in SeedSequence(entropy).generate_state(number)]


def text_checksum(text: str) -> str:
    """Compute a checksum of a text; empty of an empty one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def _checksum(content: Any) -> str:
    return text_checksum(json.dumps(content, sort_keys=True))


def objective(benchmark: Benchmark, metrics: Mapping[str, float]) -> float:
    """Return the value for searchers and schedulers: the benchmark's metric, or the worst there is if diverged.

    NaN never reaches them: comparisons with NaN are false, so ASHA would never stop it and HyperBand promote it.
    """
    if is_diverged(benchmark, metrics):
        return diverged_objective(benchmark)
    return float(metrics[benchmark.metric])


def diverged_objective(benchmark: Benchmark) -> float:
    """Return the objective of a diverged trial, which every sound one beats.

    A loss of `diverged_above` is no sound one. Another metric's worst value may be a sound trial's, so that a diverged
    one is one below it.
    """
    ranking = benchmark.ranking_metric
    if ranking.name == LOSS.name:
        return ranking.worst
    return ranking.worst - 1.0 if ranking.higher_is_better else ranking.worst + 1.0


def is_diverged(benchmark: Benchmark, metrics: Mapping[str, float]) -> bool:
    """Tell whether train or eval loss is not finite, or the eval loss exceeds `diverged_above`."""
    train_loss, eval_loss = metrics.get(TRAIN_LOSS, 0.0), metrics[LOSS.name]  # a unit may train nothing
    return not (math.isfinite(train_loss) and math.isfinite(eval_loss) and eval_loss <= benchmark.diverged_above)


def is_better(benchmark: Benchmark, a: float, b: float) -> bool:
    """Tell whether objective `a` beats `b`."""
    return a < b if benchmark.mode == "min" else a > b
