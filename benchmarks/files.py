"""Read the files that people write (text, YAML, JSON), and write files whole or not at all.

A file is read, or refused in a sentence. The content is plain: texts, numbers, truth values, lists, and mappings whose
keys are texts. Values that would only fail later, in a path, a checksum or the tracking store, are refused here: values
nested or repeated without end, whole numbers that no library holds, texts that no encoding writes.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

MAX_DEPTH = 50
"""Levels of a file with settings; the suite's own files have five."""
MAX_VALUES = 100_000
"""Values of a file with settings. An alias counts as often as it is used."""
WHOLE_NUMBER_LIMIT = 2**63
"""Bound of the whole numbers that are read: their absolute values are smaller, so 64 bits hold them."""
MODE_OF_A_FILE = 0o666
"""Permissions of a new file before the process's umask is taken off."""


class BenchmarkError(ValueError):
    """A benchmark, search space or data file that cannot be used; the message says what to change."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the error's kind if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file.

    Raises:
        BenchmarkError: the file cannot be read, is not YAML, holds no mapping, gives a key twice, or is not plain.
    """
    text = read_text(path)
    try:
        content = deepcopy(_parsed_yaml(text))
    except MaxDepthExceededError:
        raise _too_deep(path) from None
    except (YAMLError, ValueError, LookupError, AssertionError) as error:
        # The last three come from tagged values, such as `!!int x`, and from `%YAML 1.3`.
        raise BenchmarkError(f"{path}: not valid YAML: {_yaml_fault(error)}") from None
    if not isinstance(content, dict):
        raise BenchmarkError(f"{path}: expected a mapping at the top, found {type(content).__name__}")
    _require_plain(content, path)
    return content


@lru_cache(maxsize=32)
def _parsed_yaml(text: str) -> Any:
    """Parse a text once: ruamel.yaml, which alone knows YAML 1.2, needs tens of milliseconds per file."""
    return _yaml().load(text)


def yaml_text(content: Any) -> str:
    """Return plain content as YAML in block style, its keys in the order given."""
    dumper = _yaml()
    dumper.default_flow_style = False
    dumper.width = 2**31 - 1  # wrapped texts would end in spaces
    dumper.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None
    dumper.dump(content, text := io.StringIO())
    return text.getvalue()


def load_json(path: Path) -> Any:
    """Return the content of a JSON file with settings.

    Raises:
        BenchmarkError: the file cannot be read, is not JSON, or is not plain.
    """
    content = parse_json(read_text(path), path)
    _require_plain(content, path)
    return content


def parse_json(text: str, source: object) -> Any:
    """Return the content of a JSON text.

    Args:
        text: the text.
        source: the text's name in an error.

    Raises:
        BenchmarkError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise BenchmarkError(f"{source}: not valid JSON ({error})") from None
    except RecursionError:
        raise _too_deep(source) from None


def read_text(path: Path, advice: str = "") -> str:
    """Return a file's text, without a byte order mark.

    Args:
        path: the file.
        advice: the end of the error if the file cannot be read, such as "; give another folder".

    Raises:
        BenchmarkError: the file cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path, advice).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: not UTF-8 (byte {error.start + 1}); save it in UTF-8") from None


def read_bytes(path: Path, advice: str = "") -> bytes:
    """Return a file's bytes; arguments and errors are those of `read_text`."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a device has no end, a pipe perhaps no beginning
            raise BenchmarkError(f"{path}: cannot be read (it is a device or a pipe, but must be a file){advice}")
        return path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror}){advice}") from None


def place(folder: Path, name: str) -> Path:
    """Return the absolute path of a name that is relative to a folder, or to a home directory.

    Raises:
        BenchmarkError: no file can have that name.
    """
    try:
        return (folder / expanded(name)).resolve()
    except (OSError, RuntimeError) as error:  # such as links in a circle
        raise BenchmarkError(f"path {name!r}: cannot be used ({first_line(error)})") from None


def expanded(name: str) -> Path:
    """Return a path with the home directory in place of `~` or `~user`.

    Raises:
        BenchmarkError: there is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise BenchmarkError(f"path {name!r}: cannot be used ({first_line(error)})") from None


