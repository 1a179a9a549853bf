"""A bank of the synthetic benchmark: what a recording of it has, without the processes that record."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.banks.training import BankSession, BankTraining, BankUnit
from benchmarks.clock import VirtualClock
from benchmarks.identity import digest
from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import PERPLEXITY
from benchmarks.trials.synthetic import SyntheticTrial

SESSION = BankSession(key="2026-01-01T00:00:00Z 1", accelerator="cpu")


def draw(benchmark: Benchmark, lot: random.Random) -> Config:
    """Draw a configuration of the search space."""
    return {name: _value(domain, lot) for name, domain in benchmark.space.items()}


def _value(domain: Domain, lot: random.Random) -> Scalar:
    if isinstance(domain, Choice):
        return lot.choice(domain.values)
    if isinstance(domain, LogUniform):
        return math.exp(lot.uniform(math.log(domain.low), math.log(domain.high)))
    return lot.randint(domain.low, domain.high) if isinstance(domain, Integer) else lot.uniform(domain.low, domain.high)


def train(benchmark: Benchmark, config: Config, seed: int) -> BankTraining:
    """Train a configuration in full on a clock that jumps."""
    trial = SyntheticTrial(benchmark, VirtualClock())
    trial.start(config, seed)
    units: list[BankUnit] = []
    while len(units) < benchmark.resource.max_units and (not units or math.isfinite(units[-1].metrics["eval_loss"])):
        result = trial.run_unit()
        units.append(
            BankUnit(
                unit=len(units) + 1,
                metrics={metric.name: result[metric.name] for metric in benchmark.metrics},
                train_loss=result["train_loss"],
                train_seconds=result["train_seconds"],
                evaluate_seconds=result["evaluate_seconds"],
            )
        )
    is_sound = math.isfinite(units[-1].metrics["eval_loss"])
    test = {name: value for name, value in trial.evaluate("test").items() if name != PERPLEXITY}
    return BankTraining(
        source="random",
        config=benchmark.complete(config),
        seed=seed,
        session=SESSION.key,
        outcome="completed" if is_sound else "diverged",
        units=tuple(units),
        test=test if is_sound else {},
    )


def bank(benchmark: Benchmark, configs: int, seeds: int, draws: int = 0) -> banks.Bank:
    """Record random configurations, each with all seeds."""
    lot = random.Random(draws)
    drawn = [draw(benchmark, lot) for _ in range(configs)]
    header = banks.Header(
        name=benchmark.name,
        digest=digest(benchmark),
        max_units=benchmark.resource.max_units,
        hyperparameters=tuple(benchmark.complete({})),
        metric=benchmark.metric,
        metrics=tuple(metric.name for metric in benchmark.metrics),
        modes=tuple(metric.mode for metric in benchmark.metrics),
        space={name: domain.model_dump() for name, domain in benchmark.space.items()},
        sessions=(SESSION,),
    )
    return banks.Bank(header, tuple(train(benchmark, config, seed) for config in drawn for seed in range(seeds)))


def content(path: Path, of: str = "synthetic", **changes: Any) -> dict[str, Any]:
    """Return a benchmark that replays the bank in a file, as its YAML has it."""
    source = spec.load(of)
    found = source.model_dump(mode="json", exclude_none=True)
    del found["synthetic"]
    found["recorded"] = {"bank": str(path), "digest": digest(source), **changes.pop("recorded", {})}
    return {**found, "name": "own_recorded", **changes}


def recorded(path: Path, **changes: Any) -> Benchmark:
    """Return the benchmark of `content`."""
    return Benchmark.model_validate(content(path, **changes))
