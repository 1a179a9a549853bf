"""The DeepSpeed block: misspelt keys, values that DeepSpeed refuses in every rank, and keys that need each other."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter

from benchmarks.check import check, deepspeed, zero
from benchmarks.space import Space
from benchmarks.spec import BenchmarkError
from tests.benchmarks.check.models import nano_with

CPU = {"device": "cpu"}
NOT_HERE = {
    "Zero": {
        *("cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory", "stage3_gather_fp16_weights_on_model_save"),
        *("zenflow", "save_muon_momentum_buffer_in_memory"),
    }
}
"""Keys of DeepSpeed's blocks that are deprecated, or that go with another optimizer."""


def refused(block: dict[str, Any], message: str, **changes: Any) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        check(nano_with(deepspeed=block, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "place", "near"),
    [
        ({"zero_optimisation": {"stage": 2}}, "deepspeed.zero_optimisation", "zero_optimization"),
        ({"gradient_cliping": 1.0}, "deepspeed.gradient_cliping", "gradient_clipping"),
        ({"zero_optimization": {"stge": 2}}, "deepspeed.zero_optimization.stge", "stage"),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {**CPU, "pin_memori": True}}},
            "deepspeed.zero_optimization.offload_param.pin_memori",
            "pin_memory",
        ),
        ({"bf16": {"enable": False}}, "deepspeed.bf16.enable", "enabled"),
        ({"fp16": {"loss_scale_windows": 10}}, "deepspeed.fp16.loss_scale_windows", "loss_scale_window"),
        ({"timers": {"throughput": {"enable": False}}}, "deepspeed.timers.throughput.enable", "enabled"),
        ({"activation_checkpointing": {"profil": True}}, "deepspeed.activation_checkpointing.profil", "profile"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_misspelt_key_is_refused_with_the_near_one(
    block: dict[str, Any], place: str, near: str, precision: str
) -> None:
    refused(
        block, rf"^{re.escape(place)}: unknown key; valid here are .*; did you mean `{near}`\?$", precision=precision
    )


@pytest.mark.parametrize("key", ["pipeline", "hybrid_engine", "data_efficiency", "tensor_parallel", "torch_autocast"])
def test_key_that_this_loop_does_not_use_is_refused(key: str) -> None:
    refused({key: {}}, rf"^deepspeed\.{key}: unknown key; valid here are train_batch_size, ")


def test_amp_is_refused_with_what_took_its_place() -> None:
    refused(
        {"amp": {"enabled": True}}, r'^deepspeed\.amp: NVIDIA Apex .* remove the key and set .*`precision: "fp16"`$'
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"zero_optimization": {"stage": 5}}, r"deepspeed\.zero_optimization\.stage: .*0, 1, 2 or 3 \(got 5\)"),
        ({"zero_optimization": {"stage": -1}}, r"deepspeed\.zero_optimization\.stage: .*\(got -1\)"),
        ({"zero_optimization": {"stage": "two"}}, r"deepspeed\.zero_optimization\.stage: .*\(got 'two'\)"),
        ({"zero_optimization": {"reduce_bucket_size": 0}}, r"reduce_bucket_size: .*greater than .*\(got 0\)"),
        ({"zero_optimization": {"overlap_comm": "maybe"}}, r"overlap_comm: must be true or false.*\(got 'maybe'\)"),
        ({"steps_per_print": 0}, r"deepspeed\.steps_per_print: .*\(got 0\)"),
        ({"gradient_allreduce_op": "sum"}, r"deepspeed\.gradient_allreduce_op: .*'mean' \(got 'sum'\)"),
        ({"communication_data_type": "fp64"}, r"deepspeed\.communication_data_type: .*\(got 'fp64'\)"),
        ({"checkpoint": {"tag_validation": "no"}}, r"deepspeed\.checkpoint\.tag_validation: .*\(got 'no'\)"),
        ({"zero_optimization": {"compute_grad_norm": False}}, "compute_grad_norm: false needs stage 1 or 2"),
        (
            {"zero_optimization": {"stage": 1, "legacy_stage1": True}},
            r"legacy_stage1: Input should be False \(got True\)",
        ),
    ],
)
def test_value_out_of_range_is_refused(block: dict[str, Any], message: str) -> None:
    refused(block, message)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"prescale_gradients": "false"}, r"gradients: must be true or false, without quotes \(got 'false'\)$"),
        ({"zero_optimization": {"overlap_comm": "true"}}, "overlap_comm: must be true or false, without quotes"),
        ({"timers": {"throughput": {"enabled": "no"}}}, r"timers\.throughput\.enabled: must be true or false"),
        ({"steps_per_print": "10"}, r"steps_per_print: must be a number, without quotes \(got '10'\)$"),
        ({"gradient_predivide_factor": "2"}, "gradient_predivide_factor: must be a number, without quotes"),
        ({"zero_optimization": {"stage": True}}, r"stage: must be a number \(got True\)$"),
        ({"zero_optimization": {"stage": 3, "reduce_bucket_size": True}}, "reduce_bucket_size: must be a number"),
    ],
)
def test_a_value_of_another_kind_is_refused(block: dict[str, Any], message: str) -> None:
    """DeepSpeed takes the text "false" for true, and raises in each rank where it compares a text with a number."""
    refused(block, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stage": 2, "offload_optimizer": CPU}, r"needs `zero_force_ds_cpu_optimizer: false` at the top"),
        ({"stage": 2, "offload_optimizer": {}}, r"offload_optimizer\.device: Field required"),
        ({"stage": 3, "offload_param": {"pin_memory": True}}, r"offload_param\.device: Field required"),
        ({"stage": 0, "offload_optimizer": CPU}, "offload_optimizer needs stage 1 or higher, but the stage is 0"),
        ({"stage": 2, "offload_param": CPU}, "offload_param needs stage 3 or higher, but the stage is 2"),
        ({"stage": 3, "offload_optimizer": {"device": "nvme"}}, r"needs offload_optimizer\.nvme_path, a folder"),
        ({"stage": 3, "offload_optimizer": {**CPU, "ratio": 0.5}}, r"ratio is 0\.5, which takes DeepSpeed's own Adam"),
        ({"stage": 3, "offload_optimizer": {**CPU, "super_offload": True}}, "super_offload is true, which takes"),
        ({"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/d"}}, 'is "nvme", which needs stage 3'),
        ({"stage": 2, "compute_grad_norm": False, "offload_optimizer": CPU}, "does not go with offload_optimizer"),
        ({"stage": 2, "cpu_offload": True}, "cpu_offload: unknown key; valid here are .*offload_optimizer"),
    ],
)
def test_offload_without_its_key_is_refused(keys: dict[str, Any], message: str) -> None:
    refused({"zero_optimization": keys}, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("elastic_checkpoint", True, "is true, but DeepSpeed cannot load the checkpoints that it then saves, .*; rem"),
        ("load_from_fp32_weights", False, "is false, but a trial in 16 bits would then resume from rounded weights"),
        ("pipeline_loading_checkpoint", True, "is true, but DeepSpeed then loads no checkpoint below stage 3, nor one"),
    ],
)
def test_checkpoints_from_which_no_trial_resumes_as_it_stood_are_refused(key: str, value: bool, message: str) -> None:
    for stage in range(4):
        refused(
            {"zero_optimization": {"stage": stage, key: value}}, rf"deepspeed\.zero_optimization: .*{key} {message}"
        )
    check(nano_with(deepspeed={"zero_optimization": {"stage": 2, key: not value}}))


