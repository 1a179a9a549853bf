"""SQuAD files: records in their order, faults named with their place, articles held out."""

from __future__ import annotations

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
from tests.benchmarks.tasks.questions import MISSING, TWENTY, articles_of, changed, read, squad


def test_file_is_read_question_by_question(tmp_path: Path) -> None:
    assert read(tmp_path, squad())[4:6] == [
        Record(
            id="Beta-0-0",
            title="Beta",
            question="Who drew it?",
            context="Beta 0 was drawn by Mara Velt in 1750.",
            answers=(Answer("Mara Velt", 20),),
        ),
        Record(
            id="Beta-0-1",
            title="Beta",
            question="When was it drawn?",
            context="Beta 0 was drawn by Mara Velt in 1750.",
            answers=(Answer("1750", 33),),
        ),
    ]


def test_every_reference_answer_is_read(tmp_path: Path) -> None:
    answers = [{"text": "Mara Velt", "answer_start": 21}, {"text": "Velt", "answer_start": 26}]
    record = read(tmp_path, changed(("data", 0, "paragraphs", 0, "qas", 0, "answers"), answers))[0]
    assert record.answers == (Answer("Mara Velt", 21), Answer("Velt", 26))


def test_answer_start_counts_characters_not_bytes(tmp_path: Path) -> None:
    content = changed(("data", 0, "paragraphs", 0, "context"), "Zürich 東京 Mara Velt 1750.")
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 10
    content["data"][0]["paragraphs"][0]["qas"][1]["answers"][0]["answer_start"] = 20
    assert read(tmp_path, content)[0].answers == (Answer("Mara Velt", 10),)


ARTICLE = ("data", 1)
PARAGRAPH = (*ARTICLE, "paragraphs", 1)
QUESTION = (*PARAGRAPH, "qas", 1)
ANSWER = (*QUESTION, "answers", 0)
IN_PARAGRAPH = "article 1 (Beta), paragraph 1"
IN_QUESTION = f"{IN_PARAGRAPH}, question 1"


@pytest.mark.parametrize(
    ("section", "where", "field"),
    [
        ((), "split.json", "data"),
        (ARTICLE, "article 1", "title"),
        (ARTICLE, "article 1 (Beta)", "paragraphs"),
        (PARAGRAPH, IN_PARAGRAPH, "context"),
        (PARAGRAPH, IN_PARAGRAPH, "qas"),
        (QUESTION, IN_QUESTION, "id"),
        (QUESTION, IN_QUESTION, "question"),
        (QUESTION, IN_QUESTION, "answers"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "text"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "answer_start"),
    ],
)
def test_missing_field_is_named_with_its_place(
    tmp_path: Path, section: tuple[str | int, ...], where: str, field: str
) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(f"{where}: field `{field}` is missing")):
        read(tmp_path, changed((*section, field), MISSING))


@pytest.mark.parametrize(
    ("section", "where", "field", "value", "types"),
    [
        ((), "split.json", "data", {}, "dict, but must be list"),
        (ARTICLE, "article 1", "title", 3, "int, but must be str"),
        (ARTICLE, "article 1 (Beta)", "paragraphs", {}, "dict, but must be list"),
        (PARAGRAPH, IN_PARAGRAPH, "context", None, "NoneType, but must be str"),
        (PARAGRAPH, IN_PARAGRAPH, "qas", "x", "str, but must be list"),
        (QUESTION, IN_QUESTION, "id", 7, "int, but must be str"),
        (QUESTION, IN_QUESTION, "question", ["x"], "list, but must be str"),
        (QUESTION, IN_QUESTION, "answers", {"text": []}, "dict, but must be list"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "text", 1750, "int, but must be str"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "answer_start", "33", "str, but must be int"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "answer_start", 33.0, "float, but must be int"),
        (ANSWER, f"{IN_QUESTION}, answers[0]", "answer_start", True, "bool, but must be int"),
    ],
)
def test_mistyped_field_is_named_with_its_place(
    tmp_path: Path, section: tuple[str | int, ...], where: str, field: str, value: Any, types: str
) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(f"{where}: field `{field}` is {types}")):
        read(tmp_path, changed((*section, field), value))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (ARTICLE, "article 1: expected an object with `title`, found str"),
        (PARAGRAPH, f"{IN_PARAGRAPH}: expected an object with `context`, found str"),
        (QUESTION, f"{IN_QUESTION}: expected an object with `answers`, found str"),
        (ANSWER, f"{IN_QUESTION}, answers[0]: expected an object with `text`, found str"),
    ],
)
def test_entry_that_is_no_object_is_named_with_its_place(
    tmp_path: Path, section: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        read(tmp_path, changed(section, "x"))


def test_file_that_is_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"split\.json: expected an object with `data`, found list"):
        read(tmp_path, [])


