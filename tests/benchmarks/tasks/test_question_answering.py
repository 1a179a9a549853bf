"""From SQuAD files to records, tokens and scores."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import HERE, BenchmarkError, Split
from benchmarks.tasks.question_answering import (
    Answer,
    Example,
    Record,
    exact_match,
    f1,
    prompt_of,
    read_split,
    token_statistics,
    tokenize,
)

MISSING = object()

# prediction, references, Exact Match and F1 as the official evaluation of SQuAD v1.1 counts them
SCORES: list[tuple[str, list[str], float, float]] = [
    ("Mara Velt", ["Mara Velt"], 1, 1),
    ("mara velt.", ["Mara Velt"], 1, 1),
    ("  Mara \t Velt\n", ["Mara Velt"], 1, 1),
    ("Mara\u00a0Velt", ["Mara Velt"], 1, 1),  # a no-break space is white space
    ("Velt Mara", ["Mara Velt"], 0, 1),  # F1 ignores the order
    ("the old mill", ["old mill"], 1, 1),
    ("An old mill", ["the old mill"], 1, 1),
    ("Velt", ["A. Velt"], 1, 1),  # the initial becomes an article
    ("theatre", ["atre"], 0, 0),  # an article inside a word stays
    ("the\u2019s", ["\u2019s"], 1, 1),  # a curly apostrophe ends the word `the`
    ("t.h.e. mill", ["mill"], 1, 1),  # articles are removed after punctuation
    ("the", ["a"], 1, 0),  # both are empty after normalisation: no token is shared
    ("An", ["an apple"], 0, 0),
    ("", [""], 1, 0),
    ("", ["Mara"], 0, 0),
    ("Mara", ["the"], 0, 0),
    ("?!", ["..."], 1, 0),
    ("Tobin", ["Mara"], 0, 0),
    ("O'Brien", ["OBrien"], 1, 1),
    ("a.m.", ["am"], 1, 1),
    ("old_mill", ["oldmill"], 1, 1),
    ("well-known", ["wellknown"], 1, 1),
    ("well-known", ["well known"], 0, 0),  # a hyphen joins
    ("the-the", ["the"], 0, 0),  # `thethe` is a word
    ("1990\u20131995", ["1990-1995"], 0, 0),  # an en dash is no ASCII punctuation
    ("“Velt”", ["Velt"], 0, 0),  # nor are curly quotes
    ("1,000", ["1000"], 1, 1),
    ("3.14", ["314"], 1, 1),
    ("50%", ["50 %"], 1, 1),
    ("$5", ["5"], 1, 1),
    ("€5", ["5"], 0, 0),  # the dollar is ASCII punctuation, euro and pound are not
    ("£5 million", ["5 million"], 0, 1 / 2),
    ("ZÜRICH", ["Zürich"], 1, 1),
    ("Zürich", ["Zurich"], 0, 0),
    ("STRASSE", ["straße"], 0, 0),  # lower case, not case folding
    ("东京 塔", ["东京"], 0, 2 / 3),
    ("to be or not to be", ["to be"], 0, 1 / 2),  # a repeated token counts once per occurrence
    ("New New York", ["New York"], 0, 4 / 5),
    ("very very very good", ["very very bad"], 0, 4 / 7),
    ("very", ["very very very"], 0, 1 / 2),
    ("atop the gold dome", ["gold dome"], 0, 4 / 5),
    ("Denver", ["Denver Broncos", "Denver", "Broncos"], 1, 1),
    ("Broncos of Denver", ["Carolina", "Denver Broncos"], 0, 4 / 5),
    ("Mara Velt", ["Velt", "Mara Velt the architect"], 0, 4 / 5),  # the best of 2/3 and 4/5
    ("the", ["the mill", "an"], 1, 0),  # EM and F1 may come from different references
]


@pytest.mark.parametrize(("prediction", "references", "expected"), [(p, r, em) for p, r, em, _ in SCORES])
def test_exact_match_is_the_official_one(prediction: str, references: list[str], expected: float) -> None:
    assert exact_match(prediction, references) == expected


@pytest.mark.parametrize(("prediction", "references", "expected"), [(p, r, score) for p, r, _, score in SCORES])
def test_f1_is_the_official_one(prediction: str, references: list[str], expected: float) -> None:
    assert f1(prediction, references) == pytest.approx(expected, abs=1e-12)


def squad(titles: Sequence[str] = ("Alpha", "Beta")) -> dict[str, Any]:
    """A SQuAD v1.1 object: two paragraphs an article, two questions a paragraph."""
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
    """`squad()` with one value replaced or removed."""
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


def articles_of(records: Sequence[Record]) -> set[str]:
    return {record.title for record in records}


TWENTY = [f"Article {i}" for i in range(20)]


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


# ---- JSON lines

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


# ---- data sets


@pytest.fixture
def dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a data set; `datasets` keeps its cache beside it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "questions"
    folder.mkdir()
    return folder


def rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of a SQuAD object with the columns that `rajpurkar/squad` has."""
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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(HERE / "assets/nano/model")


