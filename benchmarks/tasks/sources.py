"""Sources of records, read row by row: JSON lines and data sets, with their fields checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.files import BenchmarkError, is_text, parse_json, read_text
from benchmarks.splits import Split

JSON_LINES = (".jsonl", ".ndjson")


def json_lines(path: Path, advice: str) -> Iterator[tuple[int, str, Any]]:
    """Yield the number of each line that is not empty, its place for messages, and its content.

    Args:
        path: the file.
        advice: next step for a file that cannot be read, from a semicolon on.

    Raises:
        BenchmarkError: the file cannot be read, or a line is no JSON.
    """
    for number, line in enumerate(read_text(path, advice).split("\n"), start=1):  # a string may hold other line ends
        if line.strip():
            where = f"{path}, line {number}"
            yield number, where, parse_json(line, where)


def load_dataset(split: Split, columns: Iterable[str], advice: str) -> Any:
    """Load a split of a data set, from the hub or a local folder, through `datasets`.

    Args:
        split: a split with `dataset`.
        columns: the columns that it must have.
        advice: next step where it cannot be loaded.

    Raises:
        BenchmarkError: it cannot be loaded, or a column is missing.
    """
    import datasets  # it costs a second

    try:
        rows = datasets.load_dataset(split.dataset, split.config, split=split.split, revision=split.revision)
    except Exception as error:  # the library raises many kinds; all mean the same to the user
        raise BenchmarkError(
            f"data set {split.dataset!r}, split {split.split!r}: cannot be loaded ({type(error).__name__}: {error}); "
            f"{advice}"
        ) from None
    missing = set(columns) - set(rows.column_names)
    if missing:
        raise BenchmarkError(f"data set {split.dataset!r}: column `{sorted(missing)[0]}` is missing")
    return rows


def place_in(split: Split) -> str:
    """Return a data set and its split for messages."""
    return f"data set {split.dataset!r}, split {split.split!r}"


def field(mapping: Any, key: str, kind: type, where: str) -> Any:
    """Return a field of a row.

    Args:
        mapping: the row.
        key: the field's name.
        kind: its type.
        where: the row's place for messages.

    Raises:
        BenchmarkError: the row is no object, or the field is missing or of another type.
    """
    if not isinstance(mapping, dict):
        raise BenchmarkError(f"{where}: expected an object with `{key}`, found {type(mapping).__name__}")
    if key not in mapping:
        raise BenchmarkError(f"{where}: field `{key}` is missing")
    if not isinstance(mapping[key], kind) or isinstance(mapping[key], bool):
        raise BenchmarkError(f"{where}: field `{key}` is {type(mapping[key]).__name__}, but must be {kind.__name__}")
    if kind is str and not is_text(mapping[key]):
        raise BenchmarkError(f"{where}: field `{key}` has half of a surrogate pair; write the whole character")
    return mapping[key]


def refuse_repeated(ids: Iterable[str], noun: str, source: str) -> None:
    """Refuse ids that occur more than once.

    Raises:
        BenchmarkError: names the first of them.
    """
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise BenchmarkError(f"{source}: {noun} id {repeated[0]!r} occurs more than once ({len(repeated)} such ids)")
