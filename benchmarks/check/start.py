"""Check a model with the libraries that ranks load it with: its tokenizer, and its architecture without memory.

Importing them takes seconds, so this is for commands that start a training next. Models that come with the suite are
left out, since its tests check them. Weights are not read: the model is built on torch's meta device, whose tensors
have shapes and no content. A model on the hub is not downloaded, since no rank may run here; its data are. The headers
of its files are, and a stand-in of these files, which takes no room, is checked in their place.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import tasks
from benchmarks.check import config, data, hub, small_model, weights
from benchmarks.files import BenchmarkError, first_line
from benchmarks.spec import HERE, SPLITS, Benchmark, FineTune

ADVICE = "give a hub name this machine can reach, or a folder with config.json and *.safetensors"
MAX_MISMATCHES = 3
"""Weights of another shape that are named."""

SHIPPED = HERE / "assets"
HAS_DISK_OP = """
from deepspeed.git_version_info import installed_ops
from deepspeed.ops.op_builder import AsyncIOBuilder
raise SystemExit(not (installed_ops.get(AsyncIOBuilder.NAME) or AsyncIOBuilder().is_compatible()))
"""
"""Program that ends with 0 where DeepSpeed has its op for offload to a disk, or can compile it."""

_sound: set[str] = set()
"""Settings that passed in this process: a suite asks once for each study."""


def check_start(benchmark: Benchmark) -> list[str]:
    """Check the facts that only the libraries know, before a study or a training starts.

    Returns:
        Warnings of an incomplete bank, or of splits on the hub that share content; once for the same settings.

    Raises:
        BenchmarkError: the model or its tokenizer cannot be used here, or a split cannot be read.
    """
    ready = benchmark.trial.require_ready(benchmark)
    if not benchmark.trial.trains_model:
        return ready
    finetune = benchmark.training_settings()
    if (settings := finetune.model_dump_json()) in _sound:
        return []
    require_disk_op(finetune.deepspeed)
    is_shipped = Path(finetune.model).is_relative_to(SHIPPED)
    if is_shipped and all(data.is_local(getattr(finetune.data, name)) for name in SPLITS):
        return []
    warnings = check_model(finetune)
    _sound.add(settings)
    return warnings


def require_disk_op(block: dict[str, Any]) -> None:
    """Refuse offload to a disk where ranks could not compile DeepSpeed's op for it.

    Raises:
        BenchmarkError: it is asked for, and its library or the compiler is missing.
    """
    zero = block.get("zero_optimization", {})
    for name in ("offload_optimizer", "offload_param"):
        if (zero.get(name) or {}).get("device") != "nvme":
            continue
        if subprocess.run([sys.executable, "-c", HAS_DISK_OP], capture_output=True, check=False).returncode:
            raise BenchmarkError(
                f'deepspeed.zero_optimization.{name}.device is "nvme", which takes DeepSpeed\'s op async_io, and that '
                "cannot be compiled here; install libaio with its headers (libaio-dev) and g++, or set the device to "
                '"cpu"'
            )


def check_model(finetune: FineTune) -> list[str]:
    """Check tokenizer and architecture, and the data's longest records with that tokenizer.

    Returns:
        Warnings of splits on the hub that share content with another.

    Raises:
        BenchmarkError: they cannot be used here.
    """
    name, is_local = f"model {finetune.model}", Path(finetune.model).is_absolute()
    headers = _headers(Path(finetune.model)) if is_local else list(hub.check_model(finetune.model).values())
    content = _configuration(finetune.model)
    config.check_content(name, content.to_dict(), finetune)
    model = _without_memory(finetune.model, content)
    _require_shapes(finetune.model, model, headers)
    if is_local:
        _require_weights(finetune, finetune.model)
    elif headers:
        with TemporaryDirectory() as folder:
            content.save_pretrained(folder)
            weights.write_stand_in(Path(folder), headers)
            _require_weights(finetune, folder)
    tokenizer = _tokenizer(finetune.model)
    rows = model.get_input_embeddings().weight.shape[0]
    _require_tokens(name, tokenizer, rows)
    small_model.require_same_when_padded(content, tokenizer, finetune)
    splits = {split: data.read(finetune, split) for split in SPLITS}
    _require_extremes(finetune, splits, tokenizer, rows)
    task = tasks.get(finetune.task)
    return data.shared(task, splits, known={split for split in SPLITS if data.is_local(getattr(finetune.data, split))})


def _headers(folder: Path) -> list[weights.Header]:
    return [weights.read_header(file) for file in weights.weight_files(folder)]


def _configuration(model: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # each kind of configuration checks its values with errors of its own
        raise _unusable(model, error) from None


def _without_memory(model: str, content: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(content, trust_remote_code=False)
    except Exception as error:  # each architecture has its own ways to refuse a configuration
        if "Unrecognized configuration class" in str(error):
            raise BenchmarkError(
                f"model {model}: {content.model_type} is no causal language model that transformers can load; "
                "give a decoder, such as bigscience/bloom-560m"
            ) from None
        raise _unusable(model, error) from None


def _unusable(model: str, error: Exception) -> BenchmarkError:
    return BenchmarkError(f"model {model}: cannot be loaded ({first_line(error)}); {ADVICE}")


def _require_shapes(name: str, model: Any, headers: Sequence[weights.Header]) -> None:
    """Compare a model's weights with its configuration, where both have them under one name."""
    built, different = {key: list(value.shape) for key, value in model.state_dict().items()}, []
    for header in headers:
        for key, value in header.items():
            if key in built and built[key] != value["shape"]:
                different.append(f"{key} is {value['shape']} instead of {built[key]}")
    if different:
        raise BenchmarkError(
            f"model {name}: its weights do not go with its config.json ({'; '.join(different[:MAX_MISMATCHES])}); "
            "give the configuration that the weights were saved with"
        )