def is_file(path: Path) -> bool:
    """Tell whether a path is a file; a name that no file can have is not one."""
    try:
        return path.is_file()
    except OSError:  # it is too long
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder, likewise."""
    try:
        return path.is_dir()
    except OSError:
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that data loaders look at: none that is hidden, and those of linked folders too."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(here)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))] if place not in seen else []
        seen.add(place)
        paths = (Path(here, name) for name in files if not name.startswith((".", "__")))
        yield from (path for path in paths if path.is_file())


def whole_number(text: str) -> int | None:
    """Return the number that a text of digits says; None for any other text, and where 64 bits do not hold it."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def is_text(text: str) -> bool:
    """Tell whether UTF-8 can write a text: a JSON file may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def writable(text: str) -> str:
    """Return a text as UTF-8 can write it: the bytes of a file's name in another encoding become their codes."""
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def replacing(path: Path, mode: int = MODE_OF_A_FILE) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` at the end, so that readers see the old file or all of the new.

    The file is written beside `path`, as `.NAME.part`. Links at either name are replaced, not followed. After an
    error in the block `path` is as before, and the part is deleted.

    Args:
        path: the file to write.
        mode: permissions of the new file; 0o600 keeps secrets from other users from the first byte on.

    Raises:
        OSError: the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # of a process that was killed, or a link of another user
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_or_refusing(path: Path, remedy: str) -> Iterator[IO[bytes]]:
    """Do the same, and say in a sentence why it cannot be done.

    Args:
        path: the file to write.
        remedy: the next step of a user whose folder cannot be written.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None


def write_whole(path: Path, text: str, mode: int = MODE_OF_A_FILE) -> None:
    """Write a text file as `replacing` does, in UTF-8.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path, mode) as file:
        file.write(text.encode())


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield the path of a folder to make, which takes the place of `folder` at the end; links are not followed.

    Raises:
        OSError: the folder's parent cannot be written.
    """
    part = folder.parent.resolve() / f".{folder.name}.part"
    for old in (part, folder):
        if old.is_symlink():
            old.unlink()
    shutil.rmtree(part, ignore_errors=True)
    yield part
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(part, folder)


def _yaml() -> YAML:
    """Make a YAML 1.2 reader: 1e-5 is a number there, 4:00 a text, and `no` a text."""
    loader = YAML(typ="safe", pure=True)
    loader.max_depth = MAX_DEPTH + 1
    loader.Constructor = _Constructor
    loader.composer.warn_double_anchors = False  # YAML allows to reuse an anchor
    return loader


class _Constructor(SafeConstructor):
    """Core schema of YAML 1.2: no dates, sets or binary data, no merge keys, and keys that are texts."""

    def construct_document(self, node: Any) -> Any:
        if self.resolver.processing_version != (1, 2):
            raise ConstructorError(None, None, "YAML 1.2 is read here; remove the %YAML directive", node.start_mark)
        return super().construct_document(node)

    def flatten_mapping(self, node: Any) -> None:
        """Leave `<<` as it is: merges of merges grow without end."""

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        """Refuse keys that are no texts, and repeated ones, without printing values, which may be aliases' bombs."""
        if not isinstance(key, str):
            raise ConstructorError(None, None, "a key is no text; quote it", key_node.start_mark)
        if key in mapping:
            raise ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        return True


_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA = ("null", "bool", "int", "float", "str", "seq", "map")
_TEXTS = ("timestamp", "merge", "value")
"""Tags that ruamel.yaml gives to plain texts such as 2026-01-31, << and =, though YAML 1.2 has no such types."""
_Constructor.yaml_constructors = {
    **{f"{_TAG}{name}": SafeConstructor.yaml_constructors[f"{_TAG}{name}"] for name in _CORE_SCHEMA},
    **{f"{_TAG}{name}": SafeConstructor.construct_yaml_str for name in _TEXTS},
    None: SafeConstructor.yaml_constructors[None],
}


def _yaml_fault(error: Exception) -> str:
    """Return a YAML error as a sentence with its place."""
    if not isinstance(error, MarkedYAMLError):
        return f"a value or a directive cannot be read ({' '.join(str(error).split())})"
    said = ", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})" if mark else said


def _too_deep(source: object) -> BenchmarkError:
    return BenchmarkError(f"{source}: values are nested too deep; {MAX_DEPTH} levels are allowed")


def _require_plain(content: Any, source: object) -> None:
    """Refuse values that YAML and JSON can say and nothing here can use."""
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise _too_deep(source)
        if count > MAX_VALUES:
            raise BenchmarkError(f"{source}: has more than {MAX_VALUES} values, aliases counted as often as used")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            _require_text(value, source)
        elif isinstance(value, int) and not -WHOLE_NUMBER_LIMIT < value < WHOLE_NUMBER_LIMIT:
            raise BenchmarkError(f"{source}: holds a whole number of {value.bit_length()} bits, but 64 must hold it")


def _require_text(value: str, source: object) -> None:
    if "\0" in value:
        raise BenchmarkError(f"{source}: the text {value!r} has a NUL character; remove it")
    if not is_text(value):
        raise BenchmarkError(f"{source}: the text {value!r} has half of a surrogate pair; write the whole character")
