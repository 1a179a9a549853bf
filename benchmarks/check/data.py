"""Check a benchmark's data: splits are read, the longest record fits, and splits that share content are warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from benchmarks import tasks
from benchmarks.check.weights import require_content
from benchmarks.files import BenchmarkError, files_below, is_file, load_json
from benchmarks.spec import SPLITS, FineTune, Split
from benchmarks.tasks.task import Task

MAX_CANDIDATES = 64
"""Records that are tokenised: those of the most characters, among which is the one of the most tokens."""
MAX_SPECIAL_TOKENS = 8
"""Tokens that tokenizers put around a text; they add two at most as a rule."""
Splits = Mapping[str, Sequence[Any]]


def read_local(finetune: FineTune) -> dict[str, list[Any]]:
    """Return the records of all splits that lie on this machine, in files or in folders of data sets.

    Raises:
        BenchmarkError: a split is missing or malformed.
    """
    return {name: read(finetune, name) for name in SPLITS if is_local(getattr(finetune.data, name))}


def read(finetune: FineTune, name: str) -> list[Any]:
    """Return a split's records.

    Raises:
        BenchmarkError: the split is missing or malformed, or git-lfs has not fetched it.
    """
    split: Split = getattr(finetune.data, name)
    if split.file is not None:
        require_content(split.file)
    elif split.dataset is not None and Path(split.dataset).is_absolute():
        _require_data(Path(split.dataset))
    return tasks.get(finetune.task).read(split)


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


def longest(task: Task[Any], records: Sequence[Any]) -> list[Any]:
    """Return the records with the longest parts that are never cut, the longest first."""
    return sorted(records, key=lambda record: len(task.uncut(record)), reverse=True)[:MAX_CANDIDATES]


def check_longest_record(finetune: FineTune, splits: Splits) -> None:
    """Check that the record with the longest uncut part leaves room, with a local model's tokenizer.json.

    Raises:
        BenchmarkError: it does not.
    """
    path, task = Path(finetune.model) / "tokenizer.json", tasks.get(finetune.task)
    candidates = {name: longest(task, records) for name, records in splits.items()}
    is_local = path.is_absolute() and is_file(path)
    if not is_local or all(_fits(task, records, finetune) for records in candidates.values()):
        return
    tokenizer = _tokenizer(path)
    special = len(tokenizer.encode("").ids)
    for name, records in candidates.items():
        prompts = [task.uncut(record) for record in records]
        encoded = tokenizer.encode_batch(prompts, add_special_tokens=False)
        for record, tokens in zip(records, encoded, strict=True):
            if (needed := len(tokens.ids) + special + finetune.max_answer_tokens) >= finetune.max_length:
                raise BenchmarkError(
                    f"{name}: {task.lacks_room(record, finetune.max_length)}: with max_answer_tokens "
                    f"{finetune.max_answer_tokens} it needs {needed + 1} tokens; raise max_length, or shorten it"
                )


def _fits(task: Task[Any], records: Sequence[Any], finetune: FineTune) -> bool:
    """Tell whether prompts leave room even if each byte is a token, which needs no tokenizer to know."""
    longest_bytes = max(len(task.uncut(record).encode()) for record in records)
    return longest_bytes + MAX_SPECIAL_TOKENS + finetune.max_answer_tokens < finetune.max_length


def _tokenizer(path: Path) -> Any:
    """Read a tokenizer, without the padding and truncation that the file keeps of its last use before it was saved."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise BenchmarkError(
            f"{path}: is no tokenizer ({_json_error(path) or error}); save it again with tokenizer.save_pretrained"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _json_error(path: Path) -> str:
    try:
        load_json(path)
    except BenchmarkError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def shared(task: Task[Any], splits: Splits, known: Set[str] = frozenset()) -> list[str]:
    """Return a warning for each pair of splits that have content in common.

    Args:
        task: the task of the records.
        splits: the records of each split, by name.
        known: splits whose pairs are left out.
    """
    return [
        f"{first} and {second} share {content}: scores on {second} will be better than on new data; "
        f"{task.shared_advice}"
        for (first, second), content in task.shared(splits).items()
        if not {first, second} <= known
    ]