@pytest.mark.parametrize(("start", "found"), [(32, "' 175'"), (36, "'0.'"), (999, "''"), (-5, "'Beta'")])
def test_wrong_answer_start_shows_what_it_points_at(tmp_path: Path, start: int, found: str) -> None:
    message = f"{IN_QUESTION}, answers[0]: answer_start {start} points at {found}, not at the text '1750'"
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        read(tmp_path, changed((*ANSWER, "answer_start"), start))


def test_question_without_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(f"{IN_QUESTION}: `answers` is empty, but SQuAD v1.1 needs")):
        read(tmp_path, changed((*QUESTION, "answers"), []))


def test_repeated_question_id_is_refused(tmp_path: Path) -> None:
    message = r"split\.json: question id 'Alpha-0-0' occurs more than once \(1 such ids\)"
    with pytest.raises(BenchmarkError, match=message):
        read(tmp_path, changed((*QUESTION, "id"), "Alpha-0-0"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not valid JSON \("),
        (b"{", r"not valid JSON \("),
        (b'\xff{"data": []}', r"not UTF-8 \(byte 1\)"),
        (b"[" * 100_000, "values are nested too deep"),
    ],
    ids=["nothing", "cut off", "not UTF-8", "nested"],
)
def test_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=rf"split\.json: {message}"):
        read_split(Split(file=path))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    message = r"none\.json: cannot be read \(No such file or directory\); give the path of a SQuAD v1\.1 JSON file"
    with pytest.raises(BenchmarkError, match=message):
        read_split(Split(file=tmp_path / "none.json"))


def test_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"split\.json: no questions left after `articles` and `limit`"):
        read(tmp_path, {"data": []})


def test_limit_keeps_the_first_questions(tmp_path: Path) -> None:
    assert read(tmp_path, squad(), limit=3) == read(tmp_path, squad())[:3]


def test_limit_beyond_the_file_keeps_all(tmp_path: Path) -> None:
    assert len(read(tmp_path, squad(), limit=100)) == 8


@pytest.mark.parametrize(("share", "held_out"), [(0.1, {2, 15}), (0.3, {2, 9, 15, 19})])
def test_held_out_articles_are_the_same_on_every_machine(tmp_path: Path, share: float, held_out: set[int]) -> None:
    records = read(tmp_path, squad(TWENTY), articles="held_out", held_out_share=share)
    assert articles_of(records) == {TWENTY[i] for i in held_out}


def test_held_out_and_rest_share_no_article(tmp_path: Path) -> None:
    held_out, rest = (read(tmp_path, squad(TWENTY), articles=kind) for kind in ("held_out", "rest"))
    assert articles_of(held_out).isdisjoint(articles_of(rest))


def test_held_out_and_rest_together_are_the_file(tmp_path: Path) -> None:
    held_out, rest = (read(tmp_path, squad(TWENTY), articles=kind) for kind in ("held_out", "rest"))
    assert {r.id for r in held_out} | {r.id for r in rest} == {r.id for r in read(tmp_path, squad(TWENTY))}


def test_held_out_articles_do_not_depend_on_their_order(tmp_path: Path) -> None:
    forward, backward = (read(tmp_path, squad(titles), articles="held_out") for titles in (TWENTY, TWENTY[::-1]))
    assert articles_of(forward) == articles_of(backward)


def test_limit_counts_after_the_articles_are_chosen(tmp_path: Path) -> None:
    records = read(tmp_path, squad(TWENTY), articles="held_out", limit=6)
    assert [r.id for r in records] == [f"Article {a}-{p}-{q}" for a in (2, 15) for p in (0, 1) for q in (0, 1)][:6]


def test_no_article_held_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no questions left after `articles` and `limit`"):
        read(tmp_path, squad(), articles="held_out", held_out_share=0.001)
