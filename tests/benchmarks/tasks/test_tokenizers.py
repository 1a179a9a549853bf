"""Tokenizers of other kinds than nano's: marks before words, start tokens, files of sentencepiece alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from benchmarks import spec
from benchmarks.check import check
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.question_answering import Answer, Record, prompt_of, read_split, tokenize
from benchmarks.tasks.task import Example
from benchmarks.training.model.models import SAMPLE, load_tokenizer
from benchmarks.training.session import Session
from tests.benchmarks.hub_cache import tokens_of_sample

CONTEXT = "The old mill was the work of Mara Velt. " * 3
RECORD = Record("q0", "Alpha", "Who drew it?", CONTEXT, (Answer("Mara Velt", CONTEXT.index("Mara Velt")),))
WHOLE = f"{prompt_of(RECORD.question, RECORD.context)} Mara Velt"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    records = read_split(spec.load("nano").training_settings().data.validation)
    return [text for record in records[:300] for text in (record.context, record.question)]


def trained(model: Any, trainer: Any, texts: Sequence[str], **parts: Any) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def marked(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer as Llama's: a mark before the text and for each space, nothing kept apart at words."""
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "</s>"], show_progress=False)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first")
    return trained(models.BPE(unk_token="<unk>"), trainer, texts, pre_tokenizer=metaspace, decoder=decoders.Metaspace())


