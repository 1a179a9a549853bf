"""Classification as text: records, tokens at their limits, and scores."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.assets.nano import make_topics
from benchmarks.files import BenchmarkError
from benchmarks.spec import HERE
from benchmarks.splits import Split
from benchmarks.tasks.classification import TASK, LabelledText
from benchmarks.tasks.task import Example

SUN = {"text": "The sun is out.", "label": "fine"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(HERE / "assets/nano/model")


def read_lines(folder: Path, *lines: Any, **selection: Any) -> list[LabelledText]:
    path = folder / "own.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return TASK.read(Split(file=path, **selection))


def example_of(tokenizer: Any, text: str, label: str, max_length: int = 40, max_answer_tokens: int = 10) -> Example:
    record = LabelledText(text, label, "line 1", text)
    return TASK.tokenize([record], tokenizer, max_length, max_answer_tokens, training=True)[0]


# ---- records


def test_a_line_is_a_text_with_its_label(tmp_path: Path) -> None:
    [record] = read_lines(tmp_path, "", {**SUN, "label": " fine "})
    assert (record.text, record.label, record.place, record.article) == (SUN["text"], "fine", "line 2", SUN["text"])


def test_a_label_may_be_a_whole_number(tmp_path: Path) -> None:
    assert [record.label for record in read_lines(tmp_path, {**SUN, "label": 0}, {**SUN, "label": 12})] == ["0", "12"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ([], "line 1: expected an object with `text`, found list"),
        ({"label": "fine"}, "line 1: field `text` is missing"),
        ({"text": "The sun is out."}, "line 1: field `label` is missing"),
        ({**SUN, "text": 3}, "line 1: field `text` is int, but must be str"),
        ({**SUN, "label": True}, "line 1: field `label` is bool, but must be str"),
        ({**SUN, "label": 0.5}, "line 1: field `label` is float, but must be str"),
        ({**SUN, "label": "  "}, "line 1: `label` is empty; give each text the label"),
        ({**SUN, "article": 3}, "line 1: field `article` is int, but must be str"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        read_lines(tmp_path, line)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n")
    with pytest.raises(BenchmarkError, match=r"texts.csv: is no .jsonl or .ndjson file; give the path of a .jsonl"):
        TASK.read(Split(file=path))


def test_texts_of_an_article_are_held_out_together(tmp_path: Path) -> None:
    lines = [{"text": f"Text {number}", "label": "a", "article": str(number // 3)} for number in range(90)]
    sides = [read_lines(tmp_path, *lines, articles=side, held_out_share=0.3) for side in ("held_out", "rest")]
    articles = [{record.article for record in records} for records in sides]
    assert articles[0]
    assert articles[0].isdisjoint(articles[1])
    assert sum(map(len, sides)) == 90


def test_splits_that_share_a_text_are_told_whatever_its_label(tmp_path: Path) -> None:
    first = read_lines(tmp_path, SUN, {"text": "It rains.", "label": "foul"})
    second = read_lines(tmp_path, {"text": "It snows.", "label": "foul"}, {**SUN, "label": "foul"})
    assert TASK.shared({"train": first, "test": second}) == {("train", "test"): "1 text"}


def test_splits_that_share_articles_are_told(tmp_path: Path) -> None:
    lines = ({"text": text, "label": "a", "article": article} for text, article in zip("abc", "112", strict=True))
    first, second, other = (read_lines(tmp_path, line) for line in lines)
    assert TASK.shared({"train": first, "validation": second, "test": other}) == {("train", "validation"): "1 article"}


# ---- data sets


def dataset_of(folder: Path, monkeypatch: pytest.MonkeyPatch, labels: list[Any]) -> str:
    """Write a data set whose labels are classes, as most on the hub have them; returns its folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    (folder / "texts").mkdir()
    rows = "".join(f"{json.dumps({'text': f'Text {i}', 'label': label})}\n" for i, label in enumerate(labels))
    (folder / "texts/train.jsonl").write_text(rows)
    (folder / "texts/README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': foul\n          '1': fine\n---\n"
    )
    return str(folder / "texts")


def test_classes_of_a_data_set_become_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = TASK.read(Split(dataset=dataset_of(tmp_path, monkeypatch, [1, 0]), split="train"))
    assert [(record.text, record.label) for record in records] == [("Text 0", "fine"), ("Text 1", "foul")]


def test_a_data_set_without_public_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(dataset=dataset_of(tmp_path, monkeypatch, [1, -1]), split="train")
    with pytest.raises(BenchmarkError, match=r"row 1: `label` is -1, which is no class; take a split whose labels"):
        TASK.read(split)


# ---- tokens


@pytest.mark.parametrize("text", ["The sun is out.", " The  sun\nis out ", "日 — “out”…", "Text: Label: a"])
def test_prompt_and_target_together_are_the_tokens_of_the_whole_text(tokenizer: Any, text: str) -> None:
    example = example_of(tokenizer, text, "fine", max_length=80)
    whole = f"{TASK.prompt.format(text=text)} fine{tokenizer.eos_token}"
    assert example.prompt + example.target == tokenizer(whole)["input_ids"]
    assert tokenizer.decode(example.target) == f" fine{tokenizer.eos_token}"


def test_a_long_text_is_cut_at_its_end(tokenizer: Any) -> None:
    example = example_of(tokenizer, "old " * 60 + "mill", "fine", max_length=24)
    text = tokenizer.decode(example.prompt)
    assert (text[:9], text[-7:], "mill" in text) == ("Text: old", " Label:", False)
    assert (example.truncated, len(example.prompt)) == (True, 24 - 10)


def test_a_long_label_is_cut_and_said(tokenizer: Any) -> None:
    example = example_of(tokenizer, "out", "fine weather all day long", max_answer_tokens=3)
    assert (example.answer_cut, len(example.target), example.target[-1]) == (True, 3, tokenizer.eos_token_id)


def test_an_empty_text_has_a_prompt(tokenizer: Any) -> None:
    assert tokenizer.decode(example_of(tokenizer, "", "fine").prompt) == "Text:  Label:"


def test_no_room_for_a_text_is_refused(tokenizer: Any) -> None:
    with pytest.raises(BenchmarkError, match=r"no room for the text of line 1 in max_length 12; raise it"):
        example_of(tokenizer, "out", "fine", max_length=12)


# ---- scores


@pytest.mark.parametrize(
    ("answer", "score"), [("fine", 1.0), (" FINE ", 1.0), ("fine weather", 0.0), ("", 0.0), ("foul", 0.0)]
)
def test_an_answer_counts_if_it_is_the_label(answer: str, score: float) -> None:
    assert TASK.score(answer, ("fine",)) == (score,)


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert TASK.summarise((3.0,), 4) == {"accuracy": 0.75}


# ---- the benchmark that ships


def test_the_shipped_texts_are_those_of_the_script() -> None:
    folder = HERE / "assets/nano/topics"
    for name, lines in make_topics.make_splits(seed=0).items():
        assert (folder / f"{name}.jsonl").read_text() == "".join(f"{json.dumps(line)}\n" for line in lines)


def test_the_shipped_splits_share_no_text_and_no_label_is_rare() -> None:
    settings = spec.load("nano_topics").training_settings()
    splits = {name: TASK.read(split) for name, split in settings.splits.items()}
    assert TASK.shared(splits) == {}
    for records in splits.values():
        counts = Counter(record.label for record in records)
        assert len(counts) == 9
        assert min(counts.values()) > len(records) / 9 / 2
