"""Folders of models: missing and damaged files, weights and architectures that this loop cannot train."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.check import check
from benchmarks.spec import BenchmarkError
from tests.benchmarks.check.models import POINTER, model_folder, nano_with


def test_complete_model_folder_passes(tmp_path: Path) -> None:
    check(nano_with(model=str(model_folder(tmp_path))))


@pytest.mark.parametrize("tokenizer", ["tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"])
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
        (
            "tokenizer.json",
            "no tokenizer (tokenizer.json or tokenizer.model or vocab.json or vocab.txt or sentencepiece.bpe.model or",
        ),
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


def test_model_on_the_hub_is_left_to_the_libraries() -> None:
    check(nano_with(model="owner/model"))


class TestModelFolder:
    """Files of a model whose content belies their names."""

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

    def test_positions_that_have_the_scaling_already_are_not_scaled_again(self, tmp_path: Path) -> None:
        """Llama 3.1 has 131,072 positions, 8,192 of the pretraining, and the factor 8."""
        scaling = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}
        folder = str(model_folder(tmp_path, model_type="llama", max_position_embeddings=256, rope_scaling=scaling))
        check(nano_with(model=folder, max_length=256))
        with pytest.raises(BenchmarkError, match=r"max_length is 257, but model .* has 256 positions"):
            check(nano_with(model=folder, max_length=257))

    def test_alibi_has_no_end_of_positions(self, tmp_path: Path) -> None:
        check(nano_with(model=str(model_folder(tmp_path, alibi=True, max_position_embeddings=128))))
