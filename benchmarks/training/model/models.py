"""A model and its tokenizer, read from a folder or the hub, and the trained model written to a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from benchmarks.files import is_file, is_folder
from benchmarks.spec import BenchmarkError, first_line
from benchmarks.training.model.base import BaseModel, draw

if TYPE_CHECKING:
    import torch

TOKENIZER_OPTIONS = {"use_fast": True, "trust_remote_code": False, "padding_side": "left"}
SAMPLE = "Question: Who drew it? Context: It was drawn in 1750 by Mara Velt. Answer:"
"""Text on which a converted tokenizer must agree with sentencepiece."""
COMPUTED = re.compile(
    r"(^|\.)((attn|attention)\.bias|masked_bias|causal_mask|inv_freq|(cos|sin)_cached|position_ids|version)$"
)
"""Names of masks, angles and numbers that older libraries saved beside weights, and that models compute today."""
MOST_NAMES = 3
"""Weights that a message names."""


def load_tokenizer(model: str) -> Any:
    """Load the model's fast tokenizer, set up for left padding.

    Raises:
        BenchmarkError: there is none, it is a slow one, it has no end token, or its tokens are not sentencepiece's.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **TOKENIZER_OPTIONS)
        if tokenizer.is_fast and _file_of(model, "tokenizer.json") is None:
            tokenizer = _from_vocabulary(model, tokenizer)
    except BenchmarkError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise BenchmarkError(f"model {model}: its tokenizer cannot be loaded ({first_line(error)})") from None
    _require_usable(model, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _from_vocabulary(model: str, tokenizer: Any) -> Any:
    """Make sure that a tokenizer without a tokenizer.json has read a vocabulary.

    Of a file under a name that is not its class's, transformers makes an empty tokenizer without a word; and so it does
    of a cached model without a network.

    Raises:
        BenchmarkError: there is no file of its class, or sentencepiece reads the file otherwise.
    """
    from transformers import AutoTokenizer

    if (file := _file_of(model, "tokenizer.model")) is not None:
        return _as_sentencepiece(model, file, tokenizer)
    own = type(tokenizer).vocab_files_names
    names = [own[key] for key in ("vocab_file", "tokenizer_file") if key in own]
    file = next((found for name in names if (found := _file_of(model, name)) is not None), None)
    if file is None:
        kind = type(tokenizer).__name__
        raise BenchmarkError(
            f"model {model}: its tokenizer, {kind}, reads {' or '.join(names)}, which is not there; "
            "name the class that the files are for as tokenizer_class in tokenizer_config.json, "
            "or save a tokenizer.json"
        )
    return tokenizer if is_folder(Path(model)) else AutoTokenizer.from_pretrained(file.parent, **TOKENIZER_OPTIONS)


def _as_sentencepiece(model: str, file: Path, tokenizer: Any) -> Any:
    """Choose the reading of a sentencepiece file that gives sentencepiece's own tokens.

    transformers takes a class by config.json, which may leave out the mark before the first word, and finds no file of
    a cached model without a network.

    Raises:
        BenchmarkError: no reading does.
    """
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoTokenizer, LlamaTokenizer

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(file))
    except RuntimeError:  # a file of tiktoken may have this name too
        return tokenizer
    expected = processor.EncodeAsIds(SAMPLE)
    readings: tuple[Callable[[], Any], ...] = (
        lambda: tokenizer,
        lambda: AutoTokenizer.from_pretrained(file.parent, **TOKENIZER_OPTIONS),
        lambda: LlamaTokenizer.from_pretrained(file.parent, add_bos_token=True, **TOKENIZER_OPTIONS),
    )
    for read in readings:
        if (found := read())(SAMPLE, add_special_tokens=False)["input_ids"] == expected:
            return found
    raise BenchmarkError(
        f"model {model}: tokenizer.model, read by {type(found).__name__}, gives other tokens than sentencepiece does; "
        "save a tokenizer.json beside it with the tokenizer class that the model was made with"
    )


def _file_of(model: str, name: str) -> Path | None:
    """Find a file of a folder, or of a model on the hub, whose files are in the cache once its tokenizer is loaded."""
    from huggingface_hub import try_to_load_from_cache

    if is_folder(Path(model)):
        return Path(model) / name if is_file(Path(model) / name) else None
    cached = try_to_load_from_cache(model, name)
    return Path(cached) if isinstance(cached, str) else None


