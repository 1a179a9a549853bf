"""SQuAD objects as the tests write them, whole or with one value changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.spec import Split
from benchmarks.tasks.question_answering import (
    Record,
    read_split,
)

MISSING = object()


def squad(titles: Sequence[str] = ("Alpha", "Beta")) -> dict[str, Any]:
    """Make a SQuAD v1.1 object: two paragraphs per article, two questions per paragraph."""
    return {
        "version": "1.1",
        "data": [{"title": t, "paragraphs": [_paragraph(t, i) for i in range(2)]} for t in titles],
    }


def _paragraph(title: str, number: int) -> dict[str, Any]:
    context = f"{title} {number} was drawn by Mara Velt in 1750."
    asked = (("Who drew it?", "Mara Velt"), ("When was it drawn?", "1750"))
    return {
        "context": context,
        "qas": [
            {"id": f"{title}-{number}-{i}", "question": q, "answers": [{"text": a, "answer_start": context.index(a)}]}
            for i, (q, a) in enumerate(asked)
        ],
    }


def changed(path: Sequence[str | int], value: Any) -> dict[str, Any]:
    """Make `squad()` with one value replaced or removed."""
    content = squad()
    inner: Any = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    if value is MISSING:
        del inner[path[-1]]
    return content


def write(folder: Path, content: Any) -> Path:
    path = folder / "split.json"
    path.write_text(json.dumps(content))
    return path


def read(folder: Path, content: Any, **selection: Any) -> list[Record]:
    return read_split(Split(file=write(folder, content), **selection))


def articles_of(records: Sequence[Record]) -> set[str]:
    return {record.title for record in records}


TWENTY = [f"Article {i}" for i in range(20)]


def rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """List the questions of a SQuAD object with the columns that `rajpurkar/squad` has."""
    return [
        {
            "id": qa["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": qa["question"],
            "answers": {
                "text": [answer["text"] for answer in qa["answers"]],
                "answer_start": [answer["answer_start"] for answer in qa["answers"]],
            },
        }
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
