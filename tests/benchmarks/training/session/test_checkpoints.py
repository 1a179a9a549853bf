"""A trial that pauses equals one that does not: random states, gradient norm, and units that train nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed import zero
from transformers import BloomConfig, BloomForCausalLM

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.checkpoint.memory import CheckpointMemory
from benchmarks.training.checkpoint.writer import tensor_bytes
from benchmarks.training.model.models import load_tokenizer
from benchmarks.training.process import load_random_states, save_random_states
from benchmarks.training.session import Session

Maker = Callable[..., Benchmark]
UNITS = 3
LORA = {"lora_rank": 4, "lora_dropout": 0.3, "learning_rate": 3e-3, "batch_size_per_device": 8}
ALL_WEIGHTS = {"learning_rate": 1e-3, "batch_size_per_device": 8}


@pytest.fixture(scope="module")
def model_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BLOOM of two small layers whose own dropout is on."""
    folder = tmp_path_factory.mktemp("model")
    nano = spec.load("nano").finetune
    assert nano is not None
    tokenizer = load_tokenizer(nano.model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=2, hidden_dropout=0.2, attention_dropout=0.1
    )
    BloomForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def losses(
    session: Session, config: dict[str, Any], pauses: Path | None = None, memory: CheckpointMemory | None = None
) -> list[tuple[float, float]]:
    """Train and eval loss of each unit; with `pauses`, through a checkpoint and another trial between two units.

    With `memory` the checkpoint is there alone: its files are taken from the disk as soon as they have reached it.
    """
    session.start(config, seed=3)
    found = []
    for unit in range(UNITS):
        result = session.run_unit()
        found.append((result["train_loss"], result["eval_loss"]))
        if pauses is not None:
            session.save(pauses / str(unit), memory)
            if memory is not None:
                memory.wait()
                for file in (pauses / str(unit)).rglob("*.pt"):
                    file.unlink()
            session.start({**config, "learning_rate": 1e-2}, seed=unit)
            session.trial.train_step()
            session.start(config, seed=3)
            session.load(pauses / str(unit), memory)
    session.close()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
class TestATrialThatPausesAtEachUnit:
    @pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (0, "bf16"), (2, "fp32")])
    def test_equals_one_that_does_not_with_dropout_of_lora(
        self, stage: int, precision: str, small_nano: Maker, tmp_path: Path
    ) -> None:
        session = Session(small_nano(unit_samples=16, validation=8, stage=stage, precision=precision))
        assert losses(session, LORA, tmp_path) == losses(session, LORA)

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_equals_one_that_does_not_with_dropout_of_the_model(
        self, checkpointing: bool, model_with_dropout: str, small_nano: Maker, tmp_path: Path
    ) -> None:
        session = Session(small_nano(unit_samples=32, model=model_with_dropout))
        config = {**ALL_WEIGHTS, "gradient_checkpointing": checkpointing}
        assert losses(session, config, tmp_path) == losses(session, config)

    # thorough: held by those that are not, here and above
    @pytest.mark.parametrize(
        ("stage", "precision", "config", "place"),
        [
            (1, "bf16", ALL_WEIGHTS, "memory"),
            (3, "fp32", LORA, "memory"),
            *(
                pytest.param(stage, precision, config, place, marks=pytest.mark.thorough)
                for stage in (0, 1, 2, 3)
                for precision in ("fp32", "bf16")
                for config in (LORA, ALL_WEIGHTS)
                for place in ("memory", "disk")
            ),
        ],
        ids=lambda value: {id(LORA): "lora", id(ALL_WEIGHTS): "all"}.get(id(value)),
    )
    def test_equals_one_that_does_not_from_memory_and_from_the_disk(
        self, stage: int, precision: str, config: dict[str, Any], place: str, small_nano: Maker, tmp_path: Path
    ) -> None:
        session = Session(small_nano(unit_samples=16, validation=8, stage=stage, precision=precision))
        memory = CheckpointMemory() if place == "memory" else None
        assert losses(session, config, tmp_path, memory) == losses(session, config)

    @pytest.mark.parametrize(
        "block",
        [
            {"zero_optimization": {"stage": 1}, "checkpoint": {"use_node_local_storage": True}},
            {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}},
        ],
        ids=["node_local_storage", "gathered_on_save"],
    )
    def test_equals_one_that_does_not_with_keys_about_files(
        self, block: dict[str, Any], small_nano: Maker, tmp_path: Path
    ) -> None:
        session = Session(small_nano(unit_samples=16, validation=8, precision="bf16", deepspeed=block))
        assert losses(session, ALL_WEIGHTS, tmp_path) == losses(session, ALL_WEIGHTS)

    def test_dropout_is_on(self, model_with_dropout: str, small_nano: Maker) -> None:
        """Else the tests above would hold for any random state."""
        session = Session(small_nano(unit_samples=32, model=model_with_dropout))
        session.start(ALL_WEIGHTS, seed=3)
        first = float(session.trial.train_step())
        session.start(ALL_WEIGHTS, seed=3)
        torch.manual_seed(4)
        assert float(session.trial.train_step()) != first
        session.close()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
