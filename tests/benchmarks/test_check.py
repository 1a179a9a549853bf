"""Checking the files a benchmark points at, before anything is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from benchmarks.check import check
from benchmarks.space import Space
from benchmarks.spec import Benchmark, BenchmarkError, FineTune, load, names

MODEL_FILES = {"config.json": '{"hidden_size": 64}', "model.safetensors": "", "tokenizer.json": "{}"}


def model_folder(folder: Path, without: str = "", **replaced: str) -> Path:
    """A folder with the files of a model, one of them left out."""
    folder = folder / "model"
    folder.mkdir()
    for name, text in MODEL_FILES.items():
        if name != without:
            (folder / name).write_text(replaced.get(name.partition(".")[0], text))
    return folder


def nano_with(space: dict[str, Any] | None = None, **changes: Any) -> Benchmark:
    """`nano` with other values in its `finetune` block, and perhaps with more domains."""
    nano = load("nano")
    assert nano.finetune is not None
    finetune = FineTune.model_validate({**nano.finetune.model_dump(), **changes})
    domains = {**nano.space, **TypeAdapter(Space).validate_python(space or {})}
    return nano.model_copy(update={"finetune": finetune, "space": domains})


@pytest.mark.parametrize("name", names())
def test_shipped_benchmark_passes(name: str) -> None:
    check(load(name))


def test_complete_model_folder_passes(tmp_path: Path) -> None:
    check(nano_with(model=str(model_folder(tmp_path))))


@pytest.mark.parametrize("tokenizer", ["tokenizer.model", "vocab.json"])
def test_other_tokenizer_files_pass(tmp_path: Path, tokenizer: str) -> None:
    folder = model_folder(tmp_path, without="tokenizer.json")
    (folder / tokenizer).write_text("")
    check(nano_with(model=str(folder)))


def test_missing_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=f"^model {re.escape(str(tmp_path))}/missing: no such folder$"):
        check(nano_with(model=str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "config.json is missing; give a folder written by save_pretrained"),
        ("model.safetensors", "no *.safetensors; save the weights with safe_serialization"),
        ("tokenizer.json", "no tokenizer (tokenizer.json or tokenizer.model or vocab.json); save it there with"),
    ],
)
def test_incomplete_model_folder_is_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = model_folder(tmp_path, without=name)
    with pytest.raises(BenchmarkError, match=re.escape(f"model {folder}: {message}")):
        check(nano_with(model=str(folder)))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_model_configuration_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    folder = model_folder(tmp_path, config=text)
    with pytest.raises(BenchmarkError, match=r"config\.json"):
        check(nano_with(model=str(folder)))


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


def test_fixed_batch_size_that_disagrees_with_a_choice_is_refused() -> None:
    space = {"batch_size_per_device": {"type": "choice", "values": [8, 16]}}
    with pytest.raises(BenchmarkError, match=r"deepspeed\.train_micro_batch_size_per_gpu is 8, but the trial has 16"):
        check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": 8}))


def test_fixed_batch_size_that_disagrees_with_a_range_is_refused() -> None:
    space = {"batch_size_per_device": {"type": "int", "low": 1, "high": 64}}
    default = load("nano").default.batch_size_per_device
    message = f"deepspeed.train_micro_batch_size_per_gpu is {default}, but the trial has"
    with pytest.raises(BenchmarkError, match=message):
        check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": default}))


def test_fixed_batch_size_that_disagrees_with_the_default_is_refused() -> None:
    nano = nano_with(deepspeed={"train_micro_batch_size_per_gpu": 7})
    space = {name: domain for name, domain in nano.space.items() if name != "batch_size_per_device"}
    message = f"train_micro_batch_size_per_gpu is 7, but the trial has {nano.default.batch_size_per_device}"
    with pytest.raises(BenchmarkError, match=message):
        check(nano.model_copy(update={"space": space}))


def test_fixed_batch_size_that_is_the_only_one_passes() -> None:
    space = {"batch_size_per_device": {"type": "choice", "values": [8]}}
    check(nano_with(space, deepspeed={"train_micro_batch_size_per_gpu": 8}))


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("gradient_accumulation_steps", "gradient_accumulation_steps", [1, 2]),
        ("max_grad_norm", "gradient_clipping", [1.0, 0.5]),
    ],
)
def test_fixed_value_of_anything_tuned_is_refused(name: str, key: str, values: list[float]) -> None:
    space = {name: {"type": "choice", "values": values}}
    with pytest.raises(BenchmarkError, match=rf"deepspeed\.{key} is {values[0]}, but the trial has {values[1]}"):
        check(nano_with(space, deepspeed={key: values[0]}))


def test_precision_in_the_deepspeed_block_must_be_the_benchmarks() -> None:
    with pytest.raises(BenchmarkError, match=r"deepspeed\.bf16\.enabled is True, but the trial has False"):
        check(nano_with(precision="fp32", deepspeed={"bf16": {"enabled": True}}))


def test_precision_left_to_the_device_is_not_checked() -> None:
    check(nano_with(precision="auto", deepspeed={"bf16": {"enabled": True}}))


def test_optimizer_block_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"deepspeed\.optimizer: remove this block"):
        check(nano_with(deepspeed={"optimizer": {"type": "AdamW"}}))


def test_model_on_the_hub_is_left_to_the_libraries() -> None:
    check(nano_with(model="owner/model"))
