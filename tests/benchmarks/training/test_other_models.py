"""Causal models other than BLOOM: absolute positions (GPT-2) and rotary ones with grouped heads (Llama)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

from benchmarks import spec
from benchmarks.spec import Benchmark
from benchmarks.training import models
from benchmarks.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]
SMALL = {
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=160, bos_token_id=1, eos_token_id=2),
    "llama": LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        bos_token_id=1,
        eos_token_id=2,
    ),
}


def write_model(folder: Path, config: PreTrainedConfig) -> str:
    """Random weights, nano's tokenizer."""
    nano = spec.load("nano").finetune
    assert nano is not None
    tokenizer = models.load_tokenizer(nano.model)
    tokenizer.save_pretrained(folder)
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=list(SMALL))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp(request.param), SMALL[request.param])


@pytest.fixture
def session(model: str, small_nano: Maker) -> Iterator[Session]:
    made = Session(small_nano(model=model, eval_batch_size=48))
    yield made
    made.close()


def test_it_learns(session: Session) -> None:
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 8}, seed=0)
    first = session.run_unit()
    for _ in range(2):
        last = session.run_unit()
    assert first["train_loss"] == pytest.approx(math.log(session.engine.module.config.vocab_size), rel=0.15)
    assert last["train_loss"] < 0.9 * first["train_loss"]


def test_padding_changes_nothing(model: str, session: Session, small_nano: Maker) -> None:
    """Prompts of all lengths in one batch, padded on the left, score and answer as each alone does."""
    session.start({}, seed=0)
    together, answers = session.evaluate(), session.predict(session.examples("validation")[:8])
    alone = Session(small_nano(model=model, eval_batch_size=1))
    alone.start({}, seed=0)
    assert alone.evaluate()["eval_loss"] == pytest.approx(together["eval_loss"], abs=1e-4)
    assert [alone.predict([example])[0] for example in alone.examples("validation")[:8]] == answers
    alone.close()


def test_the_saved_model_loads_anywhere(session: Session, tmp_path: Path) -> None:
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 8}, seed=0)
    session.run_unit()
    session.save_model(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(saved(ids).logits, session.engine.module.eval()(ids).logits)