def record_of(context: str, answer: str, question: str = "Who drew it?") -> Record:
    return Record("q0", "Alpha", question, context, (Answer(answer, context.index(answer)),))


def example_of(
    record: Record, tokenizer: Any, training: bool = True, max_length: int = 160, max_answer_tokens: int = 10
) -> Example:
    return tokenize([record], tokenizer, max_length, max_answer_tokens, training)[0]


def padded(answer: str, before: int, after: int) -> str:
    return "old " * before + answer + " old" * after


SHORT = record_of("The old mill was the work of Mara Velt.", "Mara Velt")
LONG = record_of(padded("Mara Velt", before=60, after=60), "Mara Velt")


@pytest.mark.parametrize("training", [True, False])
def test_prompt_is_the_question_the_context_and_a_final_answer(tokenizer: Any, training: bool) -> None:
    text = tokenizer.decode(example_of(SHORT, tokenizer, training).prompt)
    assert text == "Question: Who drew it? Context: The old mill was the work of Mara Velt. Answer:"


def test_target_is_the_first_answer_and_the_end_token(tokenizer: Any) -> None:
    record = Record("q0", "Alpha", "Who?", "Mara Velt", (Answer("Mara Velt", 0), Answer("Velt", 5)))
    example = example_of(record, tokenizer)
    assert (tokenizer.decode(example.target[:-1]), example.target[-1]) == (" Mara Velt", tokenizer.eos_token_id)


def test_all_answers_are_references(tokenizer: Any) -> None:
    record = Record("q0", "Alpha", "Who?", "Mara Velt", (Answer("Mara Velt", 0), Answer("Velt", 5)))
    assert example_of(record, tokenizer).references == ("Mara Velt", "Velt")


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("Who drew it?", "The old mill was the work of Mara Velt."),
        (" Who  drew it? ", " Mara Velt  drew\nit. "),
        ("Qui a dessiné l'église?", "L'église, 東京 — par Mara Velt…"),
        ("Who?", "Mara Velt"),
        ("Question: Answer: Context:", "Context: Mara Velt Answer:"),
    ],
)
def test_pieces_are_the_tokens_of_the_whole_prompt(tokenizer: Any, question: str, context: str) -> None:
    prompt = example_of(record_of(context, "Mara Velt", question), tokenizer).prompt
    assert prompt == tokenizer(prompt_of(question, context))["input_ids"]


def test_prompt_and_target_together_are_the_tokens_of_the_whole_text(tokenizer: Any) -> None:
    example = example_of(SHORT, tokenizer)
    text = prompt_of(SHORT.question, SHORT.context) + " Mara Velt" + tokenizer.eos_token
    assert example.prompt + example.target == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(("before", "after"), [(0, 120), (3, 117), (60, 60), (117, 3), (120, 0)])
@pytest.mark.parametrize("max_length", [24, 25, 40, 41, 60])
def test_training_keeps_the_answer_of_a_long_context(tokenizer: Any, before: int, after: int, max_length: int) -> None:
    record = record_of(padded("Mara Velt", before, after), "Mara Velt")
    assert "Mara Velt" in tokenizer.decode(example_of(record, tokenizer, max_length=max_length).prompt)


@pytest.mark.parametrize("answer", ["Mara Velt qzxjqzxj", "qzxjqzxj Mara Velt", "Elvaston Ostrava Penrith qzxjqzxj"])
def test_training_keeps_an_answer_of_uneven_tokens(tokenizer: Any, answer: str) -> None:
    record = record_of(padded(answer, before=60, after=60), answer)
    room = len(tokenizer(f" {answer}")["input_ids"]) + 1
    question = len(tokenizer("Question: Who drew it? Context: Answer:")["input_ids"])
    example = example_of(record, tokenizer, max_length=question + room + 12, max_answer_tokens=12)
    assert answer in tokenizer.decode(example.prompt)


