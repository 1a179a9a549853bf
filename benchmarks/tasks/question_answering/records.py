"""Records of SQuAD v1.1: read from its JSON files, JSON lines or a data set, and checked field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.files import BenchmarkError, parse_json, read_text
from benchmarks.splits import Split
from benchmarks.tasks.sources import JSON_LINES, field, json_lines, load_dataset, place_in, refuse_repeated

ADVICE = "; give the path of a SQuAD v1.1 JSON file, or of a .jsonl file"


@dataclass(frozen=True)
class Answer:
    """A reference answer and where it starts in the context, in characters."""

    text: str
    start: int


@dataclass(frozen=True)
class Record:
    """One question about one context."""

    id: str
    title: str
    question: str
    context: str
    answers: tuple[Answer, ...]


def read_all(split: Split) -> list[Record]:
    """Read all records of a split's source.

    Raises:
        BenchmarkError: the source is missing or malformed; names the article and the field.
    """
    if split.file is None:
        return _from_datasets(split)
    return _from_json_lines(split.file) if split.file.suffix in JSON_LINES else _from_file(split.file)


def _from_json_lines(path: Path) -> list[Record]:
    """Read one question per line; `id`, `title` and the start of an answer may be left out."""
    records = []
    for number, where, row in json_lines(path, ADVICE):
        context = field(row, "context", str, where)
        pairs = [_placed(answer, context, f"{where}, answers[{i}]") for i, answer in enumerate(_answers(row, where))]
        title = field(row, "title", str, where) if "title" in row else context  # questions on one context stay together
        row = {"id": f"line {number}", **row, "answers": pairs}
        records.append(_read_question(row, title, context, where))
    _refuse_repeated_ids(records, str(path))
    return records


def _answers(row: dict[str, Any], where: str) -> list[Any]:
    """Take a list of texts or of objects, or the two lists that `datasets` writes."""
    if isinstance(row.get("answers"), dict):
        return _paired(row["answers"], where)
    answers: list[Any] = field(row, "answers", list, where)
    return answers


def _placed(answer: Any, context: str, where: str) -> Any:
    """Let an answer given as text alone start where it first occurs in the context."""
    if not isinstance(answer, str):
        return answer
    start = context.find(answer)
    if start < 0:
        raise BenchmarkError(f"{where}: the text {answer!r} does not occur in the context")
    return {"text": answer, "answer_start": start}


def _paired(answers: dict[str, Any], where: str) -> list[dict[str, Any]]:
    texts, starts = field(answers, "text", list, where), field(answers, "answer_start", list, where)
    if len(texts) != len(starts):
        raise BenchmarkError(f"{where}: `answers` has {len(texts)} texts, but {len(starts)} values of answer_start")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _from_file(path: Path) -> list[Record]:
    content = parse_json(read_text(path, ADVICE), path)
    records = []
    for i, article in enumerate(field(content, "data", list, str(path))):
        where = f"{path}: article {i}"
        title = field(article, "title", str, where)
        for j, paragraph in enumerate(field(article, "paragraphs", list, f"{where} ({title})")):
            there = f"{where} ({title}), paragraph {j}"
            context = field(paragraph, "context", str, there)
            for k, qa in enumerate(field(paragraph, "qas", list, there)):
                records.append(_read_question(qa, title, context, f"{there}, question {k}"))
    _refuse_repeated_ids(records, str(path))
    return records


def _read_question(qa: Any, title: str, context: str, where: str) -> Record:
    answers = []
    for number, answer in enumerate(field(qa, "answers", list, where)):
        here = f"{where}, answers[{number}]"
        text, start = field(answer, "text", str, here), field(answer, "answer_start", int, here)
        if start < 0 or context[start : start + len(text)] != text:
            found = context[max(start, 0) : max(start, 0) + len(text)]
            raise BenchmarkError(f"{here}: answer_start {start} points at {found!r}, not at the text {text!r}")
        answers.append(Answer(text, start))
    if not answers:
        raise BenchmarkError(f"{where}: `answers` is empty, but SQuAD v1.1 needs at least one")
    return Record(field(qa, "id", str, where), title, field(qa, "question", str, where), context, tuple(answers))


def _from_datasets(split: Split) -> list[Record]:
    """Read from the hub or a local folder."""
    advice = "on a machine without internet give a local folder, or a SQuAD v1.1 file with `file:`"
    rows = load_dataset(split, ("id", "title", "question", "context", "answers"), advice)
    records = []
    for number, row in enumerate(rows):
        where = f"{place_in(split)}, row {number}"
        pairs = _paired(field(row, "answers", dict, where), where)
        title, context = field(row, "title", str, where), field(row, "context", str, where)
        records.append(_read_question({**row, "answers": pairs}, title, context, where))
    _refuse_repeated_ids(records, place_in(split))
    return records


def _refuse_repeated_ids(records: list[Record], source: str) -> None:
    refuse_repeated((record.id for record in records), "question", source)


# ---- content that splits share


def shared(splits: Mapping[str, Sequence[Record]]) -> dict[tuple[str, str], str]:
    """Describe the questions, or else the articles, that each pair of splits has in common."""
    asked = {name: _questions(records) for name, records in splits.items()}
    articles = {name: {record.title for record in records} for name, records in splits.items()}
    found = {}
    for first, second in combinations(splits, 2):
        questions, titles = asked[first] & asked[second], articles[first] & articles[second]
        if not questions and not titles:
            continue
        what = _counted(len(questions), "question") if questions else _counted(len(titles), "article")
        example = min(question for question, _ in questions) if questions else min(titles)
        found[first, second] = f"{what}, such as {_shortened(example)!r}"
    return found


def _questions(records: Sequence[Record]) -> set[tuple[str, str]]:
    """Return questions with their contexts: the same words about another text are another question."""
    return {(" ".join(record.question.split()), " ".join(record.context.split())) for record in records}


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