def _require_usable(model: str, tokenizer: Any) -> None:
    if not tokenizer.is_fast:
        raise BenchmarkError(
            f"model {model}: its tokenizer, {type(tokenizer).__name__}, is a slow one, which tells no offsets; "
            "give one with a tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise BenchmarkError(
            f"model {model}: its tokenizer has no end token, which ends an answer; "
            "set eos_token in tokenizer_config.json"
        )


def load_base_model(
    model: str,
    allow_new_weights: Sequence[str] = (),
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    files: str = "",
) -> BaseModel:
    """Load a model from safetensors only, and refuse one whose files do not fit its architecture.

    Its generation settings are replaced by empty ones: answers here are greedy, whatever `generation_config.json` or
    `config.json` asks of a chat.

    Args:
        model: hub name or folder.
        allow_new_weights: regular expressions; a weight whose name one of them matches may be missing.
        device: "cpu", or "meta", where weights have shapes and no content, and take no memory.
        dtype: type of the weights; None for fp32.
        files: folder to load in the model's place, whose name stands in errors all the same.

    Raises:
        BenchmarkError: it cannot be loaded; its files lack weights, or have weights that the architecture does not.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        module, info = AutoModelForCausalLM.from_pretrained(
            files or model,
            dtype=dtype or torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            generation_config=GenerationConfig(),
            output_loading_info=True,
            device_map=None if device == "cpu" else device,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BenchmarkError(
            f"model {model}: cannot be loaded ({first_line(error)}); give a hub name this machine can reach, "
            "or a folder with config.json and *.safetensors"
        ) from None
    missing = sorted(info["missing_keys"])
    new = [name for name in missing if any(re.search(pattern, name) for pattern in allow_new_weights)]
    computed = {name for name, _ in module.named_buffers()}
    unexpected = [n for n in sorted(info["unexpected_keys"]) if n not in computed and not COMPUTED.search(n)]
    _refuse_other_weights(model, [name for name in missing if name not in new], unexpected)
    module.generation_config = GenerationConfig()
    for name in module.config._get_generation_parameters():
        delattr(module.config, name)
    return BaseModel(module, tuple(new))


def load_model(model: str, allow_new_weights: Sequence[str] = (), seed: int = 0) -> Any:
    """Load a model as `load_base_model` does, with its new weights, if any, drawn by a seed."""
    import torch

    base = load_base_model(model, allow_new_weights)
    if base.new_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            draw(base.module, base.new_weights)
    return base.module


def _refuse_other_weights(model: str, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Refuse files that lack weights, which would be drawn at random, or have weights that would be left out."""
    if not missing and not unexpected:
        return
    faults = [f"lack {_listed(missing)}, which would be drawn at random"] if missing else []
    faults += [f"have {_listed(unexpected)}, which its architecture has not"] if unexpected else []
    prefix = next((name.removesuffix(end) for name in unexpected for end in missing if name.endswith(f".{end}")), "")
    if prefix:
        cure = (
            f"the names begin with {prefix!r}, as a wrapped or compiled model's do: save the model inside the wrapper "
            "with save_pretrained"
        )
    elif missing:
        cure = (
            "save the whole model with save_pretrained, or, to have them drawn by each trial's seed, name them in "
            f"finetune.allow_new_weights, such as [{re.escape(missing[0])!r}]"
        )
    else:
        cure = (
            "if they are not needed, load the folder with AutoModelForCausalLM and save it again with save_pretrained; "
            "if they are, config.json does not describe these files"
        )
    raise BenchmarkError(f"model {model}: its files {' and '.join(faults)}; {cure}")


def _listed(names: Sequence[str]) -> str:
    """Name the first weights of a list, and count the others."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"the weight{'s' * (len(names) > 1)} {', '.join(names[:MOST_NAMES])}{more}"


def write_model(model: Any, weights: dict[str, torch.Tensor], tokenizer: Any, folder: Path) -> None:
    """Write a model with other weights, as safetensors, and its tokenizer.

    Args:
        model: one of the architecture that the weights belong to.
        weights: by name.
        tokenizer: its end and padding tokens become those of the model's generation.
        folder: where to write; made if need be.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(  # a plain `generate` is then greedy, and ends as `predict` does
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
