"""Causal models other than BLOOM: their positions, their caches, and those that are refused."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BartConfig,
    FalconH1Config,
    FalconMambaConfig,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
    RobertaConfig,
    RwkvConfig,
    XLMConfig,
    XLNetConfig,
)

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import IGNORED_LABEL, Example
from benchmarks.training.batches import Inputs
from benchmarks.training.evaluation import Evaluation, choose_caching, require_same_when_padded
from benchmarks.training.model import models
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
    "mamba": MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, bos_token_id=1, eos_token_id=2),
}


def write_model(folder: Path, config: PreTrainedConfig) -> str:
    """Random weights, nano's tokenizer."""
    nano = spec.load("nano").finetune
    assert nano is not None
    tokenizer = models.load_tokenizer(nano.model)
    tokenizer.save_pretrained(folder)
    config.get_text_config().vocab_size = len(tokenizer)
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
    assert first["train_loss"] == pytest.approx(math.log(session.trial.engine.module.config.vocab_size), rel=0.15)
    assert last["train_loss"] < 0.95 * first["train_loss"]


def test_padding_changes_nothing(model: str, session: Session, small_nano: Maker) -> None:
    """Prompts of all lengths in one batch, padded on the left, score and answer as each alone does."""
    session.start({}, seed=0)
    together, answers = session.evaluate(), session.predict(session.examples["validation"][:8])
    alone = Session(small_nano(model=model, eval_batch_size=1))
    alone.start({}, seed=0)
    assert alone.evaluate()["eval_loss"] == pytest.approx(together["eval_loss"], abs=1e-4)
    assert [alone.predict([example])[0] for example in alone.examples["validation"][:8]] == answers
    alone.close()


