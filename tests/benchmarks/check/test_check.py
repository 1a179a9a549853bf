"""A benchmark against its DeepSpeed block and the devices: fixed values that a trial contradicts, precision."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.check import check
from benchmarks.check.device import check_device
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


class TestDevice:
    """Precision against the devices that were found."""

    @pytest.mark.parametrize(
        ("precision", "has_gpu", "best", "message"),
        [
            ("fp16", False, "fp32", "precision is fp16, but there is no GPU"),
            ("fp16", False, None, "precision is fp16, but there is no GPU"),
            ("auto", True, "fp16", "precision is fp16 and zero_optimization.stage is 0"),
        ],
    )
    def test_what_the_device_cannot_compute_is_refused(
        self, precision: str, has_gpu: bool, best: Any, message: str
    ) -> None:
        with pytest.raises(BenchmarkError, match=message):
            check_device(nano_with(precision=precision), has_gpu, best)

    @pytest.mark.parametrize(
        ("precision", "has_gpu", "best"),
        [
            ("fp32", False, "fp32"),
            ("bf16", False, "fp32"),
            ("bf16", True, "fp16"),
            ("auto", True, "bf16"),
            ("auto", True, None),
        ],
    )
    def test_what_it_can_compute_passes(self, precision: str, has_gpu: bool, best: Any) -> None:
        check_device(nano_with(precision=precision), has_gpu, best)

    def test_a_fixed_precision_that_auto_does_not_give_here_is_refused(self) -> None:
        nano = nano_with(precision="auto", deepspeed={"bf16": {"enabled": True}})
        check_device(nano, True, "bf16")
        with pytest.raises(BenchmarkError, match=r"deepspeed\.bf16\.enabled is True, but the trial has False"):
            check_device(nano, False, "fp32")

    def test_a_synthetic_benchmark_needs_no_device(self) -> None:
        check_device(load("synthetic"), False, "fp32")
