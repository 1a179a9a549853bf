"""16-bit training: skipped steps, loss scaling, and ZeRO 0 beside the other stages; fp16 runs on the CPU here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import spec
from benchmarks.spec import Benchmark
from benchmarks.training import session as session_module
from benchmarks.training.session import Session
from tests.benchmarks.training.session.trainer_settings import trainer_settings

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 2}  # processors without 16 bits take ten times as long


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials train in fp16 without a GPU."""
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    monkeypatch.setattr(session_module, "require_precision", lambda wanted: "fp16")
    monkeypatch.setattr(CPU_Accelerator, "is_fp16_supported", lambda self: True)


def fp16_block(stage: int, initial_scale_power: int, **more: Any) -> dict[str, Any]:
    """A stage's configuration whose first loss scale is 2**initial_scale_power, halved at each overflow."""
    block: dict[str, Any] = spec.load_json(REPOSITORY / f"benchmarks/zero/stage{stage}.json")
    return {**block, "fp16": {"enabled": "auto", "initial_scale_power": initial_scale_power, "hysteresis": 1, **more}}


def spoil_gradients(session: Session) -> None:
    """Let every gradient be NaN, with finite losses."""
    weight = next(p for p in session.trial.engine.module.parameters() if p.requires_grad)
    weight.register_hook(lambda gradient: gradient * math.nan)


def trainer_losses(settings: dict[str, Any], folder: Path) -> list[float]:
    (folder / "settings.json").write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(HERE / "trainer_reference.py"), str(folder / "settings.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.usefixtures("fp16")
@pytest.mark.parametrize(
    "stage", [1, pytest.param(2, marks=pytest.mark.thorough), pytest.param(3, marks=pytest.mark.thorough)]
)
def test_three_skipped_steps_of_sixteen_leave_the_schedule_where_trainer_leaves_it(
    stage: int, small_nano: Maker, tmp_path: Path
) -> None:
    benchmark = small_nano(unit_samples=32, max_units=2, deepspeed=fp16_block(stage, 16))
    arguments = {"per_device_train_batch_size": 4, "warmup_steps": 0.25, "fp16": True}
    settings = trainer_settings(benchmark, tmp_path, 16, **arguments)
    session = Session(benchmark)
    session.start({**CONFIG, "batch_size_per_device": 4, "warmup_ratio": 0.25}, seed=3)
    ours, rates = [], []
    for _ in range(16):
        ours.append(float(session.trial.train_step()))
        rates.append(session.trial.engine.optimizer.param_groups[0]["lr"])
    assert session.trial.engine.skipped_steps == 3
    session.close()
    assert rates[-1] == pytest.approx(1e-3 * (16 - 12) / 12)  # the rate of the thirteenth step
    assert ours == pytest.approx(trainer_losses(settings, tmp_path), abs=2e-2)


@pytest.mark.usefixtures("fp16")
def test_a_unit_counts_its_skipped_steps(small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=16, max_units=2, validation=8, deepspeed=fp16_block(2, 16)))
    session.start(CONFIG, seed=3)
    first, second = session.run_unit(), session.run_unit()
    session.close()
    assert (first["skipped_steps"], second["skipped_steps"]) == (3, 0)
    assert math.isfinite(first["eval_loss"])


@pytest.mark.usefixtures("fp16")
def test_skipped_steps_stay_out_of_the_schedule_after_a_pause(small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(unit_samples=16, max_units=2, validation=8, deepspeed=fp16_block(2, 16)))
    session.start(CONFIG, seed=3)
    session.run_unit()
    session.save(tmp_path)
    uninterrupted = session.run_unit()
    session.start(CONFIG, seed=5)
    session.load(tmp_path)
    resumed = session.run_unit()
    session.close()
    assert resumed["eval_loss"] == uninterrupted["eval_loss"]
    assert resumed["train_loss"] == uninterrupted["train_loss"]


@pytest.mark.usefixtures("fp16")
def test_a_loss_scale_that_can_fall_no_further_ends_the_unit_as_diverged(small_nano: Maker) -> None:
    """DeepSpeed would raise, which counts as a failure that is tried again."""
    session = Session(small_nano(unit_samples=32, max_units=2, deepspeed=fp16_block(2, 3)))
    session.start(CONFIG, seed=3)
    session.trial.train_step()
    spoil_gradients(session)
    result = session.run_unit()
    session.close()
    assert math.isnan(result["eval_loss"])
    assert result["skipped_steps"] >= 3


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_that_are_never_finite_end_a_bf16_trial_as_diverged(stage: int, small_nano: Maker) -> None:
    """DeepSpeed's check for overflow, on by default, would skip each step in silence: losses finite, nothing learnt."""
    session = Session(small_nano(unit_samples=16, stage=stage, precision="bf16"))
    session.start(CONFIG, seed=3)
    spoil_gradients(session)
    result = session.run_unit()
    session.close()
    assert math.isnan(result["eval_loss"])
    assert (result["exact_match"], result["f1"]) == (0.0, 0.0)
    assert result["skipped_steps"] == (8 if stage in (0, 3) else 0)  # these two look at the norm in any case


def test_bf16_at_stage_0_equals_the_other_stages(small_nano: Maker) -> None:
    """To the bit without clipping, whose factor stage 0 rounds in another order."""
    losses = {}
    for stage in (0, 1, 2, 3):
        session = Session(small_nano(stage=stage, precision="bf16"))
        session.start({**CONFIG, "weight_decay": 0.5, "learning_rate": 3e-3, "max_grad_norm": 0.0}, seed=3)
        losses[stage] = [float(session.trial.train_step()) for _ in range(8)]
        session.close()
    assert losses[0] == losses[1] == losses[2] == losses[3]


def test_a_fresh_bf16_optimizer_of_stage_0_has_taken_no_step(small_nano: Maker) -> None:
    session = Session(small_nano(precision="bf16"))
    session.start({**CONFIG, "weight_decay": 0.5}, seed=3)
    engine = session.trial.engine
    assert {float(state["step"]) for state in engine.optimizer.state.values()} <= {0.0}
    for masters, weights in zip(engine.optimizer.fp32_groups, engine.optimizer.fp16_groups, strict=True):
        assert all(torch.equal(a, b.float()) for a, b in zip(masters, weights, strict=True))
    session.close()
