"""Paths in a benchmark file: data, model and DeepSpeed block, relative to the file or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import BenchmarkError
from tests.benchmarks.own_benchmark import load_with, write_text


@pytest.mark.parametrize("split", [{"file": "a.json", "dataset": "owner/data", "split": "train"}, {"limit": 5}])
def test_split_needs_exactly_one_source(tmp_path: Path, split: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError, match=r"finetune\.data\.train: give either `file` or `dataset`"):
        load_with(tmp_path, {"finetune.data.train": split})


def test_dataset_needs_a_split(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"finetune\.data\.train: `dataset` needs `split`, such as \"train\""):
        load_with(tmp_path, {"finetune.data.train": {"dataset": "owner/data"}})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_data_files_are_relative_to_the_yaml_file(tmp_path: Path, split: str) -> None:
    finetune = load_with(tmp_path, {f"finetune.data.{split}.file": "../data/a.json"}).finetune
    assert finetune is not None
    assert getattr(finetune.data, split).file == tmp_path.resolve().parent / "data/a.json"


def test_absolute_data_file_stays(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.data.train.file": "/somewhere/train.json"}).finetune
    assert finetune is not None
    assert finetune.data.train.file == Path("/somewhere/train.json")


def test_dataset_folder_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "questions").mkdir()
    finetune = load_with(tmp_path, {"finetune.data.train": {"dataset": "questions", "split": "train"}}).finetune
    assert finetune is not None
    assert finetune.data.train.dataset == str(tmp_path.resolve() / "questions")


def test_dataset_on_the_hub_keeps_its_name(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.data.train": {"dataset": "owner/data", "split": "train"}}).finetune
    assert finetune is not None
    assert finetune.data.train.dataset == "owner/data"


@pytest.mark.parametrize("source", [{"file": "a.json"}, {"dataset": "questions", "split": "train"}])
def test_revision_of_what_lies_here_is_refused(tmp_path: Path, source: dict[str, str]) -> None:
    (tmp_path / "questions").mkdir()
    with pytest.raises(BenchmarkError, match="`revision` goes with a `dataset` on the hub, not with a file or folder"):
        load_with(tmp_path, {"finetune.data.train": {**source, "revision": "v1.0"}})


def test_model_folder_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    finetune = load_with(tmp_path, {"finetune.model": "my model"}).finetune
    assert finetune is not None
    assert finetune.model == str(tmp_path.resolve() / "my model")


def test_model_path_that_is_no_folder_yet_is_still_a_path(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.model": "./missing"}).finetune
    assert finetune is not None
    assert finetune.model == str(tmp_path.resolve() / "missing")


def test_model_on_the_hub_keeps_its_name(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {}).finetune
    assert finetune is not None
    assert finetune.model == "owner/model"


def test_deepspeed_may_be_the_path_of_a_json_file(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", '{"zero_optimization": {"stage": 2}}')
    finetune = load_with(tmp_path, {"finetune.deepspeed": "zero.json"}).finetune
    assert finetune is not None
    assert finetune.deepspeed == {"zero_optimization": {"stage": 2}}


def test_deepspeed_path_of_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"zero\.json: cannot be read \(No such file or directory\)"):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})


def test_deepspeed_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", "{")
    with pytest.raises(BenchmarkError, match=r"zero\.json: not valid JSON \("):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})


def test_deepspeed_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", "[]")
    with pytest.raises(BenchmarkError, match=r"finetune\.deepspeed: must be keys with values"):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})