def test_the_saved_model_loads_anywhere(session: Session, tmp_path: Path) -> None:
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 8}, seed=0)
    session.run_unit()
    session.save_model(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(saved(ids).logits, session.trial.engine.module.eval()(ids).logits)


# ---- how other models take padding and caches

VOCABULARY = 64
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
STATES = {"num_hidden_layers": 2, "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
HEADS = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
WINDOW = {**TINY, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}
CACHES: dict[str, tuple[PreTrainedConfig, str]] = {
    "full": (GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY), "crop"),
    "local layers": (GPTNeoConfig(hidden_size=32, num_layers=2, num_heads=2, vocab_size=VOCABULARY, window_size=16,
                                  attention_types=[[["global", "local"], 1]]), "crop"),
    "sliding window": (MistralConfig(**WINDOW), "copy"),
    "wide window": (MistralConfig(**{**WINDOW, "sliding_window": 512}), "crop"),
    "windows between full layers": (Gemma3TextConfig(**WINDOW), "copy"),
    "text_config": (Gemma3Config(text_config=WINDOW, vision_config={"hidden_size": 16, "intermediate_size": 16,
                    "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}), "copy"),
    "states": (MambaConfig(hidden_size=32, state_size=8, **STATES), "none"),
    "states of heads": (Mamba2Config(hidden_size=32, state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=8,
                        **STATES), "none"),
    "normalised states": (FalconMambaConfig(hidden_size=32, state_size=8, **STATES), "none"),
    "states between attention": (BambaConfig(**TINY, **HEADS, num_key_value_heads=2, attn_layer_indices=[1]), "none"),
    "states beside attention": (FalconH1Config(**TINY, **HEADS, num_key_value_heads=2, mamba_d_ssm=64), "none"),
    "recurrences": (RecurrentGemmaConfig(**{**TINY, "num_hidden_layers": 3}, lru_width=32, attention_window_size=16),
                    "none"),
    "states and attention": (Lfm2Config(**TINY, num_key_value_heads=2, layer_types=["conv", "full_attention"]), "none"),
    "linear attention": (
        Qwen3NextConfig(
            **TINY, num_key_value_heads=2, head_dim=8, num_experts=2, num_experts_per_tok=1,
            linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention"], moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
        "none",
    ),
}  # fmt: skip
EXAMPLES = [Example(list(range(5, 5 + n)), list(range(9, 9 + m)), (), False, False) for n, m in ((20, 3), (31, 5))]


def random_model(config: PreTrainedConfig) -> Any:
    """A model whose weights are large enough for its answers to depend on them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(5)
    return model


def evaluation_of(model: Any) -> Evaluation:
    settings = spec.load("nano").training_settings()
    settings = settings.model_copy(update={"max_answer_tokens": 6, "max_length": 160})
    inputs = Inputs(0, torch.device("cpu"), frozenset(inspect.signature(model.forward).parameters))
    return Evaluation(settings, Words(), inputs, choose_caching(model, settings), rank=0, world_size=1)


class Words:
    """A tokenizer whose words are the numbers of tokens."""

    pad_token_id, eos_token_id = 0, 1

    def batch_decode(self, rows: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return [" ".join(str(i) for i in row if i not in (0, 1)) for row in rows.tolist()]


def logits_alone(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of one sequence without padding, mask, positions or cache."""
    logits: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def answer_alone(model: Any, prompt: list[int]) -> str:
    """The greedy answer, each token by a forward pass over everything before it."""
    ids = list(prompt)
    while len(ids) < len(prompt) + 6 and ids[-1] != 1:
        ids.append(int(logits_alone(model, ids)[-1].argmax()))
    return Words().batch_decode(torch.tensor([ids[len(prompt) :]]), skip_special_tokens=True)[0]


@pytest.mark.parametrize("kind", CACHES)
@torch.no_grad()
def test_loss_and_answers_are_those_of_each_sequence_alone(kind: str) -> None:
    config, caching = CACHES[kind]
    model = random_model(config)
    evaluation = evaluation_of(model)
    assert evaluation.caching == caching
    require_same_when_padded(model, evaluation)
    logits, labels, cache = evaluation.reference_logits(model, EXAMPLES, evaluation.inputs.prompts(EXAMPLES))
    for example, row, label in zip(EXAMPLES, logits, labels, strict=True):
        expected = logits_alone(model, example.prompt + example.target)[len(example.prompt) - 1 : -1]
        torch.testing.assert_close(row[label != IGNORED_LABEL], expected, rtol=1e-4, atol=1e-4)
    assert evaluation.generate(model, evaluation.inputs.prompts(EXAMPLES), cache) == [
        answer_alone(model, example.prompt) for example in EXAMPLES
    ]


@pytest.mark.parametrize(
    "config",
    [
        RobertaConfig(**{**TINY, "is_decoder": True}),
        BartConfig(d_model=32, encoder_layers=2, decoder_layers=2, decoder_attention_heads=2, vocab_size=VOCABULARY,
                   decoder_ffn_dim=64, pad_token_id=0),
        RwkvConfig(hidden_size=32, num_hidden_layers=2, vocab_size=VOCABULARY),
    ],
    ids=["begins at another position", "counts positions of padding", "reads padding"],
)  # fmt: skip
@torch.no_grad()
def test_a_model_that_padding_changes_is_refused(config: PreTrainedConfig) -> None:
    model = random_model(config)
    with pytest.raises(BenchmarkError, match="gives other results for a sequence that is padded on the left"):
        require_same_when_padded(model, evaluation_of(model))


@pytest.mark.parametrize(
    "config",
    [
        XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=64, vocab_size=VOCABULARY, is_decoder=True),
        XLMConfig(emb_dim=32, n_layers=2, n_heads=4, vocab_size=VOCABULARY, is_decoder=True, pad_index=0),
    ],
    ids=["xlnet", "xlm"],
)
@torch.no_grad()
def test_a_model_that_reads_later_tokens_is_refused(config: PreTrainedConfig) -> None:
    model = random_model(config)
    with pytest.raises(BenchmarkError, match="reads tokens that come later"):
        require_same_when_padded(model, evaluation_of(model))


def test_a_model_with_a_text_config_trains(small_nano: Maker, tmp_path: Path) -> None:
    config = copy.deepcopy(CACHES["text_config"][0])
    nano = spec.load("nano").training_settings()
    config.text_config.vocab_size = len(models.load_tokenizer(nano.model))
    session = Session(small_nano(model=write_model(tmp_path, config), unit_samples=16, max_answer_tokens=4))
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 8}, seed=0)
    assert math.isfinite(session.run_unit()["eval_loss"])
    session.save_model(tmp_path / "saved")
    session.close()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").config.text_config.hidden_size == 32
