"""Faults of tokenizers and architectures, found by the libraries themselves before a rank is started."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from benchmarks.check.small_model import require_same_when_padded, shrunk
from benchmarks.check.start import SHIPPED, check_start
from benchmarks.spec import BenchmarkError, load
from tests.benchmarks.check.models import model_folder, nano_with

DECODERS = ("gpt2", "llama", "gpt_neox", "opt", "qwen2", "mamba", "openai-gpt")
DECODER = {"is_decoder": True, "is_encoder_decoder": False, "max_position_embeddings": 400}

pytestmark = pytest.mark.slow


def refused(message: str, folder: Path, **changes: Any) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        check_start(nano_with(model=str(folder), **changes))
    assert "\n" not in str(caught.value)


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def saved(folder: Path, kind: str, **values: Any) -> Path:
    """nano's tokenizer with a small model of another architecture; one that is no decoder has no weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_folder(folder)
    sizes = {"vocab_size": 4096, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, **values}
    config = AutoConfig.for_model(kind, **sizes)
    if kind in (*DECODERS, "rwkv") or "is_decoder" in values:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    else:
        config.save_pretrained(folder / "model")
    return folder / "model"


def test_models_of_the_suite_are_sound(tmp_path: Path) -> None:
    check_start(nano_with(model=str(model_folder(tmp_path))))
    assert Path(load("nano").training_settings().model).is_relative_to(SHIPPED)


@pytest.mark.parametrize("kind", DECODERS)
def test_causal_decoders_pass(tmp_path: Path, kind: str) -> None:
    check_start(nano_with(model=str(saved(tmp_path, kind))))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("t5", r"is an encoder-decoder \(t5\)"),
        ("bart", r"is an encoder-decoder \(bart\)"),
        ("bert", r"is a masked language model \(bert\)"),
        ("vit", "vit is no causal language model that transformers can load"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    refused(message, saved(tmp_path, kind))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("roberta", DECODER),
        ("bart", {**DECODER, "decoder_layers": 1, "decoder_attention_heads": 2}),
        ("rwkv", {"num_hidden_layers": 2}),
    ],
)
def test_decoders_that_padding_changes_are_refused_before_a_rank_is_started(
    tmp_path: Path, kind: str, values: dict[str, Any]
) -> None:
    folder = saved(tmp_path, kind, **values)
    refused("gives other results for a sequence that is padded on the left", folder)


def test_a_sliding_window_that_the_data_fill_is_tried_when_it_is_full() -> None:
    """Moshi's cache begins anew behind its window, while the trial's sequences have nine tokens."""
    from transformers import MistralConfig, MoshiConfig

    from benchmarks.training.model.models import load_tokenizer

    nano = load("nano").training_settings()
    tokenizer = load_tokenizer(nano.model)
    require_same_when_padded(MistralConfig(vocab_size=1000, sliding_window=16), tokenizer, nano)
    require_same_when_padded(MoshiConfig(vocab_size=1000, sliding_window=3000), tokenizer, nano)
    with pytest.raises(BenchmarkError, match="MoshiForCausalLM gives other results for a sequence that is cached"):
        require_same_when_padded(MoshiConfig(vocab_size=1000, sliding_window=16), tokenizer, nano)


@pytest.mark.parametrize("sizes", [{"hidden_size": 4096, "num_hidden_layers": 60, "num_attention_heads": 64}, {}])
def test_an_architecture_is_tried_small_however_large_the_model_is(sizes: dict[str, int]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    content = AutoConfig.for_model("llama", intermediate_size=11008, vocab_size=4096, **sizes)
    small = AutoModelForCausalLM.from_config(shrunk(content))
    assert sum(weight.numel() for weight in small.parameters()) < 1_000_000
    assert content.intermediate_size == 11008


def test_sizes_that_follow_from_others_are_left_to_them() -> None:
    from transformers import FalconConfig

    small = shrunk(FalconConfig(hidden_size=512, num_attention_heads=8))
    assert (small.hidden_size, small.num_attention_heads, small.head_dim) == (64, 4, 16)


def test_an_architecture_that_stays_large_is_left_to_the_ranks() -> None:
    """Its sizes are in a part of their own, so that all of its 2.5 billion weights would be drawn."""
    from transformers import BlenderbotConfig

    from benchmarks.training.model.models import load_tokenizer

    nano, before = load("nano").training_settings(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    require_same_when_padded(BlenderbotConfig(), load_tokenizer(nano.model), nano)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_unknown_architecture_is_refused(tmp_path: Path) -> None:
    refused("cannot be loaded .*someones", model_folder(tmp_path, model_type="someones"))


def test_configuration_that_builds_no_model_is_refused(tmp_path: Path) -> None:
    refused("cannot be loaded", model_folder(tmp_path, n_head=7))


def test_configuration_of_other_weights_is_refused(tmp_path: Path) -> None:
    refused(r"its weights do not go with its config\.json \(.* instead of ", model_folder(tmp_path, hidden_size=64))


@pytest.mark.parametrize("change", ["lacks", "has"])
def test_weights_that_do_not_fit_are_named_and_nothing_else_is_printed(
    tmp_path: Path, change: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = model_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "transformer.h.0.input_layernorm.bias"
    bias = weights.pop(name)
    if change == "has":
        weights |= {name: bias, "transformer.h.7.input_layernorm.bias": bias.clone()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(f"its files {'lack' if change == 'lacks' else 'have'} the weight transformer", folder)
    assert capfd.readouterr() == ("", "")
    if change == "lacks":
        check_start(nano_with(model=str(folder), allow_new_weights=[r"layernorm\.bias$"]))


def test_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    rewrite(folder / "tokenizer_config.json", eos_token=None)
    refused("its tokenizer has no end token", folder)


@pytest.mark.parametrize("kind", ["pad", "eos"])
def test_token_beyond_the_embedding_is_refused(tmp_path: Path, kind: str) -> None:
    folder = model_folder(tmp_path)
    rewrite(folder / "tokenizer_config.json", **{f"{kind}_token": "<new>"})
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    refused(rf"{kind}_token '<new>' has the id \d+, but the embedding has {rows} rows", folder)


def test_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "gpt2", vocab_size=300)
    refused(r"its tokenizer gives the id \d+ for train, but the embedding has 300 rows", folder)


def test_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    refused("tokenizer cannot be loaded", folder)


def test_question_that_fills_the_sequence_is_named(tmp_path: Path) -> None:
    refused("train: question .* leaves no room", model_folder(tmp_path), max_length=24)


def test_a_benchmark_is_checked_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nano = nano_with(model=str(model_folder(tmp_path)))
    check_start(nano)
    monkeypatch.setattr("benchmarks.check.start.check_model", lambda finetune: pytest.fail("checked again"))
    check_start(nano)


@pytest.mark.parametrize("name", ["offload_optimizer", "offload_param"])
def test_offload_to_a_disk_is_refused_where_its_op_cannot_be_compiled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank would raise "Unable to JIT load the async_io op" as its trial begins."""
    monkeypatch.setenv("CC", "/bin/false")
    block = {"stage": 3, name: {"device": "nvme", "nvme_path": str(tmp_path)}}
    with pytest.raises(
        BenchmarkError, match=rf'deepspeed\.zero_optimization\.{name}\.device is "nvme", which takes DeepSpeed'
    ):
        check_start(nano_with(deepspeed={"zero_optimization": block}))
    check_start(nano_with(deepspeed={"zero_optimization": {"stage": 3, name: {"device": "cpu"}}}))
