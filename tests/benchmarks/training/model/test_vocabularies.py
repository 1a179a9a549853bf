"""Tokenizers of a vocabulary alone: the file that each class reads, under other names than `tokenizer.model`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
import transformers
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from benchmarks.check.weights import TOKENIZER_FILES, check_folder
from benchmarks.spec import BenchmarkError
from benchmarks.training.model.models import SAMPLE, load_tokenizer
from tests.benchmarks.check.models import model_folder
from tests.benchmarks.hub_cache import tokens_of_sample

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = sorted({word.strip(".?:").lower() for word in SAMPLE.split()} | set(".?:"))
OF_SENTENCEPIECE = {"sentencepiece.bpe.model": "XLMRobertaTokenizer", "spiece.model": "T5Tokenizer"}


def write_sentencepiece(path: Path) -> None:
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([SAMPLE] * 20), model_writer=file, vocab_size=60, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip


def folder_of(tmp_path: Path, kind: str = "", **settings: str) -> Path:
    """Nano's model without its tokenizer, for files of another class."""
    folder = model_folder(tmp_path, without="tokenizer.json")
    content = {**({"tokenizer_class": kind} if kind else {}), **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", OF_SENTENCEPIECE)
def test_other_names_of_sentencepiece_files_give_its_tokens(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, OF_SENTENCEPIECE[name])
    write_sentencepiece(folder / name)
    check_folder(folder)
    tokenizer = load_tokenizer(str(folder))
    found = tokenizer.convert_ids_to_tokens(tokenizer(SAMPLE, add_special_tokens=False)["input_ids"])
    assert found == sentencepiece.SentencePieceProcessor(model_file=str(folder / name)).EncodeAsPieces(SAMPLE)


def test_a_vocabulary_of_words_gives_its_tokens(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "BertTokenizer", eos_token="[SEP]")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    check_folder(folder)
    tokenizer = load_tokenizer(str(folder))
    found = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    assert found[:4] == [(SPECIAL + WORDS).index(word) for word in ("question", ":", "who", "drew")]
    assert tokenizer.unk_token_id not in found


@pytest.mark.parametrize(
    ("kind", "name", "reads"),
    [
        ("GPT2Tokenizer", "vocab.txt", r"vocab\.json"),
        ("XLMRobertaTokenizer", "spiece.model", r"sentencepiece\.bpe\.model or tokenizer\.json"),
        ("XGLMTokenizer", "sentencepiece.bpe.model", r"tokenizer\.json"),
    ],
)
def test_a_file_of_another_class_is_refused(tmp_path: Path, kind: str, name: str, reads: str) -> None:
    """transformers makes a tokenizer of no tokens but the special ones, without a word."""
    folder = folder_of(tmp_path, kind)
    (folder / name).write_text("the\n")
    message = rf"^model \S+: its tokenizer, {kind}, reads {reads}, which is not there; name the class that the files"
    with pytest.raises(BenchmarkError, match=message):
        load_tokenizer(str(folder))


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "CTRLTokenizer", unk_token="<unk>", eos_token="</s>")
    (folder / "vocab.json").write_text(json.dumps({"<unk>": 0, "</s>": 1, "a</w>": 2}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    message = r"^model \S+: its tokenizer, CTRLTokenizer, is a slow one, which tells no offsets; give one with a tok"
    with pytest.raises(BenchmarkError, match=message):
        load_tokenizer(str(folder))


@pytest.mark.slow
def test_one_of_a_model_in_the_cache_gives_its_tokens_without_a_network(tmp_path: Path) -> None:
    folder, name = folder_of(tmp_path, "XLMRobertaTokenizer"), "sentencepiece.bpe.model"
    write_sentencepiece(folder / name)
    found = tokens_of_sample(folder, tmp_path / "hub", special=True)
    assert found == load_tokenizer(str(folder))(SAMPLE)["input_ids"]


@pytest.mark.slow
def test_the_names_are_those_of_transformers_fast_tokenizers() -> None:
    kinds = {getattr(transformers, name) for name in TOKENIZER_MAPPING_NAMES.values() if name}
    fast = [kind for kind in kinds if issubclass(kind, transformers.PreTrainedTokenizerFast)]
    names = {kind.vocab_files_names[key] for kind in fast for key in ("vocab_file", "tokenizer_file")
             if key in kind.vocab_files_names}  # fmt: skip
    assert names == set(TOKENIZER_FILES)
