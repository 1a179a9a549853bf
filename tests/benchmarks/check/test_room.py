"""Room for checkpoints is looked at before a study starts: the estimate is that of what trials write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.check.room import bytes_per_parameter, checkpoint_bytes, largest_lora_rank, require_room
from benchmarks.space import Choice, Integer
from benchmarks.spec import Benchmark, BenchmarkError

Maker = Callable[..., Benchmark]


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_a_disk_without_room_is_refused_with_value_rule_and_next_step(
    small_nano: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nano = small_nano(stage=1)
    assert nano.finetune is not None
    each = checkpoint_bytes(nano, nano.finetune)
    disk_with(monkeypatch, 10 * each)
    require_room(nano, 10, "pbt", folder=tmp_path)
    with pytest.raises(
        BenchmarkError, match=r"its disk has .* GB free, but pbt may keep 11 checkpoints of .* larger disk"
    ):
        require_room(nano, 11, "pbt", folder=tmp_path / "not/there/yet")


def test_curves_need_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    disk_with(monkeypatch, 0)
    require_room(spec.load("synthetic"), 1000, "pbt")


@pytest.mark.parametrize(
    ("stage", "precision", "least"),
    [
        (0, "bf16", 14),
        (1, "bf16", 14),
        (2, "fp16", 14),
        (3, "bf16", 12),
        (0, "fp32", 12),
        (1, "fp32", 16),
        (3, "fp32", 12),
    ],
)
def test_bytes_per_parameter_are_those_of_moments_and_weights(stage: int, precision: Any, least: int) -> None:
    assert bytes_per_parameter(stage, precision) == pytest.approx(least, abs=0.25)


@pytest.mark.parametrize(
    ("default", "domain", "rank"),
    [
        (0, None, 0),
        (8, None, 8),
        (0, Choice(type="choice", values=(4, 16)), 16),
        (8, Choice(type="choice", values=(0, 16)), 0),
        (8, Integer(type="int", low=2, high=32), 32),
    ],
)
def test_trials_of_lora_alone_write_less(default: int, domain: Any, rank: int, small_nano: Maker) -> None:
    nano = small_nano()
    changed = nano.model_copy(
        update={
            "default": nano.default.model_copy(update={"lora_rank": default}),
            "space": {**nano.space, **({} if domain is None else {"lora_rank": domain})},
        }
    )
    assert largest_lora_rank(changed) == rank
    assert nano.finetune is not None
    assert (checkpoint_bytes(changed, nano.finetune) < checkpoint_bytes(nano, nano.finetune) / 2) == bool(rank)


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("stage", "precision"),
    [
        (2, "bf16"),
        *(
            pytest.param(stage, precision, marks=pytest.mark.thorough)  # thorough: the one before, and the formula
            for stage in (0, 1, 2, 3)
            for precision in ("fp32", "bf16")
        ),
    ],
)
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_estimate_is_what_a_trial_writes(
    stage: int, precision: str, lora_rank: int, small_nano: Maker, tmp_path: Path
) -> None:
    from benchmarks.training.session import Session

    nano = small_nano(unit_samples=16, stage=stage, precision=precision)
    nano = nano.model_copy(update={"default": nano.default.model_copy(update={"lora_rank": lora_rank})})
    assert nano.finetune is not None
    session = Session(nano)
    session.start({}, 0)
    session.run_unit()
    written = sum(session.save(tmp_path).values())
    session.close()
    estimate = checkpoint_bytes(nano, nano.finetune)
    print(f"stage {stage} in {precision}, LoRA {lora_rank}: {written} bytes written, {estimate} estimated")
    assert written <= estimate <= (1.1 if lora_rank == 0 else 2.5) * written
