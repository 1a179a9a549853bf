"""A model larger than a GPU is built in shares from its files, and trains as the whole model does."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BloomConfig, BloomForCausalLM

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training import engine, memory
from benchmarks.training import session as training_session
from benchmarks.training.model import shares
from benchmarks.training.model.shares import needs_shares, share_bytes
from benchmarks.training.session import Session

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
Maker = Callable[..., Benchmark]
CONFIG = {"learning_rate": 3e-3, "batch_size_per_device": 2}
GIB = 2**30
BLOOM_7B1 = BloomConfig(vocab_size=250880, hidden_size=4096, n_layer=30, n_head=32)


@pytest.fixture
def tiny_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model fit the device."""
    monkeypatch.setattr(memory, "gpu_bytes", lambda device: 1)


def losses_and_scores(benchmark: Benchmark, config: dict[str, Any]) -> tuple[list[float], dict[str, float]]:
    session = Session(benchmark)
    session.start({**CONFIG, "learning_rate": 1e-2}, seed=1)
    session.trial.train_step()
    session.start(config, seed=3)
    losses = [float(session.trial.train_step()) for _ in range(4)]
    scores = session.evaluate()
    session.close()
    return losses, scores


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("config", [CONFIG, {**CONFIG, "lora_rank": 4}], ids=["all weights", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_in_shares_trains_as_a_whole_one(
    precision: str, config: dict[str, Any], small_nano: Maker, request: pytest.FixtureRequest
) -> None:
    benchmark = small_nano(stage=3, precision=precision, validation=8)
    whole = losses_and_scores(benchmark, config)
    request.getfixturevalue("tiny_gpu")
    assert losses_and_scores(benchmark, config) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("process_group", "tiny_gpu")
def test_no_rank_ever_holds_the_whole_model(small_nano: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights come as shares out of `from_pretrained`, and none is whole when the engine is made."""
    session, whole = Session(small_nano(stage=3, precision="bf16")), []
    make_engine = engine.make_engine

    def counting(model: Any, *arguments: Any) -> Any:
        whole.append(sum(weight.data.numel() for weight in model.parameters() if not weight.ds_persist))
        return make_engine(model, *arguments)

    monkeypatch.setattr(training_session, "make_engine", counting)
    session.start(CONFIG, seed=0)
    session.close()
    assert whole == [0]


@pytest.mark.slow
@pytest.mark.usefixtures("process_group", "tiny_gpu")
def test_a_trial_in_shares_leaves_nothing(small_nano: Maker) -> None:
    session = Session(small_nano(stage=3, unit_samples=16))
    session.start(CONFIG, seed=0)
    session.run_unit()
    alive = [weakref.ref(part) for part in (session.trial.engine, *session.trial.engine.module.parameters())]
    session.close()
    gc.collect()
    assert sum(part() is not None for part in alive) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("process_group", "tiny_gpu")
def test_a_lora_model_in_shares_is_saved_whole(small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(stage=3))
    session.start({**CONFIG, "lora_rank": 4}, seed=0)
    session.trial.train_step()
    session.save_model(tmp_path)
    session.close()
    assert (
        BloomForCausalLM.from_pretrained(tmp_path).num_parameters()
        == BloomForCausalLM(AutoConfig.from_pretrained(tmp_path)).num_parameters()
    )


@pytest.mark.thorough  # the shares of one rank are counted above, those of BLOOM-7B1 on the meta device
def test_each_of_two_ranks_holds_half(small_nano: Maker, tmp_path: Path) -> None:
    benchmark = small_nano(stage=3, precision="bf16", ranks_per_trial=2)
    (tmp_path / "benchmark.json").write_text(benchmark.model_dump_json())
    command = [sys.executable, str(HERE / "shares_of_ranks.py"), str(tmp_path / "benchmark.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for _, held, whole, expected, losses in json.loads(done.stdout.strip().splitlines()[-1]):
        assert whole == 0
        assert held == expected / 2
        assert all(loss > 0 for loss in losses)


@pytest.mark.parametrize(("ranks", "gigabytes"), [(1, 14.1), (2, 7.07), (8, 1.77)])
def test_ranks_share_out_bloom_7b1(ranks: int, gigabytes: float) -> None:
    with torch.device("meta"):
        model = BloomForCausalLM(BLOOM_7B1)
    assert share_bytes(model, ranks, bytes_per_parameter=2) / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize(
    ("stage", "model_gb", "gpu_bytes", "expected"),
    [(3, 14, 80 * GIB, False), (3, 14, 24 * GIB, True), (2, 14, 24 * GIB, False), (3, 140, None, False)],
)
def test_a_model_is_built_in_shares_where_half_a_gpu_does_not_hold_it(
    stage: int, model_gb: int, gpu_bytes: int | None, expected: bool
) -> None:
    assert needs_shares(stage, model_gb * 10**9, gpu_bytes) == expected


def test_weights_to_be_drawn_are_refused_in_shares() -> None:
    with pytest.raises(BenchmarkError, match=r"lacks lm_head\.bias, which each trial would draw"):
        shares.require_no_new_weights("big", ("lm_head.bias",))
