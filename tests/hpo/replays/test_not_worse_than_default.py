"""No method is worse than the default configuration, on the recorded curves of nano."""

from __future__ import annotations

import math
import statistics

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.replays.one_study import replay
from hpo.search import registry

SEEDS = range(6)
METHODS = [
    name
    for name in registry.names()
    if name != "default" and not registry.traits_of(name).varies_within_trials  # which no bank can answer
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nano() -> Benchmark:
    return spec.load("nano_recorded")


def losses(benchmark: Benchmark, method: str, budget: int) -> list[float]:
    """Mean loss of each study's incumbent, trained again with fresh seeds; a study without one counts as diverged."""
    studies = [registry.get(method).study(benchmark, seed, budget, None, {}) for seed in SEEDS]
    worst = benchmark.diverged_above
    found = [[one.metrics.get("eval_loss", worst) for one in replay(study, 2, repeats=3).fresh] for study in studies]
    return [statistics.fmean(of_one or [worst]) for of_one in found]


@pytest.fixture(scope="module")
def default(nano: Benchmark) -> list[float]:
    return losses(nano, "default", 1)


@pytest.mark.parametrize("budget", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_at_any_budget(method: str, budget: int, nano: Benchmark, default: list[float]) -> None:
    noise = 2 * statistics.stdev(default) / math.sqrt(len(default))
    found = statistics.fmean(losses(nano, method, budget))
    print(f"{method} at {budget}: {found:.4f}, default {statistics.fmean(default):.4f} +- {noise:.4f}")
    assert found <= statistics.fmean(default) + noise
