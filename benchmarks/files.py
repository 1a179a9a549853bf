"""Reads what people write: text, YAML and JSON files. Whatever is in them, they are read or refused in a sentence.

Content that is read is plain: texts, numbers, truth values, lists, and mappings from texts. What would only fail later,
in a path, a checksum or the tracking store, is refused here: values nested or repeated without end, whole numbers that
no library holds, texts that no encoding writes.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 50
"""Levels of a file with settings; those of the suite have five."""
MOST_VALUES = 100_000
"""Values of a file with settings, an alias counting as often as it is used."""
LARGEST = 2**63
"""Whole numbers are smaller, since 64 bits hold them."""


class BenchmarkError(ValueError):
    """A benchmark, search space or data file that cannot be used; the message says what to change."""


def first_line(error: Exception) -> str:
    """An error's message as far as it fits a sentence; its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        BenchmarkError: it cannot be read, is not YAML, holds no mapping, gives a key twice, or is not plain.
    """
    try:
        content = yaml.load(read_text(path), Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError, LookupError) as error:  # the last two from values with a tag, such as !!int x
        if isinstance(error, BenchmarkError):
            raise
        raise BenchmarkError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise _too_deep(path) from None
    if not isinstance(content, dict):
        raise BenchmarkError(f"{path}: expected a mapping at the top, found {type(content).__name__}")
    _require_plain(content, path)
    return content


def load_json(path: Path) -> Any:
    """The content of a JSON file with settings.

    Raises:
        BenchmarkError: it cannot be read, is not JSON, or is not plain.
    """
    content = parse_json(read_text(path), path)
    _require_plain(content, path)
    return content


def parse_json(text: str, source: object) -> Any:
    """The content of a JSON text.

    Args:
        text: the text.
        source: what to call it in an error.

    Raises:
        BenchmarkError: it is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise BenchmarkError(f"{source}: not valid JSON ({error})") from None
    except RecursionError:
        raise _too_deep(source) from None


def read_text(path: Path, advice: str = "") -> str:
    """A file's text, with or without a byte order mark.

    Args:
        path: the file.
        advice: what to do where it cannot be read.

    Raises:
        BenchmarkError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path, advice).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: not UTF-8 (byte {error.start + 1}); save it in UTF-8") from None


def read_bytes(path: Path, advice: str = "") -> bytes:
    """A file's bytes; arguments and errors as those of `read_text`."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a device has no end, a pipe perhaps no beginning
            raise BenchmarkError(f"{path}: cannot be read (it is a device or a pipe, but must be a file){advice}")
        return path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror}){advice}") from None


def place(folder: Path, name: str) -> Path:
    """The absolute path of a name that is relative to a folder, or to a home directory.

    Raises:
        BenchmarkError: no file can have that name.
    """
    try:
        return (folder / expanded(name)).resolve()
    except (OSError, RuntimeError) as error:  # such as links in a circle
        raise BenchmarkError(f"path {name!r}: cannot be used ({first_line(error)})") from None


def expanded(name: str) -> Path:
    """A path whose `~` or `~user` is the home directory.

    Raises:
        BenchmarkError: there is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise BenchmarkError(f"path {name!r}: cannot be used ({first_line(error)})") from None


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have names none."""
    try:
        return path.is_file()
    except OSError:  # it is too long
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, likewise."""
    try:
        return path.is_dir()
    except OSError:
        return False


def whole_number(text: str) -> int | None:
    """The number that digits say; None where a text says none, or one that 64 bits do not hold."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def is_text(text: str) -> bool:
    """Whether UTF-8 can write it: a JSON file may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-5 is a number and 4:00 a text, keys are texts, and one given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text; quote it", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_TAG = "tag:yaml.org,2002:"
_RESOLVED = {
    "null": r"|~|null|Null|NULL",
    "bool": r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?((\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
}
"""What values without quotes are beside texts."""
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern in _RESOLVED.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), None)
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in (*_RESOLVED, "str", "seq", "map")
}


def _too_deep(source: object) -> BenchmarkError:
    return BenchmarkError(f"{source}: values are nested too deep; {DEEPEST} levels are allowed")


def _require_plain(content: Any, source: object) -> None:
    """Refuse what YAML and JSON can say and nothing here can use."""
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > DEEPEST:
            raise _too_deep(source)
        if count > MOST_VALUES:
            raise BenchmarkError(f"{source}: has more than {MOST_VALUES} values, aliases counted as often as used")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            _require_text(value, source)
        elif isinstance(value, int) and not -LARGEST < value < LARGEST:
            raise BenchmarkError(f"{source}: holds a whole number of {value.bit_length()} bits, but 64 must hold it")


def _require_text(value: str, source: object) -> None:
    if "\0" in value:
        raise BenchmarkError(f"{source}: the text {value!r} has a NUL character; remove it")
    if not is_text(value):
        raise BenchmarkError(f"{source}: the text {value!r} has half of a surrogate pair; write the whole character")
