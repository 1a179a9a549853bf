"""Cases that once failed, as `example` takes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import example

from tests.fuzz.hostile_values import RAW_YAML
from tests.fuzz.samples import SQUAD, SYNTHETIC

PATHS = ("~nobody-of-that-name/x", "/dev/zero", "x/" * 3000, "a" * 300, "/a\0b", "/\ud800", "/proc/self/mem")


def examples(**cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add cases that once failed, as `example` takes them; the last value of a shorter list goes on."""

    def add(target: Callable[..., None]) -> Callable[..., None]:
        given_ = {name: list(values) for name, values in cases.items()}
        for number in range(max(map(len, given_.values()))):
            case = {name: values[min(number, len(values) - 1)] for name, values in given_.items()}
            target = example(**case)(target)
        return target

    return add


def with_values(document: Mapping[str, Any], **values: str) -> bytes:
    """Write a document as YAML, with raw values at keys such as `space__learning_rate__low`."""
    content = copy.deepcopy(dict(document))
    for place in values:
        *parents, key = place.split("__")
        section: Any = content
        for parent in parents:
            section = section[parent]
        section[key] = f"<{place}>"
    text = json.dumps(content)
    for place, value in values.items():
        text = text.replace(json.dumps(f"<{place}>"), value)
    return text.encode("utf-8", "surrogatepass")


def titled(title: str) -> str:
    return json.dumps(SQUAD["data"]).replace('"Delft"', title)


FAULTY_YAML = [
    raw.encode() for raw in ("!!timestamp x", "!!int ''", "!!float x", "!!bool x", '"\\U0011ffff"', "[" * 5000)
]
BOMBS = [with_values(SYNTHETIC, description=raw) for raw in RAW_YAML if "*" in raw]
LONG_NUMBER = "0x" + "f" * 5000


def require_no_store() -> None:
    assert list(Path("no_store").iterdir()) == []
