"""The shipped splits of `nano`: repeatable, sound, and in wordings that pretraining has not seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.assets.nano import corpus, make_data
from benchmarks.spec import HERE, Split
from benchmarks.tasks.question_answering import Record, read_split

DATA = HERE / "assets/nano/data"
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def records() -> dict[str, list[Record]]:
    return {split: read_split(Split(file=DATA / f"{split}.json")) for split in SPLITS}


def sentence_forms(stage: str) -> set[str]:
    return {form for relation in corpus.RELATIONS for form in getattr(relation, stage)[0]}


def question_forms(stage: str) -> set[str]:
    return {form for relation in corpus.RELATIONS for form in getattr(relation, stage)[1]}


def test_running_the_generator_again_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_data", "--output", str(tmp_path), "--seed", "0"])
    make_data.main()
    assert [(tmp_path / f"{s}.json").read_bytes() == (DATA / f"{s}.json").read_bytes() for s in SPLITS] == [True] * 3


def test_seed_is_what_makes_the_data() -> None:
    assert make_data.make_splits(0) == make_data.make_splits(0) != make_data.make_splits(1)


@pytest.mark.parametrize(("split", "least"), [("train", 2000), ("validation", 300), ("test", 300)])
def test_split_has_enough_questions(records: dict[str, list[Record]], split: str, least: int) -> None:
    assert len(records[split]) >= least


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_splits_share_no_article(records: dict[str, list[Record]], one: str, other: str) -> None:
    assert {r.title for r in records[one]}.isdisjoint(r.title for r in records[other])


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_splits_share_no_context(records: dict[str, list[Record]], one: str, other: str) -> None:
    assert {r.context for r in records[one]}.isdisjoint(r.context for r in records[other])


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_stands_where_it_is_said_to(records: dict[str, list[Record]], split: str) -> None:
    wrong = [r.id for r in records[split] for a in r.answers if r.context[a.start : a.start + len(a.text)] != a.text]
    assert wrong == []


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_is_asked_twice_of_a_context(records: dict[str, list[Record]], split: str) -> None:
    assert len({(r.context, r.question) for r in records[split]}) == len(records[split])


def test_training_questions_have_one_answer(records: dict[str, list[Record]]) -> None:
    assert {len(r.answers) for r in records["train"]} == {1}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_has_questions_with_several_answers(records: dict[str, list[Record]], split: str) -> None:
    assert any(len(r.answers) > 1 for r in records[split])


def test_no_sentence_form_of_fine_tuning_is_pretrained_on() -> None:
    assert sentence_forms("finetune").isdisjoint(sentence_forms("pretrain"))


def test_no_question_form_of_fine_tuning_is_pretrained_on() -> None:
    assert question_forms("finetune").isdisjoint(question_forms("pretrain"))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_every_form_names_what_it_must(stage: str) -> None:
    stated = all("{s}" in form and "{v}" in form for form in sentence_forms(stage))
    asked = all("{s}" in form and "{v}" not in form for form in question_forms(stage))
    assert (stated, asked) == (True, True)
