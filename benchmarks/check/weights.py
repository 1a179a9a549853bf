"""Check the files of a model's folder by their first bytes: pointers of git-lfs, files cut off, adapters, quantised."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.files import BenchmarkError, is_file, load_json

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
)
"""Files from which transformers makes fast tokenizers (a test compares them); each class reads its own."""
LENGTH_BYTES = 8
"""Bytes in front of a safetensors header, which hold its length (https://huggingface.co/docs/safetensors)."""
MAX_HEADER_BYTES = 100_000_000
"""Length of the longest header that the safetensors library reads."""
QUANTISED = ("I8", "U8", "I32", "F8_E4M3", "F8_E5M2", "F4", "F6_E2M3", "F6_E3M2")
"""Types of numbers in which no weight is trained."""

Header = dict[str, Any]


def check_folder(folder: Path) -> None:
    """Check a model's folder: adapters, weights, tokenizer.

    Raises:
        BenchmarkError: the first file that is missing or cannot be used.
    """
    for path in sorted(folder.iterdir()):
        require_content(path)
    if (folder / ADAPTER).is_file():
        raise is_adapter(f"model {folder}")
    for path in weight_files(folder):
        require_trainable(f"model {folder}", path.name, read_header(path))
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise BenchmarkError(
            f"model {folder}: no tokenizer ({' or '.join(TOKENIZER_FILES)}); "
            "save it there with tokenizer.save_pretrained"
        )


def is_adapter(model: str) -> BenchmarkError:
    """Return the error for an adapter that is given as a model, such as "model owner/name"."""
    return BenchmarkError(
        f"{model}: is a PEFT adapter ({ADAPTER}), but a whole model is needed; merge it into its base "
        "with merge_and_unload() and give the folder of save_pretrained"
    )


def require_content(path: Path) -> None:
    """Refuse a file that git-lfs has not fetched.

    Raises:
        BenchmarkError: the file is a pointer.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(len(LFS_POINTER)) if path.is_file() else b""
    except OSError:  # read later by whatever needs it, with its own error
        return
    if begin == LFS_POINTER:
        raise BenchmarkError(
            f"{path}: is a pointer of git-lfs and not the file itself; fetch it with `git lfs pull`, or with "
            "`python -m hpo fetch`"
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files from which a model's folder is loaded.

    Raises:
        BenchmarkError: there are none, or a shard is missing.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        return _shards(folder)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if not found:
        raise BenchmarkError(f"model {folder}: no *.safetensors; save the weights with safe_serialization")
    raise BenchmarkError(
        f"model {folder}: has {found[0]}, but neither {WHOLE} nor {INDEX}; save the whole model with save_pretrained"
    )


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index assigns weights to.

    Raises:
        BenchmarkError: it is no such index.
    """
    content = load_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise BenchmarkError(f"{index}: `weight_map` must name the file of each weight; save the model again")
    return sorted(set(names.values()))


def _shards(folder: Path) -> list[Path]:
    shards = [folder / name for name in shard_names(folder / INDEX)]
    missing = [path.name for path in shards if not is_file(path)]
    if missing:
        raise BenchmarkError(
            f"model {folder}: {missing[0]} is missing ({len(missing)} of {len(shards)} shards of {INDEX}); "
            "fetch the model again"
        )
    return shards


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file: of each weight type, shape and place.

    Raises:
        BenchmarkError: the file is cut off, or is none.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
                raise _broken(path, f"its header would end after byte {length + LENGTH_BYTES} of {size}")
            header = json.loads(file.read(length))
            ends = list(_ends(header))
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, BenchmarkError):
            raise
        raise _broken(path, "its header is not readable") from None
    expected = LENGTH_BYTES + length + max(ends, default=0)
    if expected != size:
        raise _broken(path, f"it has {size} bytes instead of {expected}")
    return {name: value for name, value in header.items() if name != "__metadata__"}


def write_stand_in(folder: Path, headers: Iterable[Header]) -> None:
    """Write a file of weights with these names, types and shapes, and zeros that take no room on the disk.

    Args:
        folder: where to write it.
        headers: of the files that it stands for.
    """
    entries, end = {}, 0
    for name, value in sorted(pair for header in headers for pair in header.items()):
        begin, end = end, end + _bytes(value["dtype"], value["shape"])
        entries[name] = {"dtype": value["dtype"], "shape": value["shape"], "data_offsets": [begin, end]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    with (folder / WHOLE).open("wb") as file:
        file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
        file.truncate(LENGTH_BYTES + len(header) + end)


def _bytes(dtype: str, shape: Sequence[int]) -> int:
    """Return the bytes of a tensor; the type's name, such as BF16 or F8_E4M3, holds the bits of a number."""
    bits = re.search(r"\d+", dtype)
    return math.prod(shape) * int(bits[0] if bits else 8) // 8


def _ends(header: Header) -> Iterator[int]:
    for name, value in header.items():
        if name != "__metadata__":
            yield int(value["data_offsets"][1])


def _broken(path: Path, reason: str) -> BenchmarkError:
    return BenchmarkError(f"{path}: is no whole file of weights ({reason}); delete it, and fetch or save it again")


def require_trainable(model: str, file: str, header: Header) -> None:
    """Refuse weights that are stored as whole numbers or in 8 bits.

    Args:
        model: the model in an error, such as "model owner/name".
        file: the file's name.
        header: the file's header.

    Raises:
        BenchmarkError: a weight is.
    """
    for name, value in header.items():
        if name.rpartition(".")[2] in ("weight", "qweight") and value.get("dtype") in QUANTISED:
            raise BenchmarkError(
                f"{model}: is quantised ({name} in {file} is {value['dtype']}), and such weights are not "
                "trained; give the model as it was before it was quantised"
            )
