"""Check a benchmark's data: splits are read, the longest question fits, and splits that share content are warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.check.weights import require_content
from benchmarks.files import BenchmarkError, files_below, is_file, load_json
from benchmarks.spec import SPLITS, FineTune, Split
from benchmarks.tasks import question_answering as squad
from benchmarks.tasks.question_answering import Record

MAX_CANDIDATES = 64
"""Questions that are tokenised: those of the most characters, among which is the one of the most tokens."""
MAX_SPECIAL_TOKENS = 8
"""Tokens that tokenizers put around a text; they add two at most as a rule."""
Splits = Mapping[str, Sequence[Record]]


def read_local(finetune: FineTune) -> dict[str, list[Record]]:
    """Return the records of all splits that lie on this machine, in files or in folders of data sets.

    Raises:
        BenchmarkError: a split is missing or malformed.
    """
    return {name: read(split) for name in SPLITS if is_local(split := getattr(finetune.data, name))}


def read(split: Split) -> list[Record]:
    """Return a split's records.

    Raises:
        BenchmarkError: the split is missing or malformed, or git-lfs has not fetched it.
    """
    if split.file is not None:
        require_content(split.file)
    elif split.dataset is not None and Path(split.dataset).is_absolute():
        _require_data(Path(split.dataset))
    return squad.read_split(split)


def is_local(split: Split) -> bool:
    """Tell whether a split lies on this machine, in a file or in a folder of a data set."""
    return split.file is not None or (split.dataset is not None and Path(split.dataset).is_absolute())


def _require_data(folder: Path) -> None:
    if not folder.is_dir():
        raise BenchmarkError(
            f"data set {folder}: no such folder; give one, or a name on the hub such as rajpurkar/squad"
        )
    for path in sorted(files_below(folder)):
        require_content(path)


def longest(records: Sequence[Record]) -> list[Record]:
    """Return the records with the longest questions, the longest first."""
    return sorted(records, key=lambda record: len(record.question), reverse=True)[:MAX_CANDIDATES]


def check_longest_question(finetune: FineTune, splits: Splits) -> None:
    """Check that the longest question leaves room for a context, with a local model's tokenizer.json.

    Raises:
        BenchmarkError: it does not.
    """
    path = Path(finetune.model) / "tokenizer.json"
    candidates = {name: longest(records) for name, records in splits.items()}
    is_local = path.is_absolute() and is_file(path)
    if not is_local or all(_fits(records, finetune) for records in candidates.values()):
        return
    tokenizer = _tokenizer(path)
    special = len(tokenizer.encode("").ids)
    for name, records in candidates.items():
        prompts = [squad.prompt_of(record.question, "") for record in records]
        encoded = tokenizer.encode_batch(prompts, add_special_tokens=False)
        for record, tokens in zip(records, encoded, strict=True):
            if (needed := len(tokens.ids) + special + finetune.max_answer_tokens) >= finetune.max_length:
                raise no_room(name, record, finetune, needed + 1)


def _fits(records: Sequence[Record], finetune: FineTune) -> bool:
    """Tell whether prompts leave room even if each byte is a token, which needs no tokenizer to know."""
    longest_bytes = max(len(squad.prompt_of(record.question, "").encode()) for record in records)
    return longest_bytes + MAX_SPECIAL_TOKENS + finetune.max_answer_tokens < finetune.max_length


def no_room(split: str, record: Record, finetune: FineTune, needed: int) -> BenchmarkError:
    """Return the error for a question that fills a sequence by itself."""
    return BenchmarkError(
        f"{split}: question {record.id!r} leaves no room for a context in max_length {finetune.max_length}: with "
        f"max_answer_tokens {finetune.max_answer_tokens} it needs {needed} tokens; raise max_length, or shorten it"
    )


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise BenchmarkError(
            f"{path}: is no tokenizer ({_json_error(path) or error}); save it again with tokenizer.save_pretrained"
        ) from None


def _json_error(path: Path) -> str:
    try:
        load_json(path)
    except BenchmarkError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def shared(splits: Splits, known: Set[str] = frozenset()) -> list[str]:
    """Return a warning for each pair of splits that have questions or articles in common.

    Args:
        splits: the records of each split, by name.
        known: splits whose pairs are left out.
    """
    warnings = []
    asked = {name: _questions(records) for name, records in splits.items()}
    articles = {name: {record.title for record in records} for name, records in splits.items()}
    for first, second in combinations(splits, 2):
        if {first, second} <= known:
            continue
        questions, titles = asked[first] & asked[second], articles[first] & articles[second]
        if not questions and not titles:
            continue
        what = _counted(len(questions), "question") if questions else _counted(len(titles), "article")
        example = min(question for question, _ in questions) if questions else min(titles)
        warnings.append(
            f"{first} and {second} share {what}, such as {_shortened(example)!r}: scores on {second} will be better "
            "than on new data; take splits without common articles, such as `articles: rest` and `held_out`"
        )
    return warnings


def _questions(records: Sequence[Record]) -> set[tuple[str, str]]:
    """Return questions with their contexts: the same words about another text are another question."""
    return {(" ".join(record.question.split()), " ".join(record.context.split())) for record in records}


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
