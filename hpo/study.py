"""A study: method x benchmark x seed x budget. Pure; nothing here touches Ray, MLflow or a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.spec import Benchmark, BenchmarkError, Config

TRAINING_SEED = "seed"
"""Key by which a proposal gives its trial another seed than the study's."""
PROTOCOL = "1"
"""Version of the rules in docs/protocol.md; studies under one version are comparable."""


@dataclass(frozen=True)
class Study:
    """What is asked of one run of one method.

    Attributes:
        method: the method's name.
        benchmark: what is tuned.
        seed: drives searcher, scheduler, model initialisation, dropout and data order.
        budget: full trainings that may be spent, at least 1.
        gpu_hours: optional cap in device-hours.
        arguments: the method's own arguments.
        variant: the arguments that are not left at their defaults, for people: "searcher=optuna".
    """

    method: str
    benchmark: Benchmark
    seed: int = 0
    budget: int = 12
    gpu_hours: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise BenchmarkError(f"budget is {self.budget}, but must be >= 1 (full trainings)")
        if not 0 <= self.seed < 2**32:  # numpy's range
            raise BenchmarkError(f"seed is {self.seed}, but must be >= 0 and < 2**32")
        if self.gpu_hours is not None and not self.gpu_hours > 0:
            raise BenchmarkError(f"gpu_hours is {self.gpu_hours:g}, but must be > 0")

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
        return " ".join(filter(None, [self.method, self.variant, f"seed {self.seed}"]))

    def fingerprint(self, benchmark_digest: str) -> str:
        """A checksum of everything that was asked for: studies that share it would repeat each other.

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
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    def full_config(self, config: Config) -> Config:
        """A proposal with what the benchmark's default sets beyond it: everything worth logging of a trial."""
        return {**self.benchmark.default.model_dump(exclude_unset=True), **config}


def training_seeds(seed: int, number: int) -> list[int]:
    """Seeds for trainings of one configuration: the study's own first, the others derived from it."""
    derived = np.random.SeedSequence(seed).generate_state(max(0, number - 1))
    return [seed, *(int(value) for value in derived)][:number]


def objective(benchmark: Benchmark, metrics: Mapping[str, float]) -> float:
    """The value that searchers and schedulers see: the benchmark's metric, or the worst there is if diverged.

    NaN never reaches them: comparisons with NaN are false, so ASHA would never stop it and HyperBand promote it.
    """
    if is_diverged(benchmark, metrics):
        return benchmark.diverged_above if benchmark.mode == "min" else -1.0
    return float(metrics[benchmark.metric])


def is_diverged(benchmark: Benchmark, metrics: Mapping[str, float]) -> bool:
    """Whether train or eval loss is not finite, or the eval loss is beyond `diverged_above`."""
    train_loss, eval_loss = metrics["train_loss"], metrics["eval_loss"]
    return not (math.isfinite(train_loss) and math.isfinite(eval_loss) and eval_loss <= benchmark.diverged_above)


def is_better(benchmark: Benchmark, a: float, b: float) -> bool:
    """Whether objective `a` beats `b`."""
    return a < b if benchmark.mode == "min" else a > b
