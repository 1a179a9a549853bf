"""Data of a benchmark: files that cannot be read, questions that do not fit, splits that share content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from benchmarks import tasks
from benchmarks.check import check
from benchmarks.check.data import check_longest_record, longest, read_local
from benchmarks.spec import BenchmarkError, load, names
from benchmarks.training.model.models import load_tokenizer
from tests.benchmarks.check.models import POINTER, model_folder, nano_with


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_malformed_data_file_is_refused(tmp_path: Path, split: str) -> None:
    path = tmp_path / "data.json"
    path.write_text("{}")
    nano = nano_with()
    assert nano.finetune is not None
    data = {**nano.finetune.data.model_dump(), split: {"file": path}}
    with pytest.raises(BenchmarkError, match=r"data\.json: field `data` is missing"):
        check(nano_with(data=data))


def test_missing_data_file_is_refused(tmp_path: Path) -> None:
    nano = nano_with()
    assert nano.finetune is not None
    data = {**nano.finetune.data.model_dump(), "test": {"file": tmp_path / "missing.json"}}
    with pytest.raises(BenchmarkError, match=r"missing\.json: cannot be read \(No such file or directory\)"):
        check(nano_with(data=data))


def write_squad(
    path: Path, questions: dict[str, str], title: str = "Delft", context: str = "A town since 1246."
) -> Path:
    """Write a SQuAD file with these questions by id."""
    answers = [{"text": "1246", "answer_start": context.index("1246")}]
    qas = [{"id": name, "question": question, "answers": answers} for name, question in questions.items()]
    content = {"data": [{"title": title, "paragraphs": [{"context": context, "qas": qas}]}]}
    path.write_text(json.dumps(content))
    return path


def with_split(split: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"data": {**load("nano").training_settings().data.model_dump(), split: source}}


class TestData:
    """Splits that cannot be used, or that should not be."""

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_a_question_that_fills_the_sequence_is_named(self, tmp_path: Path, split: str) -> None:
        path = write_squad(tmp_path / "own.json", {"short": "When?", "long": "Since when is it a town? " * 40})
        with pytest.raises(BenchmarkError, match=rf"^{split}: question 'long' leaves no room .* raise max_length, or"):
            check(nano_with(**with_split(split, {"file": path})))
        check(nano_with(**with_split(split, {"file": path}), max_length=2000))

    @pytest.mark.parametrize("name", ["nano", "nano_topics"])
    def test_the_least_length_is_that_of_training(self, name: str) -> None:
        benchmark = load(name)
        finetune = benchmark.training_settings()
        splits = read_local(finetune)
        task, tokenizer = tasks.get(finetune.task), load_tokenizer(finetune.model)

        def is_checked(length: int) -> bool:
            try:
                check_longest_record(finetune.model_copy(update={"max_length": length}), splits)
            except BenchmarkError:
                return False
            return True

        def is_tokenised(length: int) -> bool:
            try:
                for records in splits.values():
                    records = longest(task, records)
                    task.tokenize(records, tokenizer, length, finetune.max_answer_tokens, training=True)
            except BenchmarkError:
                return False
            return True

        least = next(filter(is_checked, range(finetune.max_answer_tokens + 2, finetune.max_length)))
        assert not is_tokenised(least - 1)
        assert is_tokenised(least)

    def test_lengths_are_those_without_the_padding_and_truncation_of_the_tokenizers_last_use(
        self, tmp_path: Path
    ) -> None:
        path = write_squad(tmp_path / "own.json", {"a": "Since when is it a town? " * 4})
        folder = model_folder(tmp_path)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        of_own = {**with_split("test", {"file": path}), "model": str(folder)}
        tokenizer.enable_padding(length=512)
        tokenizer.save(str(folder / "tokenizer.json"))
        check(nano_with(**of_own, max_length=100))
        tokenizer.no_padding()
        tokenizer.enable_truncation(8)
        tokenizer.save(str(folder / "tokenizer.json"))
        with pytest.raises(BenchmarkError, match="question 'a' leaves no room"):
            check(nano_with(**of_own, max_length=40))

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_data_file_that_is_a_pointer_is_refused(self, tmp_path: Path, split: str) -> None:
        path = tmp_path / "own.json"
        path.write_text(POINTER)
        with pytest.raises(BenchmarkError, match=r"own\.json: is a pointer of git-lfs"):
            check(nano_with(**with_split(split, {"file": path})))

    def test_a_folder_of_a_data_set_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        source = {"dataset": str(tmp_path / "missing"), "split": "train"}
        with pytest.raises(BenchmarkError, match=r"data set .*/missing: no such folder; give one, or a "):
            check(nano_with(**with_split("train", source)))

    def test_a_data_set_whose_files_are_pointers_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "own/data").mkdir(parents=True)
        (tmp_path / "own/data/train.parquet").write_text(POINTER)
        source = {"dataset": str(tmp_path / "own"), "split": "train"}
        with pytest.raises(BenchmarkError, match=r"train\.parquet: is a pointer of git-lfs"):
            check(nano_with(**with_split("train", source)))

    @pytest.mark.slow
    def test_the_splits_of_a_data_set_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        answers = {"text": ["1246"], "answer_start": [13]}
        row = {"id": "a", "title": "Delft", "question": "When?", "context": "A town since 1246.", "answers": answers}
        (tmp_path / "own").mkdir()
        (tmp_path / "own/train.jsonl").write_text(json.dumps(row) + "\n")
        source = {"dataset": str(tmp_path / "own"), "split": "train"}
        check(nano_with(**with_split("test", source)))
        with pytest.raises(BenchmarkError, match=r"split 'dev': cannot be loaded"):
            check(nano_with(**with_split("test", {**source, "split": "dev"})))
        del row["title"]
        (tmp_path / "own/train.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(BenchmarkError, match="column `title` is missing"):
            check(nano_with(**with_split("test", source)))

    def test_splits_that_share_questions_are_warned_of(self, tmp_path: Path) -> None:
        one = write_squad(tmp_path / "one.json", {"a": "When?", "b": "What?"})
        two = write_squad(tmp_path / "two.json", {"c": " When? ", "d": "Who?"})
        data = {"train": {"file": one}, "validation": {"file": two}, "test": {"file": one}}
        warnings = check(nano_with(data=data))
        assert [warning.partition(":")[0] for warning in warnings] == [
            "train and validation share 1 question, such as 'When?'",
            "train and test share 2 questions, such as 'What?'",
            "validation and test share 1 question, such as 'When?'",
        ]

    def test_splits_that_share_articles_are_warned_of(self, tmp_path: Path) -> None:
        one = write_squad(tmp_path / "one.json", {"a": "When?"})
        two = write_squad(tmp_path / "two.json", {"b": "Since when?"}, context="It was founded in 1246.")
        other = write_squad(tmp_path / "other.json", {"c": "When?"}, title="Leiden", context="Leiden has 1246 bridges.")
        data = {"train": {"file": one}, "validation": {"file": two}, "test": {"file": other}}
        [warning] = check(nano_with(data=data))
        assert warning.startswith("train and validation share 1 article, such as 'Delft': scores on validation")

    @pytest.mark.parametrize("name", names())
    def test_shipped_benchmarks_share_nothing(self, name: str) -> None:
        assert check(load(name)) == []
