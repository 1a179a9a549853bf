"""A benchmark against its DeepSpeed block and the devices: fixed values that a trial contradicts, precision."""

from __future__ import annotations

import pytest

from benchmarks.check import check
from benchmarks.spec import BenchmarkError, load, names
from tests.benchmarks.check.models import nano_with


@pytest.mark.parametrize("name", names())
def test_shipped_benchmark_passes(name: str) -> None:
    check(load(name))


def test_fixed_batch_size_that_disagrees_with_a_choice_is_refused() -> None:
    space = {"batch_size_per_device": {"type": "choice", "values": [8, 16]}}
    with pytest.raises(BenchmarkError, match=r"deepspeed\.train_micro_batch_size_per_gpu is 8, but the trial has 16"):
        check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": 8}))


def test_fixed_batch_size_that_disagrees_with_a_range_is_refused() -> None:
    space = {"batch_size_per_device": {"type": "int", "low": 1, "high": 64}}
    default = load("nano").default.batch_size_per_device
    message = f"deepspeed.train_micro_batch_size_per_gpu is {default}, but the trial has"
    with pytest.raises(BenchmarkError, match=message):
        check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": default}))


def test_fixed_batch_size_that_disagrees_with_the_default_is_refused() -> None:
    nano = nano_with(deepspeed={"train_micro_batch_size_per_gpu": 7})
    space = {name: domain for name, domain in nano.space.items() if name != "batch_size_per_device"}
    message = f"train_micro_batch_size_per_gpu is 7, but the trial has {nano.default.batch_size_per_device}"
    with pytest.raises(BenchmarkError, match=message):
        check(nano.model_copy(update={"space": space}))


def test_fixed_batch_size_that_is_the_only_one_passes() -> None:
    space = {"batch_size_per_device": {"type": "choice", "values": [8]}}
    check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": 8}))


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("gradient_accumulation_steps", "gradient_accumulation_steps", [1, 2]),
        ("max_grad_norm", "gradient_clipping", [1.0, 0.5]),
    ],
)
def test_fixed_value_of_anything_tuned_is_refused(name: str, key: str, values: list[float]) -> None:
    space = {name: {"type": "choice", "values": values}}
    with pytest.raises(BenchmarkError, match=rf"deepspeed\.{key} is {values[0]}, but the trial has {values[1]}"):
        check(nano_with(space, deepspeed={key: values[0]}))


def test_precision_in_the_deepspeed_block_must_be_the_benchmarks() -> None:
    with pytest.raises(BenchmarkError, match=r"deepspeed\.bf16\.enabled is True, but the trial has False"):
        check(nano_with(precision="fp32", deepspeed={"bf16": {"enabled": True}}))


def test_precision_left_to_the_device_is_not_checked() -> None:
    check(nano_with(precision="auto", deepspeed={"bf16": {"enabled": True}}))


def test_optimizer_block_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"deepspeed\.optimizer: remove this block"):
        check(nano_with(deepspeed={"optimizer": {"type": "AdamW"}}))
