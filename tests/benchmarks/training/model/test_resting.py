"""Evaluation: weights of ZeRO 3 are gathered once, ranks wait for each other only there, and batches fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import spec
from benchmarks.spec import Benchmark, FineTune
from benchmarks.training import memory
from benchmarks.training.batches import Inputs
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.model import resting
from benchmarks.training.model.resting import FIXED_BATCH_SIZE, BatchSize, largest_that_fits
from benchmarks.training.session import Session

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
Maker = Callable[..., Benchmark]
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 16}


@pytest.fixture
def gathers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Weights that DeepSpeed's hooks gather in forward passes."""
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    name, found = "_PartitionedParameterCoordinator__all_gather_params", []
    gather = getattr(PartitionedParameterCoordinator, name)

    def counted(self: Any, weights: Any, forward: bool) -> Any:
        found.append(len(weights))
        return gather(self, weights, forward)

    monkeypatch.setattr(PartitionedParameterCoordinator, name, counted)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_evaluation_at_zero_3_gathers_weights_once_if_they_fit(
    precision: str, small_nano: Maker, gathers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = spec.load_json(spec.HERE / "zero/stage3.json")
    block["zero_optimization"] |= {"stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0}  # as a large model
    session = Session(small_nano(deepspeed=block, precision=precision, eval_batch_size=4, validation=12))
    session.start(CONFIG, seed=0)
    session.trial.train_step()
    gathers.clear()
    scores = session.evaluate()
    assert gathers == []
    losses = [float(session.trial.train_step()) for _ in range(2)]
    monkeypatch.setattr(resting, "fits_whole", lambda module, device: False)
    session.start(CONFIG, seed=0)
    session.trial.train_step()
    gathers.clear()
    assert session.evaluate() == scores
    assert len(gathers) > 100
    assert [float(session.trial.train_step()) for _ in range(2)] == losses
    session.close()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_weights_are_shares_again_after_an_evaluation_that_failed(small_nano: Maker) -> None:
    session = Session(small_nano(stage=3))
    session.start(CONFIG, seed=0)

    def fail() -> None:
        with resting.at_rest(session.trial.engine, torch.device("cpu")):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(weight.ds_persist or weight.data.numel() == 0 for weight in session.trial.engine.module.parameters())
    assert float(session.trial.train_step()) > 0
    session.close()


@pytest.mark.parametrize(
    ("ranks", "is_whole", "synced"), [(1, False, False), (2, True, False), (2, False, True), (8, False, True)]
)
def test_ranks_generate_in_step_where_they_hold_shares_alone(ranks: int, is_whole: bool, synced: bool) -> None:
    """At ZeRO 3 each step gathers weights then; elsewhere a rank ends with its own batch."""
    settings = spec.load("nano").finetune
    assert settings is not None
    tokenizer = SimpleNamespace(pad_token_id=3, eos_token_id=2, batch_decode=lambda rows, **_: [" a "] * len(rows))
    asked: dict[str, Any] = {}

    def generate(**more: Any) -> torch.Tensor:
        asked.update(more)
        return torch.zeros(1, 4, dtype=torch.long)

    inputs = Inputs(3, torch.device("cpu"), frozenset())
    evaluation = Evaluation(settings, tokenizer, inputs, "none", 0, ranks)
    prompts = {"input_ids": torch.ones(1, 3, dtype=torch.long), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    assert evaluation.generate(SimpleNamespace(generate=generate), prompts, None, is_whole) == ["a"]
    assert asked["synced_gpus"] == synced


@pytest.mark.usefixtures("process_group")
class TestTheLargestBatchThatFits:
    @pytest.mark.parametrize(("limit", "found"), [(12, 8), (1, 1), (512, 512), (10_000, 512)])
    def test_is_a_power_of_two(self, limit: int, found: int) -> None:
        def run(size: int) -> None:
            if size > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")

        assert largest_that_fits(run, torch.device("cpu")) == found

    @pytest.mark.parametrize(
        "text", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", "CUDA error: out of memory"]
    )
    def test_is_found_by_whatever_words_tell_of_memory(self, text: str) -> None:
        def run(size: int) -> None:
            if size > 100:
                raise RuntimeError(text)

        assert largest_that_fits(run, torch.device("cpu")) == 64

    def test_is_not_looked_for_after_another_error(self) -> None:
        with pytest.raises(ZeroDivisionError):
            largest_that_fits(lambda size: 1 / 0, torch.device("cpu"))

    def test_is_none_if_not_even_one_sequence_fits(self) -> None:
        def run(size: int) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.raises(torch.OutOfMemoryError):
            largest_that_fits(run, torch.device("cpu"))

    def test_is_looked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tried: list[int] = []
        monkeypatch.setattr(resting, "largest_that_fits", lambda run, device: tried.append(1) or 32)
        size, gpu = BatchSize(), torch.device("cuda", 0)
        assert [size.find(gpu, True, lambda n: n), size.find(gpu, True, lambda n: n)] == [32, 32]
        assert tried == [1]

    @pytest.mark.parametrize(("device", "is_whole"), [("cpu", True), ("cuda:0", False)])
    def test_is_not_tried_where_a_failure_would_do_harm(self, device: str, is_whole: bool) -> None:
        assert BatchSize().find(torch.device(device), is_whole, lambda n: 1 / 0) == FIXED_BATCH_SIZE


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_auto_scores_as_a_batch_size_does(small_nano: Maker) -> None:
    scores = []
    for size in ("auto", FIXED_BATCH_SIZE):
        session = Session(small_nano(eval_batch_size=size))
        session.start(CONFIG, seed=0)
        scores.append(session.evaluate())
        session.close()
    assert scores[0] == scores[1]


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_auto_is_halved_for_a_trial_that_leaves_less_room(small_nano: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch that fitted a trial of LoRA need not fit one of all weights."""
    session = Session(small_nano(eval_batch_size=8))
    session.start(CONFIG, seed=0)
    expected, each = session.evaluate_each("validation")
    session.close()

    def find(size: BatchSize, *_: object) -> int:
        size.found = size.found or 32  # as on a GPU
        return size.found

    tried: list[int] = []
    logits = Evaluation.reference_logits

    def limited(evaluation: Evaluation, model: Any, examples: Any, prompts: Any) -> Any:
        tried.append(len(examples))
        if len(examples) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(evaluation, model, examples, prompts)

    session = Session(small_nano(eval_batch_size="auto"))
    monkeypatch.setattr(BatchSize, "find", find)
    monkeypatch.setattr(Evaluation, "reference_logits", limited)
    session.start(CONFIG, seed=0)
    assert session.evaluate_each("validation") == (expected, each)
    assert tried[:3] == [32, 16, 8]
    tried.clear()
    session.evaluate()
    assert max(tried) == 8
    session.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", [3, *(pytest.param(stage, marks=pytest.mark.thorough) for stage in (0, 2))])
def test_two_ranks_take_a_batch_that_fits_both(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    """A rank that ran out would wait for the other, which generates other numbers of tokens, and compare steps."""
    benchmark = small_nano(stage=stage, ranks_per_trial=2, eval_batch_size="auto", max_answer_tokens=12)
    (tmp_path / "benchmark.json").write_text(benchmark.model_dump_json())
    command = [sys.executable, str(HERE / "evaluations_of_ranks.py"), str(tmp_path / "benchmark.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = json.loads(done.stdout.strip().splitlines()[-1])
    for _, (ample, small), tried, (before, after), _ in ranks:
        assert tried == [16, 8, 4]
        assert small == pytest.approx(ample, rel=1e-5)
        assert after == before
    assert "another rank ran out of memory" in ranks[0][-1]
    assert "CUDA out of memory (simulated)" in ranks[1][-1]


@pytest.mark.parametrize(("free", "share", "expected"), [(40, 80, 41), (40, 22, 19), (0, 80, 1)])
def test_weights_are_gathered_into_the_share_of_a_trial(
    free: int, share: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another trial on the GPU may not have taken its own share yet."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3)
    monkeypatch.setattr(memory, "gpu_bytes", lambda device: share)
    assert resting.free_bytes(torch.device("cuda", 0)) == expected


def test_a_batch_size_is_a_count_or_auto() -> None:
    nano = spec.load("nano").finetune
    assert nano is not None
    for size in ("auto", 7):
        assert FineTune.model_validate({**nano.model_dump(), "eval_batch_size": size}).eval_batch_size == size
    with pytest.raises(ValueError, match="eval_batch_size"):
        FineTune.model_validate({**nano.model_dump(), "eval_batch_size": "largest"})
    assert replace(BatchSize(), found=3).find(torch.device("cuda", 0), True, lambda n: n) == 3
