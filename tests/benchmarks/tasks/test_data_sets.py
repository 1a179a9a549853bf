"""Data sets of the `datasets` library: slices, configurations, and malformed rows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import BenchmarkError, Split
from benchmarks.tasks.question_answering import (
    read_split,
)
from tests.benchmarks.tasks.questions import TWENTY, articles_of, read, rows_of, squad


@pytest.fixture
def dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder for a data set; `datasets` keeps its cache beside it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "questions"
    folder.mkdir()
    return folder


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_dataset_folder_gives_the_records_of_the_file(tmp_path: Path, dataset_folder: Path) -> None:
    name = write_rows(dataset_folder, rows_of(squad()))
    assert read_split(Split(dataset=name, split="train")) == read(tmp_path, squad())


def test_slice_of_a_dataset_is_read(tmp_path: Path, dataset_folder: Path) -> None:
    name = write_rows(dataset_folder, rows_of(squad()))
    assert read_split(Split(dataset=name, split="train[2:5]")) == read(tmp_path, squad())[2:5]


def test_a_configuration_of_a_dataset_is_read(tmp_path: Path, dataset_folder: Path) -> None:
    """Two configurations, as a data set's card declares them."""
    rows = rows_of(squad())
    for name, some in (("small", rows[:2]), ("large", rows)):
        (dataset_folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("small", "large"))
    (dataset_folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name, some in (("small", 2), ("large", len(rows))):
        found = read_split(Split(dataset=str(dataset_folder), config=name, split="train"))
        assert found == read(tmp_path, squad())[:some]


def test_articles_of_a_dataset_are_held_out_by_title(dataset_folder: Path) -> None:
    name = write_rows(dataset_folder, rows_of(squad(TWENTY)))
    records = read_split(Split(dataset=name, split="train", articles="held_out"))
    assert articles_of(records) == {"Article 2", "Article 15"}


@pytest.mark.parametrize("column", ["id", "title", "context", "question", "answers"])
def test_missing_column_is_named(dataset_folder: Path, column: str) -> None:
    rows = [{key: value for key, value in row.items() if key != column} for row in rows_of(squad())]
    name = write_rows(dataset_folder, rows)
    with pytest.raises(BenchmarkError, match=re.escape(f"data set {name!r}: column `{column}` is missing")):
        read_split(Split(dataset=name, split="train"))


def test_unknown_split_of_a_dataset_is_refused(dataset_folder: Path) -> None:
    name = write_rows(dataset_folder, rows_of(squad()))
    message = re.escape(f"data set {name!r}, split 'test': cannot be loaded (ValueError: Unknown split")
    with pytest.raises(BenchmarkError, match=message):
        read_split(Split(dataset=name, split="test"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answers", {"text": [], "answer_start": []}, "`answers` is empty"),
        (
            "answers",
            {"text": ["1750"], "answer_start": [32]},
            "answer_start 32 points at ' 175', not at the text '1750'",
        ),
        ("answers", {"text": ["1750", "in 1750"], "answer_start": [33]}, "answers"),
        ("id", "Alpha-0-0", "question id 'Alpha-0-0' occurs more than once"),
        ("context", None, "context"),
    ],
    ids=["no answers", "wrong start", "texts without starts", "repeated id", "no context"],
)
def test_malformed_row_is_refused(dataset_folder: Path, column: str, value: Any, message: str) -> None:
    rows = rows_of(squad())
    rows[-1][column] = value
    name = write_rows(dataset_folder, rows)
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        read_split(Split(dataset=name, split="train"))


def test_answers_column_of_another_shape_is_refused(dataset_folder: Path) -> None:
    name = write_rows(dataset_folder, [{**row, "answers": "1750"} for row in rows_of(squad())])
    with pytest.raises(BenchmarkError, match="answers"):
        read_split(Split(dataset=name, split="train"))
