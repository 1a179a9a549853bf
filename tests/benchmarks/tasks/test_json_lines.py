"""JSON lines: one question per line, and faults named with theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import BenchmarkError, Split
from benchmarks.tasks.question_answering import (
    Answer,
    Record,
    read_split,
)
from tests.benchmarks.tasks.questions import read, rows_of, squad

LINE: dict[str, Any] = {"question": "When?", "context": "In 1750 and in 1751.", "answers": ["1750", "1751"]}


def read_lines(folder: Path, *lines: Any, **selection: Any) -> list[Record]:
    path = folder / "own.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return read_split(Split(file=path, **selection))


def test_a_line_is_a_question(tmp_path: Path) -> None:
    [record] = read_lines(tmp_path, LINE)
    answers = (Answer("1750", 3), Answer("1751", 15))
    assert record == Record("line 1", LINE["context"], "When?", LINE["context"], answers)


def test_lines_with_all_fields_give_the_records_of_the_file(tmp_path: Path) -> None:
    lines = rows_of(squad())
    assert read_lines(tmp_path, *lines) == read(tmp_path, squad())
    for line in lines:  # the other way to write answers
        pairs = zip(line["answers"]["text"], line["answers"]["answer_start"], strict=True)
        line["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
    assert read_lines(tmp_path, *lines) == read(tmp_path, squad())


def test_empty_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    assert [record.id for record in read_lines(tmp_path, LINE, "", LINE)] == ["line 1", "line 3"]


def test_ends_of_lines_that_unicode_knows_are_part_of_a_text(tmp_path: Path) -> None:
    context = "In 1750,\u2028or\x851751."
    lines = [json.dumps({**LINE, "context": context}, ensure_ascii=False)] * 2
    assert [record.context for record in read_lines(tmp_path, *lines)] == [context] * 2


def test_questions_on_one_context_are_held_out_together(tmp_path: Path) -> None:
    lines = [{**LINE, "context": f"In 1750 and in 1751, {number // 3}."} for number in range(90)]
    kept = {side: read_lines(tmp_path, *lines, articles=side) for side in ("held_out", "rest")}
    contexts = [{record.context for record in records} for records in kept.values()]
    assert contexts[0].isdisjoint(contexts[1])
    assert sum(len(records) for records in kept.values()) == 90


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "own.jsonl, line 2: not valid JSON ("),
        ("3", "own.jsonl, line 2: expected an object with `context`, found int"),
        ({**LINE, "question": 5}, "own.jsonl, line 2: field `question` is int, but must be str"),
        ({"context": "a", "answers": ["a"]}, "own.jsonl, line 2: field `question` is missing"),
        ({**LINE, "answers": []}, "own.jsonl, line 2: `answers` is empty"),
        ({**LINE, "answers": "1750"}, "own.jsonl, line 2: field `answers` is str, but must be list"),
        ({**LINE, "answers": ["1750", "1760"]}, "line 2, answers[1]: the text '1760' does not occur in the context"),
        ({**LINE, "answers": [{"text": "1750", "answer_start": 4}]}, "line 2, answers[0]: answer_start 4 points at"),
        ({**LINE, "answers": {"text": ["1750"], "answer_start": []}}, "line 2: `answers` has 1 texts, but 0 values"),
        ({**LINE, "id": "line 1"}, "own.jsonl: question id 'line 1' occurs more than once"),
        ({**LINE, "title": 3}, "own.jsonl, line 2: field `title` is int, but must be str"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        read_lines(tmp_path, LINE, line)