# thorough: 0 and 3 are the two kinds of files, without and with the frozen weights' shares
@pytest.mark.parametrize("stage", [0, 3, *(pytest.param(stage, marks=pytest.mark.thorough) for stage in (1, 2))])
def test_a_checkpoint_of_lora_has_no_frozen_weight(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    """Nor the output layer, which is the embedding under another name: that alone is half of a small model."""
    session = Session(small_nano(unit_samples=16, stage=stage))
    session.start(LORA, seed=3)
    session.run_unit()
    sizes = session.save(tmp_path)
    trained = sum(weight.numel() for name, weight in named_weights(session) if ".lora_" in name)
    written = sum(tensor_bytes(torch.load(file, weights_only=True)) for file in tmp_path.rglob("*.pt"))
    print(f"LoRA at stage {stage}: {written} bytes for {trained} trained weights, {sum(sizes.values())} in files")
    assert 12 * trained <= written < 21 * trained  # 16 at most, and padding
    session.close()


def named_weights(session: Session) -> list[tuple[str, Any]]:
    module = session.trial.engine.module
    with zero.GatheredParameters(list(module.parameters())):
        return [(name, weight.detach().clone()) for name, weight in module.named_parameters()]


def test_random_states_go_on_where_they_were_saved(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.gauss(), random.random(), np.random.normal(), np.random.random(), float(torch.randn(()))]

    draw()  # leaves half a pair of normal numbers in Python's and numpy's generators
    save_random_states(tmp_path / "states")
    expected = [draw() for _ in range(3)]
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    load_random_states(tmp_path / "states")
    assert [draw() for _ in range(3)] == expected


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (0, "bf16"), (1, "fp32"), (2, "fp32"), (3, "fp32")])
def test_a_clone_clips_by_its_own_gradient_norm(stage: int, precision: str, small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(stage=stage, precision=precision))
    plain: dict[str, Any] = {"learning_rate": 1e-3, "batch_size_per_device": 8}

    def after_a_load(saved: float, own: float) -> float:
        """Weights that one step moves, from a checkpoint of a trial with another norm."""
        session.start({**plain, "max_grad_norm": saved, "adam_epsilon": 1.0}, seed=0)
        session.save(tmp_path / f"{saved}")  # before any step: both checkpoints hold the same weights
        session.start({**plain, "max_grad_norm": own, "adam_epsilon": 1.0}, seed=0)
        session.load(tmp_path / f"{saved}")
        session.trial.train_step()
        return session.evaluate()["eval_loss"]

    assert after_a_load(saved=0.1, own=50.0) == after_a_load(saved=50.0, own=50.0) != after_a_load(50.0, 0.1)
    session.close()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_unit_without_a_step_has_no_train_loss(small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=8, max_units=2))
    session.start({"batch_size_per_device": 16}, seed=0)  # one step trains two units
    first, second = session.run_unit(), session.run_unit()
    assert "train_loss" in first
    assert "train_loss" not in second
    assert second["eval_loss"] == first["eval_loss"]
    with pytest.raises(BenchmarkError, match="the first unit would train nothing"):
        session.start({"batch_size_per_device": 17}, seed=0)
    session.close()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_the_schedule_ends_with_the_last_step_of_half_a_batch(small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=1, max_units=5))
    session.start({"batch_size_per_device": 2, "learning_rate": 3e-4}, seed=0)
    rates = []
    session.trial.engine.module.register_forward_pre_hook(
        lambda module, _: (
            rates.append(session.trial.engine.optimizer.param_groups[0]["lr"]) if module.training else None
        )
    )
    for _ in range(5):
        session.run_unit()
    assert rates == pytest.approx([3e-4, 2e-4, 1e-4])
    session.close()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("stage", [0, 2])
def test_a_clone_accumulates_as_its_own_configuration_says(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    """A donor of three passes per step leaves a clone no pass short: two of 4 are one of 8."""
    session = Session(small_nano(unit_samples=48, max_units=4, stage=stage))
    session.start({"batch_size_per_device": 4, "gradient_accumulation_steps": 3, "learning_rate": 1e-3}, seed=0)
    session.trial.train_step()
    session.save(tmp_path)
    found = []
    for size, passes in ((4, 2), (8, 1)):
        session.start(
            {"batch_size_per_device": size, "gradient_accumulation_steps": passes, "learning_rate": 1e-3}, seed=0
        )
        session.load(tmp_path)
        found.append([float(session.trial.train_step()) for _ in range(3)])
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    session.close()