@pytest.mark.parametrize(
    ("key", "value"), [("load_universal", True), ("parallel_write", {"pipeline_stage": True}), ("writer", {})]
)
def test_other_kinds_of_checkpoints_are_unknown(key: str, value: Any) -> None:
    refused(
        {"checkpoint": {key: value}},
        rf"^deepspeed\.checkpoint\.{key}: unknown key; valid here are tag_validation, use_node_local_storage$",
    )


def test_a_log_level_that_is_none_is_refused_with_the_valid_ones() -> None:
    """DeepSpeed would raise in each rank; upper case it takes as lower case."""
    valid = "'debug', 'info', 'warning', 'error' or 'critical'"
    refused({"log_level": "nonsense"}, rf"^deepspeed\.log_level: Input should be {valid} \(got 'nonsense'\)$")
    refused({"log_level": 10}, rf"^deepspeed\.log_level: Input should be {valid} \(got 10\)$")
    for level in ("debug", "WARNING", None):
        check(nano_with(deepspeed={"log_level": level}))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"fp16": {"fp16_master_weights_and_grads": True}}, "fp16_master_weights_and_grads is true, which takes"),
        ({"bf16": {"bf16_master_weights_and_grads": True}}, "which takes .* or add `bf16_optimizer_states: true`"),
        ({"bf16": {"bf16_optimizer_states": True}}, r"bf16_optimizer_states needs bf16\.bf16_master_weights_and_grads"),
    ],
)
def test_masters_in_16_bits_that_take_another_optimizer_are_refused(block: dict[str, Any], message: str) -> None:
    refused({"zero_optimization": {"stage": 2}, **block}, message)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"prescale_gradients": True}, "prescale_gradients is true"),
        ({"gradient_predivide_factor": 2.0}, "gradient_predivide_factor is 2"),
    ],
)
@pytest.mark.parametrize("stage", [2, 3])
def test_gradients_that_are_reduced_in_shares_are_divided_afterwards(
    stage: int, key: dict[str, Any], said: str
) -> None:
    refused(
        {"zero_optimization": {"stage": stage}, **key},
        f"{said}, which does not go with reduce_scatter at stage {stage}; remove that key, or set",
    )
    check(nano_with(deepspeed={"zero_optimization": {"stage": stage, "reduce_scatter": False}, **key}))
    check(nano_with(deepspeed={"zero_optimization": {"stage": 1}, **key}))


