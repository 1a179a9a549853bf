"""Filling the "auto" values of a DeepSpeed configuration, and refusing what disagrees with the trial."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import HERE, BenchmarkError
from benchmarks.training.deepspeed import Precision, fill

TRIAL = Hyperparameters(batch_size_per_device=4, gradient_accumulation_steps=3, max_grad_norm=0.5)
STAGES = sorted((HERE / "zero").glob("stage*.json"))


STAGE_1 = {"zero_optimization": {"stage": 1}}
NO_SCALING = (STAGES[0], "fp16")  # refused


def filled(block: dict[str, Any], precision: Precision = "fp32", world_size: int = 2) -> dict[str, Any]:
    return fill(block, TRIAL, precision, world_size, hidden_size=64)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_micro_batch_size_per_gpu", 4),
        ("gradient_accumulation_steps", 3),
        ("train_batch_size", 24),
        ("gradient_clipping", 0.5),
    ],
)
def test_auto_is_the_trials_value(key: str, value: float) -> None:
    assert filled({key: "auto"})[key] == value


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_batch_size_counts_accumulation_and_ranks(world_size: int) -> None:
    assert filled({"train_batch_size": "auto"}, world_size=world_size)["train_batch_size"] == 4 * 3 * world_size


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reduce_bucket_size", 4096),
        ("stage3_prefetch_bucket_size", 3686),
        ("stage3_param_persistence_threshold", 640),
    ],
)
def test_auto_bucket_follows_the_models_width(key: str, value: int) -> None:
    assert filled({"zero_optimization": {"stage": 3, key: "auto"}})["zero_optimization"] == {"stage": 3, key: value}


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16"), [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)]
)
def test_auto_precision_is_the_trials(precision: Precision, bf16: bool, fp16: bool) -> None:
    result = filled({**STAGE_1, "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}, precision)
    assert (result["bf16"], result["fp16"]) == ({"enabled": bf16}, {"enabled": fp16})


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16"), [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)]
)
def test_bare_block_gets_what_training_needs(precision: Precision, bf16: bool, fp16: bool) -> None:
    assert filled(STAGE_1, precision) == {
        **STAGE_1,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 3,
        "gradient_clipping": 0.5,
        "bf16": {"enabled": bf16},
        "fp16": {"enabled": fp16},
        "steps_per_print": 2147483647,
        "timers": {"throughput": {"enabled": False}},  # they wait for the device twice per forward pass
    }


def test_timers_that_are_asked_for_stay() -> None:
    block = {"timers": {"throughput": {"enabled": True}}}
    assert filled({**STAGE_1, **block})["timers"] == block["timers"]
    assert filled({**STAGE_1, "timers": {"throughput": {"synchronized": False}}})["timers"] == {
        "throughput": {"synchronized": False, "enabled": False}
    }


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_precision_block_without_enabled_follows_the_trial(name: Precision) -> None:
    assert filled({**STAGE_1, name: {"initial_scale_power": 8}}, name)[name] == {
        "initial_scale_power": 8,
        "enabled": True,
    }


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"train_micro_batch_size_per_gpu": 8},
            "deepspeed.train_micro_batch_size_per_gpu is 8, but the trial has 4",
        ),
        (
            {"gradient_accumulation_steps": 1},
            "deepspeed.gradient_accumulation_steps is 1, but the trial has 3",
        ),
        ({"train_batch_size": 12}, "deepspeed.train_batch_size is 12, but the trial has 24"),
        ({"gradient_clipping": 1.0}, "deepspeed.gradient_clipping is 1.0, but the trial has 0.5"),
        ({"bf16": {"enabled": True}}, "deepspeed.bf16.enabled is True, but the trial has False"),
        ({"fp16": {"enabled": True}}, "deepspeed.fp16.enabled is True, but the trial has False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_value_that_disagrees_is_refused_with_both_values(block: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=f'^{re.escape(message)}; write "auto" there$'):
        filled(block)


def test_all_values_that_disagree_are_named_at_once() -> None:
    message = r"clipping is 1\.0, but the trial has 0\.5; deepspeed\.train_batch_size is 1, but the trial has 24"
    with pytest.raises(BenchmarkError, match=message):
        filled({"gradient_clipping": 1.0, "train_batch_size": 1})


def test_fixed_values_that_agree_pass() -> None:
    block = {"train_micro_batch_size_per_gpu": 4, "gradient_clipping": 0.5, "fp16": {"enabled": False}}
    assert {key: filled(block)[key] for key in block} == block


def test_bucket_sizes_may_be_fixed() -> None:
    block = {"zero_optimization": {"stage": 3, "reduce_bucket_size": 1000}}
    assert filled(block)["zero_optimization"] == block["zero_optimization"]


def test_keys_that_follow_from_nothing_are_kept() -> None:
    block = {"wall_clock_breakdown": True, "steps_per_print": 5, "comms_logger": {"enabled": True}}
    assert {key: filled(block)[key] for key in block} == block


@pytest.mark.parametrize("name", ["optimizer", "scheduler"])
def test_block_of_what_is_tuned_is_refused(name: str) -> None:
    message = f"deepspeed.{name}: remove this block; the search sets the {name} from `space` and `default`"
    with pytest.raises(BenchmarkError, match=message):
        filled({name: {"type": "AdamW", "params": {"lr": "auto"}}})


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"wall_clock_breakdown": "auto"}, "deepspeed.wall_clock_breakdown"),
        ({"zero_optimization": {"stage": "auto"}}, "deepspeed.zero_optimization.stage"),
        ({"zero_optimization": "auto"}, "deepspeed.zero_optimization"),
        (
            {"zero_optimization": {"offload_param": {"device": "auto"}}},
            "deepspeed.zero_optimization.offload_param.device",
        ),
        ({"fp16": {"loss_scale": "auto"}}, "deepspeed.fp16.loss_scale"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_auto_without_a_meaning_is_refused(block: dict[str, Any], path: str) -> None:
    with pytest.raises(BenchmarkError, match=f'^{re.escape(path)}: "auto" has no meaning here; give a value$'):
        filled(block)


def test_block_itself_is_left_as_it_was() -> None:
    block = {"train_batch_size": "auto", "bf16": {"enabled": "auto"}}
    before = copy.deepcopy(block)
    filled(block)
    assert block == before


def test_every_zero_stage_has_a_file() -> None:
    assert [path.name for path in STAGES] == [f"stage{stage}.json" for stage in range(4)]


@pytest.mark.parametrize(
    ("path", "precision"),
    [(path, precision) for path in STAGES for precision in ("fp32", "bf16", "fp16") if (path, precision) != NO_SCALING],
)
def test_shipped_stage_leaves_no_auto(path: Path, precision: Precision) -> None:
    assert "auto" not in json.dumps(filled(json.loads(path.read_text()), precision))


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_shipped_stage_keeps_its_stage(path: Path) -> None:
    result = filled(json.loads(path.read_text()))
    assert result["zero_optimization"]["stage"] == int(path.stem.removeprefix("stage"))


def test_fp16_at_stage_0_is_refused_because_the_loss_would_not_be_scaled() -> None:
    block = {"zero_optimization": {"stage": 0}}
    with pytest.raises(BenchmarkError, match=r"precision is fp16 and zero_optimization\.stage is 0"):
        fill(block, Hyperparameters(), "fp16", world_size=1, hidden_size=8)
