"""Memory of model states before a training: by the paper's arithmetic, and by DeepSpeed's own."""

from __future__ import annotations

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from benchmarks.training.memory import MIB
from benchmarks.zero.plan import MemoryPlan, ModelSize, model_size, plan_memory, size_of

MILLION = ModelSize(parameters=MIB, largest_layer=MIB // 4)
"""A parameter a MiB's byte: MiB are then bytes a parameter."""


@pytest.mark.parametrize(
    ("stage", "precision", "ranks", "bytes_each"),
    [
        (None, "fp32", 1, 16),
        (None, "bf16", 1, 16),
        (0, "fp32", 2, 16),
        (0, "bf16", 2, 16),
        (1, "fp16", 1, 16),
        (1, "fp16", 4, 2 + 2 + 12 / 4),
        (1, "fp32", 2, 4 + 4 + 12 / 2),
        (2, "fp32", 2, 4 + 4 / 2 + 12 / 2),
        (3, "fp32", 2, 20 / 2),
    ],
)
def test_states_are_shared_out_as_the_paper_says(
    stage: int | None, precision: str, ranks: int, bytes_each: float
) -> None:
    found = plan_memory(MILLION, stage, False, precision, ranks)  # type: ignore[arg-type]
    assert found == MemoryPlan(pytest.approx(bytes_each), 0.0)


def test_ranks_of_several_nodes_count_together() -> None:
    assert plan_memory(MILLION, 1, False, "fp16", 2, 2) == plan_memory(MILLION, 1, False, "fp16", 4, 1)


def test_16_bit_training_at_stages_2_and_3_is_deepspeed_s_own_estimate() -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    host, device = estimate_zero2_model_states_mem_needs(MIB, 2, 1, cpu_offload=False)
    assert plan_memory(MILLION, 2, False, "bf16", 2) == MemoryPlan(device / MIB, host / 2 / MIB)
    host, device, _ = estimate_zero3_model_states_mem_needs(
        MIB, MIB // 4, 2, 1, cpu_offload=True, cpu_offload_params=True
    )
    assert plan_memory(MILLION, 3, True, "bf16", 2) == MemoryPlan(device / MIB, host / 2 / MIB)


def test_stage_1_keeps_the_gradients_that_it_accumulates() -> None:
    assert plan_memory(MILLION, 1, True, "fp16") == MemoryPlan(2 + 2, 12)


def test_offload_moves_to_the_host_what_it_takes_from_the_device() -> None:
    for stage in (1, 3):
        whole = plan_memory(MILLION, stage, False, "fp32", 2)
        moved = plan_memory(MILLION, stage, True, "fp32", 2)
        assert moved.device_mb < whole.device_mb
        assert moved.device_mb + moved.host_mb == pytest.approx(whole.device_mb + whole.host_mb)


def test_a_model_is_sized_without_its_weights() -> None:
    """nano, beside what its layers add up to: the embedding is tied and counts once."""
    nano = spec.load("nano")
    assert nano.finetune is not None
    found = model_size(nano.finetune.model)
    from benchmarks.training.model.models import load_model

    model = load_model(nano.finetune.model)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.largest_layer == max(sum(p.numel() for p in m.parameters(recurse=False)) for m in model.modules())


def test_bloom_560m_has_the_parameters_it_is_known_for() -> None:
    """The architecture of bigscience/bloom-560m, on the meta device."""
    config = BloomConfig(vocab_size=250880, hidden_size=1024, n_layer=24, n_head=16)
    with torch.device("meta"):
        found = size_of(BloomForCausalLM(config))
    assert found == ModelSize(parameters=559_214_592, largest_layer=250880 * 1024)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(BenchmarkError, match="model /nowhere: its configuration cannot be loaded"):
        model_size("/nowhere")