def test_gradients_of_another_type_need_zero() -> None:
    block = {"data_types": {"grad_accum_dtype": "bf16"}}
    refused(block, r"grad_accum_dtype is bf16, but trials train in fp32 at stage 0, .*; remove that key, or take")
    for sound, precision in ((block, "bf16"), (block, "auto"), ({**block, "zero_optimization": {"stage": 1}}, "fp32")):
        check(nano_with(deepspeed=sound, precision=precision))


def test_a_gradient_norm_that_clipping_needs_is_not_left_out() -> None:
    block = {"zero_optimization": {"stage": 2, "compute_grad_norm": False}}
    refused(block, "compute_grad_norm is false, but trials clip gradients at 1; set max_grad_norm to 0, or remove")
    nano = nano_with(deepspeed=block)
    without = nano.model_copy(update={"default": nano.default.model_copy(update={"max_grad_norm": 0.0})})
    check(without)
    space = TypeAdapter(Space).validate_python({"max_grad_norm": {"type": "choice", "values": [0.0, 2.0]}})
    with pytest.raises(BenchmarkError, match="trials clip gradients at 2"):
        check(without.model_copy(update={"space": space}))


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"zero_optimization": {"stage": 2, "offload_optimizer": CPU}, "zero_force_ds_cpu_optimizer": False},
        {"zero_optimization": {"stage": 3, "offload_param": CPU, "reduce_bucket_size": "auto"}},
        {"zero_optimization": {"stage": 1, "reduce_bucket_size": 5e8, "allgather_bucket_size": 0}},
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}}},
        {"bf16": {"enabled": "auto", "check_grad_overflow": False}, "fp16": {"enabled": "auto", "loss_scale": 0}},
        {"wall_clock_breakdown": True, "comms_logger": {"enabled": True, "prof_ops": ["all_reduce"]}},
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_sound_block_passes(block: dict[str, Any], precision: str) -> None:
    check(nano_with(deepspeed=block, precision=precision))


@pytest.mark.slow
class TestAgainstDeepSpeed:
    """The models here are DeepSpeed's own, key by key."""

    @pytest.fixture
    def theirs(self) -> dict[str, type[BaseModel]]:
        from deepspeed.comm.config import CommsLoggerConfig
        from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
        from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig
        from deepspeed.runtime.zero.offload_config import (
            DeepSpeedZeroOffloadOptimizerConfig,
            DeepSpeedZeroOffloadParamConfig,
        )
        from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

        return {
            "Zero": DeepSpeedZeroConfig,
            "OffloadOptimizer": DeepSpeedZeroOffloadOptimizerConfig,
            "OffloadParameters": DeepSpeedZeroOffloadParamConfig,
            "LeafModule": DeepSpeedZeroLeafModuleConfig,
            "Bf16": DeepSpeedBF16Config,
            "Fp16": DeepSpeedFP16Config,
            "CommsLogger": CommsLoggerConfig,
            "ThroughputTimer": DeepSpeedThroughputTimerConfig,
        }

    def test_keys_and_defaults_are_the_same(self, theirs: dict[str, type[BaseModel]]) -> None:
        for name, model in theirs.items():
            ours: type[BaseModel] = getattr(deepspeed, name, None) or getattr(zero, name)
            keys = {field.alias or key for key, field in model.model_fields.items()} - NOT_HERE.get(name, set())
            assert set(ours.model_fields) == keys, name
            for key, field in model.model_fields.items():
                mine = ours.model_fields.get(field.alias or key)
                if mine is not None and not mine.is_required() and isinstance(field.default, bool | int | float):
                    assert mine.default == field.default, (name, key)

    def test_keys_at_the_top_are_in_its_source(self) -> None:
        from pathlib import Path

        import deepspeed as library

        assert library.__file__
        folder = Path(library.__file__).parent
        parts = ("runtime", "monitor", "profiling", "comm", "utils")
        text = "".join(path.read_text() for part in parts for path in (folder / part).rglob("*.py"))
        old_style = ("ActivationCheckpointing", "FlopsProfiler", "Aio", "CheckpointSection", "DataTypes", "Block")
        for model in old_style:
            for key in getattr(deepspeed, model).model_fields:
                assert re.search(rf"""["']{key}["']""", text), (model, key)

    def test_log_levels_are_its_own(self) -> None:
        from deepspeed.utils.logging import log_levels

        [level, _] = get_args(deepspeed.LogLevel)
        assert set(get_args(level)) == set(log_levels)

    def test_removed_keys_are_those_that_it_refuses(self) -> None:
        from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS

        assert set(deepspeed.REMOVED) <= set(_REMOVED_TOP_LEVEL_CONFIG_KEYS)
        assert not set(_REMOVED_TOP_LEVEL_CONFIG_KEYS) & set(deepspeed.Block.model_fields)
