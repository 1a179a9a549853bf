"""A benchmark's digest: content decides, place does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import identity
from benchmarks.files import BenchmarkError
from benchmarks.identity import digest
from benchmarks.spec import Benchmark, FineTune, load
from benchmarks.trials import synthetic

SPLIT_FILES = {"data/train.jsonl": '{"a": 1}\n', "data/test.jsonl": '{"a": 2}\n'}
CARD = "---\nconfigs:\n- config_name: default\n---\n# About\n"
DATASET = {**SPLIT_FILES, "README.md": CARD}
MODEL = {
    "config.json": "{}",
    "model.safetensors": "weights",
    "generation_config.json": "{}",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "special_tokens_map.json": "{}",
    "vocab.txt": "a b",
    "merges.txt": "a b",
    "tokenizer.model": "pieces",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tool.jinja": "{{ tools }}",
    "adapter_config.json": "{}",
    "adapter_model.safetensors": "update",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def nano_with(**changes: object) -> Benchmark:
    nano = load("nano")
    finetune = nano.training_settings().model_dump()
    return nano.model_copy(update={"finetune": FineTune.model_validate({**finetune, **changes})})


def with_model(folder: Path) -> Benchmark:
    return nano_with(model=str(folder))


def with_dataset(folder: Path) -> Benchmark:
    splits = {"train": "train", "validation": "test", "test": "test"}
    return nano_with(data={name: {"dataset": str(folder), "split": split} for name, split in splits.items()})


KINDS: dict[str, tuple[Callable[[Path], Benchmark], dict[str, str]]] = {
    "model": (with_model, MODEL),
    "dataset": (with_dataset, DATASET),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, files) in KINDS.items() for name in files])
def test_every_file_that_is_read_counts(tmp_path: Path, kind: str, name: str) -> None:
    make, files = KINDS[kind]
    before = digest(make(write(tmp_path / "it", files)))
    path = tmp_path / "it" / name
    path.write_text(path.read_text().replace("{}", '{"a": 1}').translate(str.maketrans("aeiou", "zzzzz")))
    assert digest(make(tmp_path / "it")) != before
    path.unlink()
    assert digest(make(tmp_path / "it")) != before


def test_shards_count_wherever_the_index_finds_them(tmp_path: Path) -> None:
    names = ("shards/first.safetensors", "../shared/second.safetensors")
    index = json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
    without = {name: text for name, text in MODEL.items() if name != "model.safetensors"}
    folder = write(tmp_path / "it", {**without, "model.safetensors.index.json": index, **dict.fromkeys(names, "a")})
    found = {digest(with_model(folder))}
    for name in names:
        (folder / name).write_text("b")
        found.add(digest(with_model(folder)))
    assert len(found) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_elsewhere_is_the_same(tmp_path: Path, kind: str) -> None:
    make, files = KINDS[kind]
    here = write(tmp_path / "here", files)
    there = Path(shutil.copytree(here, tmp_path / "there/on/another disk"))
    (tmp_path / "link").symlink_to(here)
    assert len({digest(make(folder)) for folder in (here, there, tmp_path / "link")}) == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "README.md"),
        ("model", "LICENSE.txt"),
        ("model", "training.json"),
        ("model", "trainer_state.json"),
        ("model", "eval_results.json"),
        ("model", "pytorch_model.bin"),
        ("model", ".cache/huggingface/download/config.json"),
        ("model", "checkpoint-100/config.json"),
        ("dataset", "LICENSE"),
        ("dataset", "make_data.py"),
        ("dataset", "notes.md"),
        ("dataset", ".cache/huggingface/download/train.json"),
        ("dataset", ".git/config"),
    ],
)
def test_files_that_nothing_reads_do_not_count(tmp_path: Path, kind: str, name: str) -> None:
    make, files = KINDS[kind]
    before = digest(make(write(tmp_path / "it", files)))
    assert digest(make(write(tmp_path / "it", {name: "text"}))) == before


def test_the_text_of_a_data_sets_card_does_not_count_but_its_header_does(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", DATASET)
    before = digest(with_dataset(folder))
    (folder / "README.md").write_text(CARD + "More words.\n")
    assert digest(with_dataset(folder)) == before
    (folder / "README.md").write_text(CARD.replace("default", "other"))
    assert digest(with_dataset(folder)) != before


def test_a_data_files_name_counts_for_it_names_the_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", DATASET)
    before = digest(with_dataset(folder))
    (folder / "data/test.jsonl").rename(folder / "data/validation.jsonl")
    assert digest(with_dataset(folder)) != before


def test_files_of_a_linked_folder_count_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", SPLIT_FILES)
    folder = write(tmp_path / "it", {"README.md": CARD})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked/circle").symlink_to(folder)
    before = digest(with_dataset(folder))
    (tmp_path / "elsewhere/data/train.jsonl").write_text("other")
    assert digest(with_dataset(folder)) != before


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_content_of_a_split_counts_and_its_path_does_not(tmp_path: Path, split: str) -> None:
    data = load("nano").training_settings().data.model_dump()
    copy = Path(shutil.copy(data[split]["file"], tmp_path / "copy.json"))
    changed = {**data, split: {**data[split], "file": copy}}
    assert digest(nano_with(data=changed)) == digest(load("nano"))
    content = json.loads(copy.read_text())
    content["data"].pop()
    copy.write_text(json.dumps(content))
    assert digest(nano_with(data=changed)) != digest(load("nano"))


def test_names_on_the_hub_count_as_they_are() -> None:
    data = {name: {"dataset": "owner/data", "split": "train"} for name in ("train", "validation", "test")}
    assert digest(nano_with(model="owner/a")) != digest(nano_with(model="owner/b"))
    other = {**data, "train": {"dataset": "owner/other", "split": "train"}}
    assert digest(nano_with(data=data)) != digest(nano_with(data=other))
    pinned = {**data, "train": {**data["train"], "revision": "v1.0"}}
    newer = {**data, "train": {**data["train"], "revision": "v2.0"}}
    assert len({digest(nano_with(data=one)) for one in (data, pinned, newer)}) == 3


def test_settings_that_change_no_result_do_not_count() -> None:
    nano = load("nano")
    assert digest(nano.model_copy(update={"description": "other", "grid": {}})) == digest(nano)
    assert digest(nano_with(timeout_seconds=1.0)) == digest(nano)
    assert digest(nano_with(max_length=161)) != digest(nano)


def test_digest_of_nano_stays_since_recorded_curves_name_it() -> None:
    assert digest(load("nano")) == "db84aa7c168ea437"


def test_another_formula_is_another_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(load("synthetic"))
    monkeypatch.setattr(identity, "FORMULA", synthetic.FORMULA + 1)
    assert digest(load("synthetic")) != before


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "it", MODEL)
    for name in MODEL:
        os.utime(folder / name, (1e9, 1e9))
    monkeypatch.setattr(identity, "SETTLED_SECONDS", -1.0)
    before = digest(with_model(folder))
    read: list[object] = []
    real = hashlib.file_digest
    monkeypatch.setattr("hashlib.file_digest", lambda file, kind: read.append(file.name) or real(file, kind))
    assert digest(with_model(folder)) == before
    assert read == []
    (folder / "config.json").write_text('{"a": 1}')
    assert digest(with_model(folder)) != before
    assert read == [str(folder / "config.json")]


def test_a_file_that_was_written_just_now_is_read_again(tmp_path: Path) -> None:
    folder, seen = write(tmp_path / "it", MODEL), set()
    for number in range(20):
        (folder / "config.json").write_text(f'{{"a": {number:02}}}')  # of one size, within a step of the clock
        seen.add(digest(with_model(folder)))
    assert len(seen) == 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", MODEL)
    (folder / "config.json").chmod(0)
    with pytest.raises(BenchmarkError, match=r"config\.json: cannot be read \(Permission denied\)"):
        digest(with_model(folder))
