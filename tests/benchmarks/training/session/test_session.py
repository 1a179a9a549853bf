"""The fine-tuning session, on real DeepSpeed engines and the tiny BLOOM."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, get_scheduler

from benchmarks import spec
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.steps import learning_rate_factor
from benchmarks.training.engine import decay_groups
from benchmarks.training.model import models
from benchmarks.training.session import Session
from tests.benchmarks.training.session.trainer_settings import trainer_settings

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]


def run_script(name: str, *arguments: Path) -> Any:
    """Run a script beside this file in a process of its own; its last line of output as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def digest(session: Session) -> str:
    state = session.trial.engine.module.state_dict()
    return hashlib.sha256(b"".join(state[name].contiguous().numpy().tobytes() for name in sorted(state))).hexdigest()


@pytest.mark.parametrize("stage", [0, *(pytest.param(stage, marks=pytest.mark.thorough) for stage in (1, 2, 3))])
def test_equals_hugging_face_trainer_step_for_step(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    steps, batch = 32, 8
    benchmark = small_nano(unit_samples=steps * batch // 2, max_units=2, stage=stage)
    config = {"learning_rate": 1e-3, "batch_size_per_device": 4, "gradient_accumulation_steps": 2, "weight_decay": 0.1}
    config |= {"warmup_ratio": 0.1, "lr_scheduler": "cosine"}
    arguments = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "weight_decay": 0.1}
    arguments |= {"warmup_steps": 0.1, "lr_scheduler_type": "cosine"}
    settings = trainer_settings(benchmark, tmp_path, steps, **arguments)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings))
    micro_losses = run_script("trainer_reference.py", path)
    session = Session(benchmark)
    session.start(config, seed=3)
    ours = [float(session.trial.train_step()) for _ in range(steps)]
    session.close()
    theirs = [sum(micro_losses[i : i + 2]) for i in range(0, len(micro_losses), 2)]
    assert len(theirs) == steps
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.13])
def test_schedule_equals_transformers(scheduler: str, warmup_ratio: float) -> None:
    hp = Hyperparameters(lr_scheduler=scheduler, warmup_ratio=warmup_ratio)  # type: ignore[arg-type]
    total = 47
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if scheduler == "constant" else scheduler
    reference = get_scheduler(name, optimizer, math.ceil(total * warmup_ratio), total)
    for step in range(total):
        assert learning_rate_factor(step, total, hp) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_accumulated_steps_equal_one_large_batch(small_nano: Maker) -> None:
    session = Session(small_nano())
    losses = {}
    for size, accumulation in ((16, 1), (4, 4)):
        session.start({"batch_size_per_device": size, "gradient_accumulation_steps": accumulation}, seed=0)
        losses[size] = [float(session.trial.train_step()) for _ in range(6)]
    assert losses[16] == pytest.approx(losses[4], abs=1e-5)


def test_a_trial_s_engine_is_gone_with_it(small_nano: Maker) -> None:
    """Engines sit in reference cycles: left to the collector's own pace, dozens of them would pile up."""
    session, engines = Session(small_nano()), []
    for size in (16, 8, 16):
        session.start({"batch_size_per_device": size}, seed=0)
        assert [engine() for engine in engines] == [None] * len(engines)
        engines.append(weakref.ref(session.trial.engine))
    session.close()
    assert engines[-1]() is None


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_hyperparameters_reach_the_optimizer(stage: int, small_nano: Maker) -> None:
    session = Session(small_nano(stage=stage))
    session.start({"learning_rate": 7e-4, "weight_decay": 0.05, "batch_size_per_device": 16, "adam_beta2": 0.9}, seed=0)
    session.trial.train_step()
    decayed, not_decayed = session.trial.engine.optimizer.param_groups
    assert (decayed["lr"], not_decayed["lr"]) == (7e-4, 7e-4)
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.05, 0.0)
    assert decayed["betas"] == (0.9, 0.9)
    assert session.trial.engine.train_micro_batch_size_per_gpu() == 16
    session.close()


def test_weight_decay_changes_weights(small_nano: Maker) -> None:
    session = Session(small_nano())
    digests = set()
    for weight_decay in (0.0, 0.1):
        session.start({"learning_rate": 1e-3, "weight_decay": weight_decay}, seed=0)
        session.trial.train_step()
        session.trial.train_step()
        digests.add(digest(session))
    assert len(digests) == 2