def test_training_fills_the_room_around_the_answer(tokenizer: Any) -> None:
    text = tokenizer.decode(example_of(LONG, tokenizer, max_length=40).prompt)
    before, after = text.removeprefix("Question: Who drew it? Context:").removesuffix(" Answer:").split(" Mara Velt")
    assert abs(before.count(" old") - after.count(" old")) <= 2


def test_evaluation_cuts_a_long_context_at_its_end(tokenizer: Any) -> None:
    record = record_of("Mara Velt drew it. " + padded("Tobin", 60, 60), "Tobin")
    text = tokenizer.decode(example_of(record, tokenizer, training=False, max_length=40).prompt)
    assert re.fullmatch(r"Question: Who drew it\? Context: Mara Velt drew it\.( old)+ Answer:", text)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_length", range(22, 72, 7))
def test_question_and_final_answer_are_never_cut(tokenizer: Any, training: bool, max_length: int) -> None:
    text = tokenizer.decode(example_of(LONG, tokenizer, training, max_length).prompt)
    assert (text.startswith("Question: Who drew it? Context:"), text.endswith(" Answer:")) == (True, True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_length", range(22, 72, 7))
def test_sequence_is_never_longer_than_max_length(tokenizer: Any, training: bool, max_length: int) -> None:
    record = record_of(padded("qzxjqzxjqzxjqzxj", 60, 60), "qzxjqzxjqzxjqzxj")
    example = example_of(record, tokenizer, training, max_length, max_answer_tokens=4)
    assert len(example.prompt) + len(example.target) <= max_length


def test_long_training_answer_is_cut_and_still_ends(tokenizer: Any) -> None:
    record = record_of("Mara Velt Mara Velt Mara Velt", "Mara Velt Mara Velt Mara Velt")
    target = example_of(record, tokenizer, max_answer_tokens=4).target
    assert (tokenizer.decode(target[:-1]), target[-1]) == (" Mara Velt Mara", tokenizer.eos_token_id)


def test_question_without_room_for_a_context_is_refused(tokenizer: Any) -> None:
    record = record_of("Mara Velt", "Mara Velt", question="Who drew it? " * 20)
    message = "question 'q0' leaves no room for a context in max_length 40; raise it"
    with pytest.raises(BenchmarkError, match=message):
        example_of(record, tokenizer, max_length=40)


def test_smallest_room_is_one_context_token(tokenizer: Any) -> None:
    question = len(tokenizer("Question: Who drew it? Context: Answer:")["input_ids"])
    assert len(example_of(LONG, tokenizer, max_length=question + 10 + 1).prompt) == question + 1


def test_context_that_just_fits_is_not_truncated(tokenizer: Any) -> None:
    length = len(tokenizer(prompt_of(SHORT.question, SHORT.context))["input_ids"])
    exact, short = (example_of(SHORT, tokenizer, max_length=length + 10 - less) for less in (0, 1))
    assert (exact.truncated, short.truncated) == (False, True)


def test_token_statistics_count_cut_contexts_and_cut_answers(tokenizer: Any) -> None:
    wordy = record_of("Mara Velt Mara Velt", "Mara Velt Mara Velt")
    kept = len(tokenizer(" Mara Velt")["input_ids"])
    examples = tokenize([SHORT, LONG, LONG, wordy], tokenizer, 40, max_answer_tokens=kept + 1, training=True)
    found = token_statistics("train", examples, max_length=40)
    assert (found.split, found.questions, found.max_length) == ("train", 4, 40)
    assert (found.truncated_share, found.cut_answers_share) == (0.5, 0.25)


def test_token_statistics_are_of_prompt_answer_and_end_token() -> None:
    examples = [Example([1] * (length - 2), [1, 2], ("x",), False, False) for length in range(100, 1, -1)]
    found = token_statistics("test", examples, max_length=512)
    assert (found.questions, found.mean, found.median) == (99, 51, 51)
    assert (found.p95, found.longest) == (96, 100)  # 95 of 99 are no longer than 96, but 94 no longer than 95


def test_token_statistics_of_one_question(tokenizer: Any) -> None:
    example = example_of(SHORT, tokenizer)
    found, length = token_statistics("test", [example], 160), len(example.prompt) + len(example.target)
    assert (found.mean, found.median, found.p95, found.longest) == (length, length, length, length)
    assert (found.truncated_share, found.cut_answers_share) == (0, 0)


def test_example_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    assert tokenize([LONG, SHORT], tokenizer, 40, 10, training=True)[1] == example_of(SHORT, tokenizer, max_length=40)
