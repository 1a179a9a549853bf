"""Errors that tell of memory, demands for memory, and smaller micro-batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from benchmarks import spec
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.out_of_memory import (
    IN_EVALUATION,
    Demand,
    asked,
    demand_of,
    failure_reason,
    in_micro_batches,
    least_demand,
    rescued,
    rescued_schedule,
    sign_in,
    sign_of,
)

NCCL = """torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled cuda error
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
Cuda failure 2 'out of memory'"""


@pytest.mark.parametrize(
    "text",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 15.77 GiB",
        "RuntimeError: CUDA error: out of memory",
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: HIP out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        NCCL,
        "ncclSystemError: Failed to CUDA calloc async 608 bytes",
        "ncclUnhandledCudaError: Failed to CUDA host alloc 6291456 bytes",
        "n1:77:99 [0] NCCL WARN Failed to malloc 4096 bytes",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "RuntimeError: cudaHostAlloc failed: out of memory (2)",
        "srun: error: n1: task 0: Out Of Memory",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "MemoryError",
        "MemoryError: no message",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OSError: [Errno 12] Cannot allocate memory",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch.",
        "slurmstepd: error: Detected 2 oom_kill events in StepId=7.0. Some of the step tasks have been OOM Killed.",
        "Task was killed due to the node running low on memory.",
        "4 Workers (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed due to other reasons",
    ],
)
def test_memory_that_ran_out_is_recognised(text: str) -> None:
    assert sign_in(f"a line before\n{text}\na line after")


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: no memory of this benchmark",
        "a warning: out of memory is near",
        "SystemError: out of memory bounds",
        "RuntimeError: Failed to allocate a port",
        "RuntimeError: CUDA error: device-side assert triggered",
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072",
        "OSError: [Errno 28] No space left on device",
        "CUBLAS_STATUS_EXECUTION_FAILED",
        "Some common causes include: (1) the process was killed by the OOM killer due to high memory usage",
        "its process was ended by SIGKILL",
        "",
    ],
)
def test_other_errors_are_not(text: str) -> None:
    assert sign_in(text) == ""


def test_the_error_within_ray_s_counts() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    wrapped = RayTaskError("step", "traceback", RayTaskError("run_unit", "traceback", error))
    assert sign_of(wrapped) == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert sign_of(OutOfMemoryError("Task was killed due to the node running low on memory."))
    assert sign_of(MemoryError())
    assert not sign_of(ActorDiedError())
    assert not sign_of(RayTaskError("step", "MemoryError: in a traceback", ValueError("other")))


def test_real_allocations_are_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**57)
    assert sign_of(of_torch.value)
    assert sign_of(of_numpy.value)


def test_the_reason_names_the_memory_and_the_configuration() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 15.77 GiB.\nmore")
    told = failure_reason(spec.load("nano"), {"batch_size_per_device": 32, "learning_rate": 1e-3}, error)
    assert told == (
        "out of memory: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 15.77 GiB.; "
        "asked for by batch_size_per_device 32, max_length 160, lora_rank 0, gradient_checkpointing False"
    )
    assert failure_reason(spec.load("nano"), {}, ValueError("other")) == ""
    assert asked(spec.load("synthetic"), {"lora_rank": 4}).startswith("batch_size_per_device 8, lora_rank 4, ")


class TestDemand:
    BASE = Demand(8, 16, True)

    @pytest.mark.parametrize(
        ("other", "covers"),
        [
            (Demand(8, 16, True), True),
            (Demand(16, 16, True), True),
            (Demand(8, math.inf, True), True),
            (Demand(16, 16, False), False),
            (Demand(4, 64, True), False),
            (Demand(64, 8, True), False),
        ],
    )
    def test_covers_what_asks_for_less_in_each_part(self, other: Demand, covers: bool) -> None:
        assert other.covers(self.BASE) == covers

    def test_full_training_asks_for_more_than_any_rank_of_lora(self) -> None:
        full, lora = (demand_of(Hyperparameters(lora_rank=rank)) for rank in (0, 512))
        assert full.covers(lora)
        assert not lora.covers(full)

    @pytest.mark.parametrize(
        ("other", "growth"),
        [
            (Demand(8, 16, True), 1),
            (Demand(2, 4, False), 1),
            (Demand(16, 16, True), 2),
            (Demand(16, 64, True), 8),
            (Demand(2, 64, True), 4),
            (Demand(8, math.inf, True), 2),
        ],
    )
    def test_growth_multiplies_what_is_larger(self, other: Demand, growth: float) -> None:
        assert other.growth_over(self.BASE) == growth

    def test_keeping_activations_counts_twice(self) -> None:
        assert self.BASE.growth_over(Demand(8, 16, False)) == 2

    def test_a_rescued_training_needs_micro_batches_of_1_only(self) -> None:
        benchmark = spec.load("nano")
        config = {"batch_size_per_device": 32, "lora_rank": 4}
        assert least_demand(benchmark, config) == Demand(1, 4, True)
        strict = benchmark.model_copy(update={"rescue": False})
        assert least_demand(strict, config) == Demand(32, 4, True)


class TestRescue:
    @pytest.mark.parametrize(
        ("size", "accumulation", "chain"),
        [
            (16, 1, [(8, 2), (4, 4), (2, 8), (1, 16)]),
            (12, 3, [(6, 6), (3, 12), (1, 36)]),
            (9, 1, [(3, 3), (1, 9)]),
            (15, 2, [(5, 6), (1, 30)]),
            (7, 1, [(1, 7)]),
            (1, 4, []),
        ],
    )
    def test_halves_the_micro_batch_as_far_as_it_goes(
        self, size: int, accumulation: int, chain: list[tuple[int, int]]
    ) -> None:
        hp: Hyperparameters | None
        hp = Hyperparameters(batch_size_per_device=size, gradient_accumulation_steps=accumulation)
        found = []
        while hp := rescued(hp):
            found.append((hp.batch_size_per_device, hp.gradient_accumulation_steps))
        assert found == chain

    def test_an_export_has_the_micro_batch_that_fitted(self) -> None:
        benchmark, config = spec.load("nano"), {"batch_size_per_device": 32, "learning_rate": 1e-3}
        assert in_micro_batches(benchmark, config, None) == config
        expected = {**config, "batch_size_per_device": 8, "gradient_accumulation_steps": 4}
        assert in_micro_batches(benchmark, config, 8) == expected
        assert in_micro_batches(benchmark, {"batch_size_per_device": 8}, 8) == {"batch_size_per_device": 8}

    def test_a_schedule_is_rescued_as_a_whole(self) -> None:
        benchmark, out = spec.load("nano"), "OutOfMemoryError: CUDA out of memory."
        schedule = [(0, {"batch_size_per_device": 32}), (3, {"batch_size_per_device": 16}), (6, {})]
        once = rescued_schedule(benchmark, schedule, out)
        sizes = [(begin, config["batch_size_per_device"]) for begin, config in once if config]
        assert sizes == [(0, 16), (3, 16)]
        twice = rescued_schedule(benchmark, once, out)
        assert twice[1] == (3, {"batch_size_per_device": 8, "gradient_accumulation_steps": 2})
        assert twice[2] == (6, {"batch_size_per_device": 8, "gradient_accumulation_steps": 2})  # the default's 16
        assert rescued_schedule(benchmark, [(0, {"batch_size_per_device": 1})], out) == []
        assert rescued_schedule(benchmark, schedule, "ValueError: other") == []
        assert rescued_schedule(benchmark, schedule, f"MemoryError: {IN_EVALUATION}, {out}") == []
        assert rescued_schedule(benchmark.model_copy(update={"rescue": False}), schedule, out) == []