def prepended(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer as Llama's of old: a mark before every text, also one that begins with a space."""
    marks = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    alone = marked(texts).backend_tokenizer
    alone.pre_tokenizer, alone.normalizer = None, marks
    return PreTrainedTokenizerFast(tokenizer_object=alone, eos_token="</s>", unk_token="<unk>")


def always_marked(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer as T5's: words by a unigram model, each with its mark."""
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    return trained(models.Unigram(), trainer, texts, pre_tokenizer=pre_tokenizers.Metaspace())


def byte_level(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer as GPT-2's."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    return trained(
        models.BPE(), trainer, texts, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    )  # fmt: skip


@pytest.mark.parametrize("make", [marked, prepended, always_marked, byte_level])
def test_prompt_and_target_are_the_tokens_of_the_whole_text(
    make: Callable[[Sequence[str]], PreTrainedTokenizerFast], texts: list[str]
) -> None:
    tokenizer = make(texts)
    [example] = tokenize([RECORD], tokenizer, 400, 20, training=True)
    whole = tokenizer(WHOLE, add_special_tokens=False)["input_ids"]
    assert [*example.prompt, *example.target] == [*whole, tokenizer.eos_token_id]
    assert tokenizer.decode(example.target[:-1]).strip().replace(" ", "") in ("MaraVelt", "▁Mara▁Velt")
    assert (
        example.prompt == tokenizer(prompt_of(RECORD.question, RECORD.context), add_special_tokens=False)["input_ids"]
    )


@pytest.mark.parametrize("make", [marked, prepended, always_marked, byte_level])
@pytest.mark.parametrize("training", [True, False])
def test_a_context_that_is_cut_leaves_the_rest_as_it_was(
    training: bool, make: Callable[[Sequence[str]], PreTrainedTokenizerFast], texts: list[str]
) -> None:
    tokenizer = make(texts)
    [whole] = tokenize([RECORD], tokenizer, 400, 20, training)
    lost, target = 7, 20
    [cut] = tokenize([RECORD], tokenizer, len(whole.prompt) + target - lost, target, training)
    assert (whole.truncated, cut.truncated) == (False, True)
    assert len(cut.prompt) == len(whole.prompt) - lost
    places = [i for i in range(len(cut.prompt)) if cut.prompt == [*whole.prompt[:i], *whole.prompt[i + lost :]]]
    if not training:  # one piece is left out, at the context's end
        assert places
    assert cut.target == whole.target
    assert cut.prompt[:8] == whole.prompt[:8]
    assert cut.prompt[-3:] == whole.prompt[-3:]


def with_start_token(tokenizer: PreTrainedTokenizerFast, start: str, end: bool = False) -> PreTrainedTokenizerFast:
    """Let a tokenizer put a token in front of every text, and perhaps one behind it."""
    token = tokenizer.convert_tokens_to_ids(start)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {start if end else ''}".strip(), special_tokens=[(start, token)]
    )
    return tokenizer


@pytest.mark.parametrize("start", ["</s>", "<unk>"], ids=["the end token", "another"])
@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("make", [marked, byte_level])
def test_a_start_token_is_kept_also_where_it_ends_texts_too(
    make: Callable[[Sequence[str]], PreTrainedTokenizerFast], start: str, end: bool, texts: list[str]
) -> None:
    tokenizer = with_start_token(make(texts), start, end)
    [example] = tokenize([RECORD], tokenizer, 400, 20, training=True)
    expected = tokenizer(prompt_of(RECORD.question, RECORD.context))["input_ids"]
    assert example.prompt == (expected[:-1] if end else expected)
    [cut] = tokenize([RECORD], tokenizer, len(example.prompt) + 20 - 7, 20, training=True)
    assert cut.prompt[0] == tokenizer.convert_tokens_to_ids(start)
    assert len(cut.prompt) == len(example.prompt) - 7


# ---- tokenizer.model alone

KINDS: dict[str, tuple[PreTrainedConfig, dict[str, Any]]] = {
    "llama": (LlamaConfig(), {"pad_id": 3}),
    "mistral": (MistralConfig(), {"pad_id": 3}),
    "gemma": (
        GemmaConfig(),
        {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>",
         "bos_piece": "<bos>", "add_dummy_prefix": False},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def sentencepiece_folder(
    request: pytest.FixtureRequest, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder, (config, options) = tmp_path_factory.mktemp(request.param), KINDS[request.param]
    write_sentencepiece(folder, iter(texts), model_type="bpe", **options)
    config.save_pretrained(folder)
    return folder


def write_sentencepiece(folder: Path, texts: Iterator[str], **options: Any) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_prefix=str(folder / "tokenizer"), vocab_size=500, byte_fallback=True,
        remove_extra_whitespaces=False, minloglevel=2, **options,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()


def pieces(folder: Path, text: str) -> list[int]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return list(processor.EncodeAsIds(text))


def examples_of(tokenizer: Any) -> Example:
    return tokenize([RECORD], tokenizer, 400, 20, training=True)[0]


def test_a_tokenizer_of_sentencepiece_alone_gives_its_tokens(sentencepiece_folder: Path) -> None:
    tokenizer = load_tokenizer(str(sentencepiece_folder))
    example = examples_of(tokenizer)
    prompt = example.prompt[1:] if example.prompt[0] == tokenizer.bos_token_id else example.prompt
    assert [*prompt, *example.target] == [*pieces(sentencepiece_folder, WHOLE), tokenizer.eos_token_id]


def test_it_is_saved_as_it_was(sentencepiece_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(sentencepiece_folder))
    tokenizer.save_pretrained(tmp_path)
    assert examples_of(load_tokenizer(str(tmp_path))) == examples_of(tokenizer)


@pytest.mark.slow
def test_one_of_a_model_on_the_hub_gives_its_tokens_too(sentencepiece_folder: Path, tmp_path: Path) -> None:
    found = tokens_of_sample(sentencepiece_folder, tmp_path / "hub", special=False)
    assert found == pieces(sentencepiece_folder, SAMPLE)


def test_one_that_no_class_reads_right_is_refused(tmp_path: Path, texts: list[str]) -> None:
    write_sentencepiece(tmp_path, iter(texts), model_type="unigram", pad_id=3)
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(
        BenchmarkError, match=r"^model \S+: tokenizer\.model, read by \w+, gives other tokens than sentencepiece"
    ):
        load_tokenizer(str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_model_with_a_tokenizer_of_sentencepiece_alone_trains(
    texts: list[str], small_nano: Callable[..., Benchmark], tmp_path: Path
) -> None:
    write_sentencepiece(tmp_path, iter(texts), model_type="bpe", pad_id=3)
    shape = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=500,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    benchmark = small_nano(model=str(tmp_path), unit_samples=16, max_length=320)
    check(benchmark)
    session = Session(benchmark)
    session.start({"learning_rate": 3e-3, "batch_size_per_device": 8}, seed=0)
    assert session.run_unit()["eval_loss"] < 10
    session.close()


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path, texts: list[str]) -> None:
    tokenizer = byte_level(texts)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(BenchmarkError, match="its tokenizer has no end token, which ends an answer; set eos_token"):
        load_tokenizer(str(tmp_path))
