"""A model that does not fit its share of a GPU is refused before the start."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import spec
from benchmarks.check.room import weight_shapes
from benchmarks.check.share import require_share, state_bytes
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training import memory, session
from benchmarks.training.memory import CONTEXT_BYTES, gpu_bytes, share_bytes, take_share

GIB = 2**30


def sharing(trials_per_gpu: int, lora_rank: int = 0) -> Benchmark:
    nano = spec.load("nano")
    assert nano.finetune is not None
    return nano.model_copy(
        update={
            "finetune": nano.finetune.model_copy(update={"trials_per_gpu": trials_per_gpu, "precision": "bf16"}),
            "default": nano.default.model_copy(update={"lora_rank": lora_rank}),
        }
    )


def states(benchmark: Benchmark, precision: Any = "bf16") -> int:
    assert benchmark.finetune is not None
    return state_bytes(benchmark, benchmark.finetune, precision)


def test_states_take_sixteen_bytes_per_parameter_and_two_per_frozen_one() -> None:
    whole = spec.load("nano").finetune
    assert whole is not None
    parameters = sum(math.prod(shape) for shape in weight_shapes(whole.model).values())
    assert states(sharing(2)) == pytest.approx(16 * parameters, rel=0.01)
    assert 2 * parameters < states(sharing(2, lora_rank=4)) < 10 * parameters
    assert states(sharing(2), "fp32") >= 16 * parameters


def test_what_does_not_fit_names_both_numbers_and_a_cure() -> None:
    needed = states(sharing(2))
    enough = 2 * (needed + CONTEXT_BYTES)
    require_share(sharing(2), "NVIDIA H200", enough)
    with pytest.raises(BenchmarkError, match=r"trials_per_gpu is 2, but .* its share of NVIDIA H200 .* lower trials"):
        require_share(sharing(2), "NVIDIA H200", enough - 2)


def test_a_trial_alone_is_not_looked_at() -> None:
    require_share(sharing(1), "NVIDIA H200", 1)
    require_share(spec.load("synthetic"), "NVIDIA H200", 1)


@pytest.mark.parametrize("processes", [2, 3, 16])
def test_shares_and_contexts_fit_the_gpu_together(processes: int) -> None:
    assert share_bytes(141 * GIB, 1) == 141 * GIB
    assert processes * (share_bytes(141 * GIB, processes) + CONTEXT_BYTES) <= 141 * GIB
    assert share_bytes(GIB, 2) == 0


def test_a_rank_limits_itself_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves a GPU of its own, and a CPU, as they are."""
    told: list[tuple[float, Any]] = []
    card = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append((share, device))
    )
    gpu = torch.device("cuda", 0)
    take_share(gpu, 1)
    take_share(torch.device("cpu"), 2)
    assert told == []
    take_share(gpu, 2)
    assert told == [(pytest.approx(0.5, abs=0.01), gpu)]
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    assert gpu_bytes(gpu) == 40 * GIB


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_session_takes_its_share_before_it_loads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights would come first otherwise, and fill the share of another trial."""
    taken: list[int] = []

    def fail(model: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(memory, "take_share", lambda device, processes: taken.append(processes))
    monkeypatch.setattr(session, "load_tokenizer", fail)
    with pytest.raises(ZeroDivisionError):
        session.Session(sharing(3))
    assert taken == [3]
