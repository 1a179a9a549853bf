"""Optimizer steps as the loop, the schedule and Trainer count them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.check import check
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark, BenchmarkError, Resource
from benchmarks.steps import require_a_step, steps_between, total_steps


def nano(unit_samples: int, max_units: int = 1, ranks: int = 1, **space: Any) -> Benchmark:
    """Nano with another resource, and with other domains in its space."""
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    content["resource"] = {"unit_samples": unit_samples, "max_units": max_units}
    content["finetune"]["ranks_per_trial"] = ranks
    content["space"] |= space
    content["grid"] = {}
    return Benchmark.model_validate(content)


def loop(unit_samples: int, units: int, batch: int) -> int:
    """Steps of the training loop, unit by unit."""
    samples = steps = 0
    for unit in range(units):
        for _ in range(steps_between(samples, (unit + 1) * unit_samples, batch)):
            samples, steps = samples + batch, steps + 1
    return steps


@pytest.mark.parametrize(
    ("unit_samples", "units", "batch", "steps"), [(1, 5, 2, 3), (1000, 1, 16, 63), (8, 1, 16, 1), (24, 1, 16, 2)]
)
def test_half_a_step_is_the_same_in_loop_and_schedule(unit_samples: int, units: int, batch: int, steps: int) -> None:
    assert loop(unit_samples, units, batch) == steps
    assert total_steps(nano(unit_samples, units), Hyperparameters(batch_size_per_device=batch)) == steps


def test_loop_and_schedule_never_differ() -> None:
    benchmark = nano(1)
    for unit_samples in range(1, 20):
        for units in range(1, 6):
            for batch in range(1, 2 * unit_samples + 1):
                resource = Resource(unit_samples=unit_samples, max_units=units)
                hp = Hyperparameters(batch_size_per_device=batch)
                steps = total_steps(benchmark.model_copy(update={"resource": resource}), hp)
                assert loop(unit_samples, units, batch) == steps, (unit_samples, units, batch)


def test_samples_beyond_a_boundary_take_no_step() -> None:
    assert steps_between(40, 32, global_batch=16) == 0
    assert steps_between(40, 32, global_batch=2) == 0


class TestABatchThatIsTooLarge:
    def test_twice_the_unit_fits(self) -> None:
        require_a_step(nano(8), Hyperparameters(batch_size_per_device=16), "space")

    def test_more_is_refused_with_the_largest_that_fits(self) -> None:
        hp = Hyperparameters(batch_size_per_device=17, gradient_accumulation_steps=2)
        message = (
            "space has a global batch of 68 samples (batch_size_per_device 17 x gradient_accumulation_steps 2 x "
            "2 ranks), of which resource.unit_samples, 8, is less than half: the first unit would train nothing; the "
            "largest global batch that fits is 16: take batch_size_per_device 4 at most, or set unit_samples to 34 "
            "at least"
        )
        with pytest.raises(BenchmarkError, match=re.escape(message)):
            require_a_step(nano(8, ranks=2), hp, "space")

    def test_where_no_batch_size_fits_the_unit_is_named_alone(self) -> None:
        hp = Hyperparameters(gradient_accumulation_steps=32, batch_size_per_device=1)
        with pytest.raises(BenchmarkError, match="that fits is 16: set unit_samples to 16 at least"):
            require_a_step(nano(8), hp, "space")

    def test_a_space_that_allows_it_is_refused_before_the_start(self) -> None:
        check(nano(8, batch_size_per_device={"type": "choice", "values": [8, 4, 16]}))
        with pytest.raises(BenchmarkError, match="space has a global batch of 32"):
            check(nano(8, batch_size_per_device={"type": "choice", "values": [8, 32, 16]}))
        with pytest.raises(BenchmarkError, match="space has a global batch of 40"):
            check(
                nano(
                    8,
                    batch_size_per_device={"type": "int", "low": 1, "high": 4},
                    gradient_accumulation_steps={"type": "choice", "values": [1, 10]},
                )
            )

    def test_a_default_that_allows_it_is_refused_before_the_start(self) -> None:
        benchmark = nano(8, batch_size_per_device={"type": "choice", "values": [4]})
        default = benchmark.default.model_copy(update={"batch_size_per_device": 64})
        with pytest.raises(BenchmarkError, match="default has a global batch of 64"):
            check(benchmark.model_copy(update={"default": default}))