def _require_weights(finetune: FineTune, files: str) -> None:
    """Load the weights' names and shapes from a folder as ranks load the weights."""
    from transformers.utils import logging

    from benchmarks.training.model.models import load_base_model

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        load_base_model(finetune.model, finetune.allow_new_weights, device="meta", files=files)
    finally:
        logging.set_verbosity(before[0])
        if before[1]:
            logging.enable_progress_bar()


def _tokenizer(model: str) -> Any:
    from benchmarks.training.model.models import load_tokenizer

    try:
        return load_tokenizer(model)
    except BenchmarkError:
        raise
    except Exception as error:  # such as a KeyError for a part that the file lacks
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise BenchmarkError(
            f"model {model}: its tokenizer cannot be loaded ({reason}); save it again with tokenizer.save_pretrained"
        ) from None


def _require_tokens(name: str, tokenizer: Any, rows: int) -> None:
    for kind in ("eos", "pad", "bos"):
        number = getattr(tokenizer, f"{kind}_token_id")
        if number is not None and number >= rows:
            raise BenchmarkError(
                f"{name}: {kind}_token {getattr(tokenizer, f'{kind}_token')!r} has the id {number}, but the embedding "
                f"has {rows} rows; take a token of the vocabulary, or resize the embedding and save the model again"
            )


def _require_extremes(finetune: FineTune, splits: data.Splits, tokenizer: Any, rows: int) -> None:
    """Tokenise the longest records of each split as training does."""
    task = tasks.get(finetune.task)
    for name in SPLITS:
        records = data.longest(task, splits[name])
        try:
            examples = task.tokenize(records, tokenizer, finetune.max_length, finetune.max_answer_tokens, training=True)
        except BenchmarkError as error:
            raise BenchmarkError(f"{name}: {error}") from None
        largest = max(number for example in examples for number in (*example.prompt, *example.target))
        if largest >= rows:
            raise BenchmarkError(
                f"model {finetune.model}: its tokenizer gives the id {largest} for {name}, but the embedding has "
                f"{rows} rows; give the tokenizer that the model was trained with"
            )
