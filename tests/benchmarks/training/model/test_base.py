"""The base that trials start from is kept in their precision, and rounds nothing that DeepSpeed would not round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark
from benchmarks.training import engine, memory
from benchmarks.training import session as training_session
from benchmarks.training.model.base import BaseModel, is_kept_on_gpu
from benchmarks.training.model.models import load_base_model
from benchmarks.training.session import Session

Maker = Callable[..., Benchmark]
CPU = torch.device("cpu")
ALL_WEIGHTS = {"learning_rate": 3e-3, "batch_size_per_device": 2, "weight_decay": 0.1}
LORA = {**ALL_WEIGHTS, "lora_rank": 4, "lora_dropout": 0.2}
GIB = 2**30


def losses(benchmark: Benchmark, config: dict[str, Any]) -> list[float]:
    session = Session(benchmark)
    session.start({"learning_rate": 1e-2, "batch_size_per_device": 4}, seed=1)  # another trial leaves the base alone
    session.trial.train_step()
    session.start(config, seed=3)
    found = [float(session.trial.train_step()) for _ in range(4)]
    session.close()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("config", [ALL_WEIGHTS, LORA], ids=["all weights", "lora"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_losses_in_bf16_are_those_of_a_base_in_fp32(
    stage: int, config: dict[str, Any], small_nano: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = small_nano(stage=stage, precision="bf16")
    rounded = losses(benchmark, config)
    monkeypatch.setattr(BaseModel, "kept_for", lambda base, precision, device: base)
    assert losses(benchmark, config) == rounded


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_no_start_of_a_bf16_trial_makes_the_weights_in_fp32(small_nano: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(small_nano(stage=2, precision="bf16"))
    made: list[torch.dtype] = []
    make_engine = engine.make_engine
    monkeypatch.setattr(
        training_session,
        "make_engine",
        lambda model, *others: made.extend(p.dtype for p in model.parameters()) or make_engine(model, *others),
    )
    session.start(ALL_WEIGHTS, seed=0)
    session.close()
    assert set(made) == {torch.bfloat16}


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_lora_model_is_merged_without_rounding(small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(stage=2, precision="bf16"))
    session.start(LORA, seed=0)
    session.trial.train_step()
    session.save_model(tmp_path)
    session.close()
    from safetensors.torch import load_file

    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_copy_shares_no_memory_with_the_base_and_keeps_tied_weights_tied(precision: Any, small_nano: Maker) -> None:
    settings = small_nano().finetune
    assert settings is not None
    base = load_base_model(settings.model).kept_for(precision, CPU)
    model = base.for_trial(Hyperparameters())
    assert model.lm_head.weight is model.transformer.word_embeddings.weight
    mine = {p.data_ptr() for p in (*model.parameters(), *model.buffers())}
    assert not mine & {p.data_ptr() for p in (*base.module.parameters(), *base.module.buffers())}
    for ours, theirs in zip(model.state_dict().values(), base.module.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("parameters", "gpu_gib", "is_kept"),
    [(559e6, 80, True), (559e6, 24, True), (559e6, 8, False), (7.07e9, 80, False), (7.07e9, 141, True)],
)
def test_a_base_stays_on_the_gpu_where_it_takes_a_tenth_at_most(parameters: float, gpu_gib: int, is_kept: bool) -> None:
    assert is_kept_on_gpu(int(2 * parameters), gpu_gib * GIB) == is_kept


@pytest.mark.parametrize(("gpu_bytes", "moves", "pins"), [(1440, ["cuda"], []), (1439, [], [64, 8])])
def test_a_base_is_moved_to_the_gpu_or_pinned_in_16_bits(
    gpu_bytes: int, moves: list[str], pins: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """72 weights of 2 bytes are a tenth of 1440."""
    moved: list[str] = []
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(memory, "gpu_bytes", lambda device: gpu_bytes)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: moved.append(device.type))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    BaseModel(torch.nn.Linear(8, 8)).kept_for("bf16", torch.device("cuda"))
    assert (moved, [tensor.numel() for tensor in pinned]) == (moves, pins)
    assert {tensor.dtype for tensor in pinned} <= {torch.bfloat16}


def test_a_trial_s_copy_goes_straight_to_its_device() -> None:
    module = BaseModel(torch.nn.Linear(8, 8), (), torch.device("meta")).for_trial(Hyperparameters())
    assert {weight.device.type for weight in module.parameters()} == {"meta"}
