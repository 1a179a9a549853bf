"""Identify a benchmark by everything that its trials' results depend on: model, data, resource and metric."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import tasks
from benchmarks.check.weights import INDEX, WHOLE, shard_names
from benchmarks.clock import REAL
from benchmarks.files import BenchmarkError, files_below, is_file, is_folder, read_bytes
from benchmarks.spec import Benchmark, FineTune, Split
from benchmarks.trials.synthetic import FORMULA

NOT_TRAINED: dict[str, Any] = {"description": True, "space": True, "grid": True, "rescue": True}
NOT_TRAINED |= {"resource": {"checkpoint_seconds"}, "finetune": {"timeout_seconds", "trials_per_gpu"}}
"""Settings that no result depends on."""
DIGEST_LENGTH = 16
MODEL_SUFFIXES = frozenset(
    (".safetensors", ".json", ".model", ".txt", ".jinja", ".tiktoken", ".spm", ".vocab", ".codes")
)
"""Files of a model's folder that are read: weights, adapters, configuration, generation settings, tokenizer, templates.

Pickled weights are never read here.
"""
TEMPLATES = "additional_chat_templates"
"""Folder in a model's folder with its chat templates beside the first one."""
OF_AN_EARLIER_TRAINING = re.compile(r"trainer_state\.json|(all|train|eval|predict|test)_results\.json|training\.json")
NOT_DATA = frozenset((".md", ".py", ".lock", ".png", ".jpg", ".pdf"))
"""Files beside a data set that no loader reads; a README counts by its header, which assigns files to splits."""
TEXT_ABOUT = re.compile(r"(licen[sc]e|notice|readme|citation|changelog)(\.(txt|md|rst|cff))?", re.IGNORECASE)
SETTLED_SECONDS = 2.0
"""Age from which a file's time of change tells one content from the next; kernels write times in steps."""

_checksums: dict[tuple[int, ...], str] = {}
"""Checksums of this process by file, size and time of change, for a digest is asked for several times in a study."""


def digest(benchmark: Benchmark) -> str:
    """Return a checksum of all that a trial's result depends on beyond its configuration and seed.

    The search space is left out: a trial means the same whatever space proposed it. Local files and folders count by
    content, so that two checkouts of one benchmark agree, and a model whose tokenizer was edited differs. Models and
    data sets on the hub count by name: their revision is known only once they have been downloaded, and a benchmark
    must not change its identity then. A `revision` that the benchmark names counts too.

    Raises:
        BenchmarkError: a file cannot be read.
    """
    content = benchmark.model_dump(mode="json", exclude=NOT_TRAINED)
    if benchmark.recorded is None:  # a block that came later: digests from before it still hold
        del content["recorded"]
    if not benchmark.selects_best:  # likewise
        del content["select"]
    if benchmark.trial.trains_model:
        finetune = benchmark.training_settings()
        if not finetune.allow_new_weights:  # likewise
            del content["finetune"]["allow_new_weights"]
        if finetune.task == tasks.DEFAULT:  # likewise
            del content["finetune"]["task"]
        content["finetune"] |= {"model": _model(finetune), "data": _data(finetune)}
    elif benchmark.recorded is not None:
        content["recorded"]["bank"] = _checksum(benchmark.recorded.bank)
        if not benchmark.recorded.accelerator:  # likewise
            del content["recorded"]["accelerator"]
        if benchmark.recorded.seconds_of is None:  # likewise
            del content["recorded"]["seconds_of"]
        else:
            content["recorded"]["seconds_of"] = _checksum(benchmark.recorded.seconds_of)
    else:
        if content["synthetic"]["memory_limit"] is None:  # likewise
            del content["synthetic"]["memory_limit"]
        content["synthetic"]["formula"] = FORMULA
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def _model(finetune: FineTune) -> dict[str, str] | str:
    """Return a hub name as it is, and the checksums of a local folder's files by name, shards wherever they lie."""
    folder = Path(finetune.model)
    if not folder.is_absolute() or not is_folder(folder):
        return finetune.model
    files = [*folder.iterdir(), *(folder / TEMPLATES).glob("*")]
    shards = shard_names(folder / INDEX) if is_file(folder / INDEX) and not is_file(folder / WHOLE) else []
    return {str(path.relative_to(folder)): _checksum(path) for path in files if _is_of_a_model(path)} | {
        name: _checksum(folder / name) for name in shards if is_file(folder / name)
    }


def _is_of_a_model(path: Path) -> bool:
    if path.suffix not in MODEL_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return not TEXT_ABOUT.fullmatch(path.name) and not OF_AN_EARLIER_TRAINING.fullmatch(path.name)


def _data(finetune: FineTune) -> dict[str, Any]:
    return {name: _split(split) for name, split in finetune.splits.items()}


def _split(split: Split) -> dict[str, Any]:
    content = split.model_dump(mode="json", exclude=None if split.revision else {"revision"})
    if split.file is not None:
        content["file"] = _checksum(split.file)
    elif split.dataset is not None and Path(split.dataset).is_absolute() and is_folder(Path(split.dataset)):
        content["dataset"] = dict(_data_files(Path(split.dataset)))
    return content


def _data_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Return the checksums of a data set's files by their path in its folder, from which splits are named."""
    for path in sorted(files_below(folder)):
        name = str(path.relative_to(folder))
        if path.name == "README.md":
            yield name, hashlib.sha256(_header(read_bytes(path))).hexdigest()
        elif path.suffix not in NOT_DATA and not TEXT_ABOUT.fullmatch(path.name):
            yield name, _checksum(path)


def _header(readme: bytes) -> bytes:
    """Return the YAML between the first two lines of dashes, where a data set's card declares files and splits."""
    found = re.match(rb"---\s*\n(.*?)\n---\s*(\n|\Z)", readme, re.DOTALL)
    return found[1] if found else b""


def _checksum(path: Path) -> str:
    """Return a file's SHA-256; a file that has not changed is read once in a process."""
    try:
        return _read_checksum(path)
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None


def _read_checksum(path: Path) -> str:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if version in _checksums:
            return _checksums[version]
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if REAL.epoch() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
        _checksums[version] = found
    return found
