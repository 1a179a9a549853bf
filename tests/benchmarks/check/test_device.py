"""Precision against the devices that trials get."""

from __future__ import annotations

import pytest

from benchmarks.check.device import settle_here, settle_precision
from benchmarks.spec import BenchmarkError, load
from hpo.cluster.devices import Devices, place
from tests.benchmarks.check.models import nano_with
from tests.benchmarks.devices.machines import gpu, machine, put_in

V100 = Devices(4, "Tesla V100-SXM2-16GB", 16, compute_capability=(7, 0))
T4 = Devices(1, "Tesla T4", 8, cpus_per_device=2.0, compute_capability=(7, 5))
A100 = Devices(8, "NVIDIA A100", 64, compute_capability=(8, 0))
UNKNOWN = Devices(8, "GPU", 64, cpus_per_device=4.0)
CORES = Devices(2, None, 2)
STAGE_1 = {"zero_optimization": {"stage": 1}}


@pytest.mark.parametrize(
    ("precision", "devices", "message"),
    [
        ("fp16", CORES, "precision is fp16, but there is no GPU; use fp32, bf16 or auto"),
        (
            "bf16",
            V100,
            r"precision is bf16, but Tesla V100-SXM2-16GB has compute capability 7\.0, and GPUs compute in bf16 from "
            r"8\.0 \(Ampere\) on; use fp16, fp32 or auto",
        ),
        ("bf16", T4, r"precision is bf16, but Tesla T4 has compute capability 7\.5"),
        ("auto", V100, "precision is fp16 and zero_optimization.stage is 0"),
    ],
)
def test_what_the_device_cannot_compute_is_refused(precision: str, devices: Devices, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        place(nano_with(precision=precision), devices)


@pytest.mark.parametrize(
    ("precision", "devices"),
    [
        ("fp32", CORES),
        ("bf16", CORES),
        ("bf16", A100),
        ("auto", A100),
        ("fp32", V100),
        ("fp16", V100),
        ("auto", V100),
    ],
)
def test_what_it_can_compute_passes(precision: str, devices: Devices) -> None:
    place(nano_with(precision=precision, deepspeed=STAGE_1), devices)


@pytest.mark.parametrize(("section", "key"), [("zero_optimization", "zero_quantized_weights"), ("aio", "use_gds")])
def test_keys_of_a_deepspeed_block_that_need_a_gpu_are_refused_without_one(section: str, key: str) -> None:
    block = {"zero_optimization": {"stage": 3}}
    block[section] = {**block.get(section, {}), key: True}
    with pytest.raises(BenchmarkError, match=rf"deepspeed\.{section}\.{key} is true, but there is no GPU, which it"):
        place(nano_with(deepspeed=block), CORES)
    place(nano_with(deepspeed=block), A100)


@pytest.mark.parametrize(("devices", "precision"), [(CORES, "fp32"), (A100, "bf16"), (V100, "fp16"), (T4, "fp16")])
def test_auto_is_settled_for_all_ranks_and_the_study_keeps_the_file_s_word(devices: Devices, precision: str) -> None:
    asked = nano_with(precision="auto", deepspeed=STAGE_1)
    assert place(asked, devices).benchmark.training_settings().precision == precision
    assert asked.training_settings().precision == "auto"


def test_a_gpu_whose_driver_does_not_tell_its_capability_is_not_guessed_at() -> None:
    with pytest.raises(BenchmarkError, match="does not tell the compute capability of GPU; look at nvidia-smi"):
        place(nano_with(precision="auto"), UNKNOWN)


def test_a_fixed_precision_that_auto_does_not_give_here_is_refused() -> None:
    nano = nano_with(precision="auto", deepspeed={"bf16": {"enabled": True}, **STAGE_1})
    place(nano, A100)
    for devices in (CORES, V100):
        with pytest.raises(BenchmarkError, match=r"deepspeed\.bf16\.enabled is True, but the trial has False"):
            place(nano, devices)


def test_a_synthetic_benchmark_needs_no_device() -> None:
    synthetic = load("synthetic")
    assert settle_precision(synthetic, "Tesla V100", (7, 0)) is synthetic


@pytest.mark.parametrize(
    ("description", "precision"),
    [(machine(), "fp32"), (machine(gpu(0), gpu(1)), "bf16"), (machine(gpu(0, "Tesla T4", (7, 5))), "fp16")],
    ids=["cores", "H100", "T4"],
)
def test_commands_that_train_by_themselves_settle_it_on_this_machine(
    description: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, description)
    settled = settle_here(nano_with(precision="auto", deepspeed=STAGE_1))
    assert settled.training_settings().precision == precision