def test_biases_and_norms_are_not_decayed(small_nano: Maker) -> None:
    benchmark = small_nano()
    assert benchmark.finetune is not None
    model = models.load_model(benchmark.finetune.model)
    decayed, not_decayed = decay_groups(model, 0.1)
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in not_decayed["params"])
    assert len(decayed["params"]) + len(not_decayed["params"]) == len(list(model.parameters()))


def test_a_unit_is_the_same_samples_for_every_batch_size(small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=64))
    for size in (4, 8, 16, 32):
        session.start({"batch_size_per_device": size}, seed=0)
        result = session.run_unit()
        assert result["samples_per_second"] * result["train_seconds"] == pytest.approx(64)


def test_third_trial_on_a_warm_rank_is_bitwise_a_fresh_process(small_nano: Maker, tmp_path: Path) -> None:
    trial = ({"learning_rate": 1e-3, "batch_size_per_device": 8}, 3)
    others = [
        ({"learning_rate": 1e-2, "batch_size_per_device": 16, "weight_decay": 0.1}, 0),
        ({"learning_rate": 1e-5}, 7),
    ]
    (tmp_path / "benchmark.json").write_text(small_nano().model_dump_json())
    (tmp_path / "fresh.json").write_text(json.dumps([trial]))
    (tmp_path / "warm.json").write_text(json.dumps([*others, trial]))
    fresh = run_script("trials_in_turn.py", tmp_path / "benchmark.json", tmp_path / "fresh.json")
    warm = run_script("trials_in_turn.py", tmp_path / "benchmark.json", tmp_path / "warm.json")
    assert warm["result"] == fresh["result"]
    assert warm["startup_seconds"] < 0.5


@pytest.mark.parametrize("stage", [0, 2])
def test_saved_and_loaded_training_goes_on_as_if_uninterrupted(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(stage=stage))
    config = {"learning_rate": 1e-3, "batch_size_per_device": 8}
    session.start(config, seed=1)
    session.run_unit()
    session.save(tmp_path)
    uninterrupted = session.run_unit()
    session.start(config, seed=5)
    session.load(tmp_path)
    resumed = session.run_unit()
    assert (resumed["units"], resumed["eval_loss"]) == (2, uninterrupted["eval_loss"])


@pytest.mark.parametrize("stage", [0, 2])
def test_a_restored_trial_takes_the_new_hyperparameters(stage: int, small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano(stage=stage, max_units=4))
    session.start({"learning_rate": 1e-3, "weight_decay": 0.0, "batch_size_per_device": 8}, seed=1)
    session.run_unit()
    session.save(tmp_path)
    session.start({"learning_rate": 2e-3, "weight_decay": 0.1, "batch_size_per_device": 8}, seed=1)
    session.load(tmp_path)
    decayed = session.trial.engine.optimizer.param_groups[0]
    assert (decayed["lr"], decayed["weight_decay"]) == (pytest.approx(2e-3 * 0.75), 0.1)


def test_a_changed_batch_size_keeps_weights_and_moments(small_nano: Maker, tmp_path: Path) -> None:
    session = Session(small_nano())
    session.start({"learning_rate": 1e-3, "batch_size_per_device": 8}, seed=1)
    session.run_unit()
    before = digest(session)
    moment = next(iter(session.trial.engine.optimizer.state.values()))["exp_avg"].clone()
    session.save(tmp_path)
    session.start({"learning_rate": 5e-4, "batch_size_per_device": 16}, seed=1)
    assert digest(session) != before
    session.load(tmp_path)
    assert digest(session) == before
    assert torch.equal(next(iter(session.trial.engine.optimizer.state.values()))["exp_avg"], moment)
    assert session.trial.engine.train_micro_batch_size_per_gpu() == 16
    assert session.run_unit()["units"] == 2


def test_batched_answers_equal_single_ones(small_nano: Maker) -> None:
    session = Session(small_nano())
    session.start({"learning_rate": 1e-3}, seed=0)
    session.run_unit()
    examples = session.examples["validation"]
    assert session.predict(examples) == [session.predict([example])[0] for example in examples]


def test_evaluation_scores_equal_those_of_separate_passes(small_nano: Maker) -> None:
    benchmark = small_nano(eval_batch_size=48)
    session = Session(benchmark)
    session.start({"learning_rate": 1e-3}, seed=0)
    session.run_unit()
    small = Session(small_nano(eval_batch_size=5))
    small.start({"learning_rate": 1e-3}, seed=0)
    small.run_unit()
    first, second = session.evaluate(), small.evaluate()
    assert first["eval_loss"] == pytest.approx(second["eval_loss"], abs=1e-5)
    assert (first["exact_match"], first["f1"]) == (second["exact_match"], pytest.approx(second["f1"]))
    assert first["perplexity"] == pytest.approx(math.exp(first["eval_loss"]))


