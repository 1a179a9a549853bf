"""Check a model's config.json: the architecture must be a causal decoder whose positions reach `max_length`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.check.weights import ADAPTER, require_content
from benchmarks.files import BenchmarkError, is_file, is_folder, load_json
from benchmarks.spec import FineTune

CONFIG = "config.json"
HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
"""Names under which configurations keep the number of positions."""
LOOKING_BOTH_WAYS = frozenset(
    "albert bert bert-generation big_bird camembert convbert data2vec-text deberta deberta-v2 distilbert electra ernie "
    "esm flaubert megatron-bert modernbert mpnet nystromformer rembert roberta roberta-prelayernorm roc_bert roformer "
    "xlm xlm-roberta xlm-roberta-xl xlnet xmod".split()
)
"""Encoders: each token sees the ones after it, unless the configuration says `is_decoder`."""
OFFSET_BY_PADDING = frozenset(("camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xmod"))
"""Models that count positions from the padding token's id + 1 on."""

MAX_SCALING = 10_000
"""Bound of the factors by which rotary positions may be scaled."""

Config = dict[str, Any]


def require_hub_name(name: str) -> None:
    """Refuse a name that the hub cannot have.

    Raises:
        BenchmarkError: it is neither a folder nor such a name.
    """
    if not HUB_NAME.fullmatch(name):
        raise BenchmarkError(f"model {name!r}: neither a folder nor a name on the hub, such as bigscience/bloom-560m")


def read(folder: Path) -> Config:
    """Return a model's configuration; an adapter's folder, which may have none, gives an empty one.

    Raises:
        BenchmarkError: there is no such folder, or no readable configuration.
    """
    if not is_folder(folder):
        raise BenchmarkError(f"model {folder}: no such folder")
    path = folder / CONFIG
    if not is_file(path):
        if is_file(folder / ADAPTER):
            return {}
        raise BenchmarkError(f"model {folder}: config.json is missing; give a folder written by save_pretrained")
    require_content(path)
    content = load_json(path)
    if not isinstance(content, dict):
        raise BenchmarkError(f"model {path}: expected a JSON object, found {type(content).__name__}")
    return content


def hidden_size(model: str) -> int:
    """Return a local model's width; 1 for a name on the hub, since sizes of ZeRO's buckets do not matter here.

    Raises:
        BenchmarkError: the configuration gives none that could be one.
    """
    path = Path(model) / CONFIG
    if not path.is_absolute() or not is_file(path):
        return 1
    content = read(path.parent)
    size = content.get("hidden_size") or content.get("n_embd") or 1
    if not isinstance(size, int):
        raise BenchmarkError(f"model {path}: hidden_size is {size!r}, but must be a whole number")
    return size


def check_content(model: str, content: Config, finetune: FineTune) -> None:
    """Check a configuration.

    Args:
        model: the model in an error, such as "model owner/name".
        content: its configuration.
        finetune: the settings of the training.

    Raises:
        BenchmarkError: the model cannot be trained by this loop.
    """
    kind = str(content.get("model_type", ""))
    if content.get("quantization_config"):
        raise BenchmarkError(
            f"{model}: is quantised ({_method(content['quantization_config'])}), and such weights are not trained; "
            "give the model as it was before it was quantised"
        )
    if content.get("is_encoder_decoder") is True:
        raise BenchmarkError(
            f"{model}: is an encoder-decoder ({kind}), but a causal language model is needed, in which prompt and "
            "answer are one sequence; give a decoder, such as bigscience/bloom-560m"
        )
    _require_causal(model, kind, content)
    _require_positions(model, kind, content, finetune.max_length)


def _method(quantisation: Any) -> str:
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
    return str(method or "quantization_config in config.json")


def _require_causal(model: str, kind: str, content: Config) -> None:
    names = content.get("architectures")
    is_masked = isinstance(names, list) and any(str(name).endswith("ForMaskedLM") for name in names)
    if content.get("is_decoder") is not True and (is_masked or kind in LOOKING_BOTH_WAYS):
        raise BenchmarkError(
            f"{model}: is a masked language model ({kind or names}), whose tokens see the ones after them, but a "
            "causal one is needed; give a decoder, such as bigscience/bloom-560m"
        )


def _require_positions(model: str, kind: str, content: Config, max_length: int) -> None:
    """Refuse sequences longer than the model's positions; ALiBi (BLOOM, MPT) has no such number."""
    text = content["text_config"] if isinstance(content.get("text_config"), dict) else content
    if text.get("alibi") is True:
        return
    found = [(name, text[name]) for name in POSITIONS if isinstance(text.get(name), int) and text[name] > 0]
    if not found:
        return
    name, positions = found[0]
    padding = text.get("pad_token_id", 1)
    offset = padding + 1 if kind in OFFSET_BY_PADDING and isinstance(padding, int) else 0
    reach = _reach(text, positions) - offset
    if max_length > reach:
        raise BenchmarkError(
            f"max_length is {max_length}, but {model} has {reach} positions ({name} in its configuration); "
            f"lower max_length to {reach}"
        )


def _reach(text: Config, positions: int) -> int:
    """Return the number of positions, with the factor by which rotary ones reach further than those of the pretraining.

    A configuration that names the positions of the pretraining, as Llama 3.1's does, has the factor in `positions`.
    """
    for name in ("rope_scaling", "rope_parameters"):
        scaling = text[name] if isinstance(text.get(name), dict) else {}
        factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
        if isinstance(factor, int | float) and 1 < factor < MAX_SCALING:
            return max(positions, int((original if isinstance(original, int) else positions) * factor))
    return positions
