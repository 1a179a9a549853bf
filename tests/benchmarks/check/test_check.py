"""Checking the files a benchmark points at, before anything is started."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.check import check
from benchmarks.check.device import check_device
from benchmarks.spec import BenchmarkError, load, names
from tests.benchmarks.check.models import POINTER, model_folder, nano_with


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
    folder = model_folder(tmp_path)
    (folder / "config.json").write_text(text)
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


class TestModelFolder:
    """Files of a model that are not what their names say."""

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    def test_pointer_of_git_lfs_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = model_folder(tmp_path)
        (folder / name).write_text(POINTER)
        with pytest.raises(BenchmarkError, match=rf"{re.escape(name)}: is a pointer of git-lfs .*`git lfs pull`"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("size", [0, 4, 100, 10_000, -1])
    def test_weights_that_are_cut_off_are_refused(self, tmp_path: Path, size: int) -> None:
        path = model_folder(tmp_path) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(BenchmarkError, match=r"model\.safetensors: is no whole file of weights \(.*fetch or save"):
            check(nano_with(model=str(path.parent)))

    def test_weights_with_more_bytes_than_they_say_are_refused(self, tmp_path: Path) -> None:
        path = model_folder(tmp_path) / "model.safetensors"
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(b"x")
        with pytest.raises(BenchmarkError, match=rf"it has {size + 1} bytes instead of {size}"):
            check(nano_with(model=str(path.parent)))

    @pytest.mark.parametrize("header", [b"[]", b"{", b"nonsense", b'{"a": 1}', b'{"a": {"data_offsets": []}}', b"\xff"])
    def test_a_header_that_is_none_is_refused(self, tmp_path: Path, header: bytes) -> None:
        path = model_folder(tmp_path) / "model.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(BenchmarkError, match="its header is not readable"):
            check(nano_with(model=str(path.parent)))

    def test_shards_pass_and_a_missing_one_is_named(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path)
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        shutil.copy(folder / "model.safetensors", folder / names[1])
        (folder / "model.safetensors").rename(folder / names[0])
        index = {"weight_map": {"a": names[0], "b": names[1]}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        check(nano_with(model=str(folder)))
        (folder / names[1]).unlink()
        with pytest.raises(BenchmarkError, match=rf"{names[1]} is missing \(1 of 2 shards of"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("index", [[], {}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": "a"}])
    def test_an_index_that_names_no_files_is_refused(self, tmp_path: Path, index: Any) -> None:
        folder = model_folder(tmp_path, without="model.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(BenchmarkError, match=r"index\.json: `weight_map` must name the file of each weight"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("name", ["x" * 5000, "a/b", ".."])
    def test_an_index_with_a_name_that_is_no_file_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = model_folder(tmp_path, without="model.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(BenchmarkError, match=r"is missing \(1 of 1 shards"):
            check(nano_with(model=str(folder)))

    def test_weights_under_another_name_are_refused(self, tmp_path: Path) -> None:
        folder = model_folder(tmp_path)
        (folder / "model.safetensors").rename(folder / "weights.safetensors")
        with pytest.raises(BenchmarkError, match=r"has weights\.safetensors, but neither model\.safetensors nor"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("without", ["", "config.json"])
    def test_adapter_is_to_be_merged(self, tmp_path: Path, without: str) -> None:
        folder = model_folder(tmp_path, without=without)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        with pytest.raises(BenchmarkError, match=r"is a PEFT adapter .* merge it into its base with merge_and_unload"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "F8_E4M3"])
    def test_quantised_weights_are_refused(self, tmp_path: Path, dtype: str) -> None:
        folder = model_folder(tmp_path)
        header = json.dumps({"h.0.weight": {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}}).encode()
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(BenchmarkError, match=rf"is quantised \(h\.0\.weight in model\.safetensors is {dtype}\)"):
            check(nano_with(model=str(folder)))


class TestConfiguration:
    """Architectures that this loop cannot train."""

    @pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
    def test_quantised_model_is_refused(self, tmp_path: Path, method: str) -> None:
        folder = model_folder(tmp_path, quantization_config={"quant_method": method, "bits": 4})
        with pytest.raises(BenchmarkError, match=rf"is quantised \({method}\).* as it was before it was quantised"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
    def test_encoder_decoder_is_refused(self, tmp_path: Path, kind: str) -> None:
        folder = model_folder(tmp_path, model_type=kind, is_encoder_decoder=True)
        with pytest.raises(BenchmarkError, match=rf"is an encoder-decoder \({kind}\), but a causal language model"):
            check(nano_with(model=str(folder)))

    @pytest.mark.parametrize(
        "config",
        [
            {"model_type": "bert"},
            {"model_type": "roberta", "architectures": ["RobertaForSequenceClassification"]},
            {"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"]},
            {"model_type": "someones", "architectures": ["SomeonesForMaskedLM"]},
        ],
    )
    def test_masked_language_model_is_refused(self, tmp_path: Path, config: dict[str, Any]) -> None:
        folder = model_folder(tmp_path, **config)
        with pytest.raises(BenchmarkError, match=rf"is a masked language model \({config['model_type']}\)"):
            check(nano_with(model=str(folder)))

    def test_the_decoder_of_such_a_family_passes(self, tmp_path: Path) -> None:
        check(nano_with(model=str(model_folder(tmp_path, model_type="bert", is_decoder=True))))

    @pytest.mark.parametrize(
        "config",
        [
            {"model_type": "gpt2", "n_positions": 128},
            {"model_type": "llama", "max_position_embeddings": 128},
            {"model_type": "gemma3", "text_config": {"max_position_embeddings": 128}},
            {"model_type": "roberta", "is_decoder": True, "max_position_embeddings": 130, "pad_token_id": 1},
        ],
    )
    def test_max_length_beyond_the_positions_is_refused(self, tmp_path: Path, config: dict[str, Any]) -> None:
        folder = str(model_folder(tmp_path, **config))
        with pytest.raises(
            BenchmarkError, match=r"max_length is 160, but model .* has 128 positions .*lower max_length"
        ):
            check(nano_with(model=folder))
        check(nano_with(model=folder, max_length=128))

    @pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
    def test_scaled_rotary_positions_reach_further(self, tmp_path: Path, name: str) -> None:
        config = {"model_type": "llama", "max_position_embeddings": 128, name: {"rope_type": "linear", "factor": 2.0}}
        folder = str(model_folder(tmp_path, **config))
        check(nano_with(model=folder, max_length=256))
        with pytest.raises(BenchmarkError, match=r"max_length is 257, but model .* has 256 positions"):
            check(nano_with(model=folder, max_length=257))

    def test_alibi_has_no_end_of_positions(self, tmp_path: Path) -> None:
        check(nano_with(model=str(model_folder(tmp_path, alibi=True, max_position_embeddings=128))))


TOWN = "A town since 1246."


def write_squad(
    path: Path, questions: dict[str, str], title: str = "Delft", context: str = "A town since 1246."
) -> Path:
    """A SQuAD file with these questions by id."""
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


class TestDevice:
    """Precision against the devices that were found."""

    @pytest.mark.parametrize(
        ("precision", "has_gpu", "best", "message"),
        [
            ("fp16", False, "fp32", "precision is fp16, but there is no GPU"),
            ("fp16", False, None, "precision is fp16, but there is no GPU"),
            ("auto", True, "fp16", "precision is fp16 and zero_optimization.stage is 0"),
        ],
    )
    def test_what_the_device_cannot_compute_is_refused(
        self, precision: str, has_gpu: bool, best: Any, message: str
    ) -> None:
        with pytest.raises(BenchmarkError, match=message):
            check_device(nano_with(precision=precision), has_gpu, best)

    @pytest.mark.parametrize(
        ("precision", "has_gpu", "best"),
        [
            ("fp32", False, "fp32"),
            ("bf16", False, "fp32"),
            ("bf16", True, "fp16"),
            ("auto", True, "bf16"),
            ("auto", True, None),
        ],
    )
    def test_what_it_can_compute_passes(self, precision: str, has_gpu: bool, best: Any) -> None:
        check_device(nano_with(precision=precision), has_gpu, best)

    def test_a_fixed_precision_that_auto_does_not_give_here_is_refused(self) -> None:
        nano = nano_with(precision="auto", deepspeed={"bf16": {"enabled": True}})
        check_device(nano, True, "bf16")
        with pytest.raises(BenchmarkError, match=r"deepspeed\.bf16\.enabled is True, but the trial has False"):
            check_device(nano, False, "fp32")

    def test_a_synthetic_benchmark_needs_no_device(self) -> None:
        check_device(load("synthetic"), False, "fp32")