def test_padding_to_the_maximum_changes_no_result(small_nano: Maker) -> None:
    losses = []
    for pad_to_max in (False, True):
        session = Session(small_nano(pad_to_max=pad_to_max))
        session.start({"learning_rate": 1e-3}, seed=0)
        losses.append(float(session.trial.train_step()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("stage", [0, 2])
def test_bf16_trains(stage: int, small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=32, validation=16, precision="bf16", stage=stage))
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 4}, seed=0)
    assert next(session.trial.engine.module.parameters()).dtype == torch.bfloat16
    losses = [session.run_unit()["eval_loss"] for _ in range(3)]
    assert losses[2] < losses[0]


def test_fp16_without_a_gpu_is_refused(small_nano: Maker) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(BenchmarkError, match="fp16, but there is no GPU"):
        Session(small_nano(precision="fp16"))


def test_an_exploding_trial_reports_nan_and_goes_no_further(small_nano: Maker) -> None:
    session = Session(small_nano())
    session.start({"learning_rate": 1e30, "max_grad_norm": 0.0, "batch_size_per_device": 8}, seed=0)
    result = session.run_unit()
    assert math.isnan(result["eval_loss"])
    assert (result["exact_match"], result["f1"]) == (0.0, 0.0)


def test_the_originals_benchmark_runs_on_local_folders(tmp_path: Path) -> None:
    """bloom_560m_squad.yaml with a small BLOOM of the same class and the nano files in place of hub names."""
    nano, big = spec.load("nano"), spec.load("bloom_560m_squad")
    assert nano.finetune is not None
    assert big.finetune is not None
    tokenizer = models.load_tokenizer(nano.finetune.model)
    torch.manual_seed(0)
    shape = BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=2)
    BloomForCausalLM(shape).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    local = {name: split.model_copy(update={"limit": 40}) for name, split in nano.finetune.data}
    settings = {
        "model": str(tmp_path / "model"),
        "data": nano.finetune.data.model_copy(update=local),
        "ranks_per_trial": 1,
        "precision": "fp32",
    }
    resource = spec.Resource(unit_samples=8, max_units=2)
    benchmark = big.model_copy(update={"finetune": big.finetune.model_copy(update=settings), "resource": resource})
    session = Session(benchmark)
    session.start({"learning_rate": 1e-4, "batch_size_per_device": 2}, seed=0)
    result = session.run_unit()
    assert result["units"] == 1
    assert result["eval_loss"] == pytest.approx(math.log(len(tokenizer)), rel=0.1)  # random weights guess uniformly


@pytest.mark.thorough
@pytest.mark.slow
def test_a_layer_of_bloom_560m_trains_at_its_true_width_and_vocabulary(tmp_path: Path) -> None:
    """One unit of the real benchmark: all that is large in it but the depth."""
    if psutil.virtual_memory().available < 12 * 2**30:
        pytest.skip("takes 12 GiB of memory")
    nano, big = spec.load("nano"), spec.load("bloom_560m_squad")
    assert nano.finetune is not None
    assert big.finetune is not None
    models.load_tokenizer(nano.finetune.model).save_pretrained(tmp_path)
    shape = BloomConfig(vocab_size=250880, hidden_size=1024, n_layer=1, n_head=16)
    BloomForCausalLM(shape).save_pretrained(tmp_path)
    local = {name: split.model_copy(update={"limit": 2}) for name, split in nano.finetune.data}
    settings = {"model": str(tmp_path), "data": nano.finetune.data.model_copy(update=local), "ranks_per_trial": 1}
    changed = big.finetune.model_copy(update={**settings, "max_answer_tokens": 4, "precision": "fp32"})
    resource = spec.Resource(unit_samples=2, max_units=2)
    session = Session(big.model_copy(update={"finetune": changed, "resource": resource}))
    session.start({"learning_rate": 1e-4, "batch_size_per_device": 2}, seed=0)
    result = session.run_unit()
    session.close()
    for loss in (result["train_loss"], result["eval_loss"]):  # random weights guess, and not even uniformly
        assert math.log(250880) < loss < 25
    assert result["peak_memory_mb"] > 16 * 250880 * 1024 / 2**20  # weights, gradients and moments of the embedding


def test_a_model_folder_without_weights_is_refused(tmp_path: Path, small_nano: Maker) -> None:
    with pytest.raises(BenchmarkError, match="cannot be loaded"):
        models.load_model(str(tmp_path))
