"""ZeRO offload in trials: the optimizer steps on the host, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.check import check
from benchmarks.spec import Benchmark
from benchmarks.training.session import Session

Maker = Callable[..., Benchmark]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
CONFIG = {"learning_rate": 3e-3, "batch_size_per_device": 2, "weight_decay": 0.1, "gradient_accumulation_steps": 2}
LORA = {**CONFIG, "lora_rank": 4}


def offloaded(stage: int, parameters: bool = False, pin_memory: bool = False) -> dict[str, Any]:
    """A stage's configuration with the optimizer on the host, and with the parameters if asked for."""
    block: dict[str, Any] = spec.load_json(spec.HERE / f"zero/stage{stage}.json")
    host = {"device": "cpu", "pin_memory": pin_memory}
    zero = {**block["zero_optimization"], "offload_optimizer": host}
    zero |= {"offload_param": host} if parameters else {}
    return {**block, "zero_optimization": zero, "zero_force_ds_cpu_optimizer": False}


def losses(benchmark: Benchmark, config: dict[str, Any]) -> list[float]:
    session = Session(benchmark)
    session.start(config, seed=3)
    found = [float(session.trial.train_step()) for _ in range(4)]
    found.append(session.evaluate()["eval_loss"])
    session.close()
    return found


@pytest.mark.parametrize(
    ("config", "precision"),
    [(CONFIG, "bf16"), pytest.param(CONFIG, "fp32", marks=pytest.mark.thorough), (LORA, "fp32")],
    ids=["all weights", "all weights, fp32", "lora"],
)
@pytest.mark.parametrize(("stage", "parameters"), [(1, False), (2, False), (3, False), (3, True)])
def test_a_trial_with_offload_has_the_losses_of_one_without(
    stage: int, parameters: bool, config: dict[str, Any], precision: str, small_nano: Maker
) -> None:
    benchmark = small_nano(validation=8, precision=precision, deepspeed=offloaded(stage, parameters))
    check(benchmark)
    assert losses(benchmark, config) == pytest.approx(
        losses(small_nano(validation=8, precision=precision, stage=stage), config),
        abs=1e-5 if precision == "fp32" else 3e-2,
    )


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_paused_trial_with_offload_goes_on_as_if_uninterrupted(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(deepspeed=offloaded(stage)))
    session.start(CONFIG, seed=1)
    session.run_unit()
    session.save(tmp_path)
    uninterrupted = session.run_unit()
    session.start(CONFIG, seed=5)
    session.load(tmp_path)
    assert session.run_unit()["eval_loss"] == uninterrupted["eval_loss"]
    session.close()
