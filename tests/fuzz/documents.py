"""Strategies for mistakes, and for attacks: valid files and commands in which a few things are wrong.

Random bytes are refused at the first of them. Other documents reach further: valid ones with a value of another kind at
some depth, a key too many, a bomb of aliases, or a byte that is no UTF-8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz.hostile_values import BYTES, FLOATS, INTEGERS, RAW_CSV, RAW_JSON, RAW_YAML, TEXTS


@dataclass
class Map:
    """Mapping as written: in order, and perhaps with a key twice."""

    pairs: list[list[Any]]


@dataclass(frozen=True)
class Raw:
    """Value as it stands in the file."""

    text: str


CHANGES = (*["nudge"] * 5, *["replace"] * 3, "copy", "delete", "repeat", "insert", "rename")
"""Changes to a document, each as often as it is drawn."""
SCALARS: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(INTEGERS),
    st.sampled_from(FLOATS),
    st.sampled_from(TEXTS),
    st.integers(0, 100),
    st.floats(0, 1),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)


def values(raw: Sequence[str]) -> SearchStrategy[Any]:
    """Draw a value in place of any other, at any depth."""
    leaves = SCALARS | st.sampled_from(raw).map(Raw)
    return leaves | st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(keys(), inner).map(list), max_size=3).map(Map),
        max_leaves=4,
    )


def keys() -> SearchStrategy[Any]:
    """Draw a text in place of a key."""
    return st.sampled_from(("<<", "=", "", "type", "low", "high", "values", "stage")) | SCALARS.map(str)


@st.composite
def mutated(draw: DrawFn, document: Any, raw: Sequence[str], most: int = 3) -> Any:
    """Draw a document as it is, or with up to `most` things wrong, as a tree with `Map` for mappings."""
    tree = [_tree(document)]
    for _ in range(draw(st.integers(0, most))):
        _mutate(draw, tree, raw)
    return tree[0]


def _tree(document: Any) -> Any:
    if isinstance(document, dict):
        return Map([[key, _tree(value)] for key, value in document.items()])
    return [_tree(value) for value in document] if isinstance(document, list | tuple) else document


def _mutate(draw: DrawFn, tree: list[Any], raw: Sequence[str]) -> None:
    """Replace, copy, delete, repeat or insert somewhere."""
    sites = list(_sites(tree))
    container, place = draw(st.sampled_from(sites))
    change = draw(st.sampled_from(CHANGES))
    if change == "nudge":
        _put(container, place, draw(_like(_get(container, place), raw)))
    elif change == "replace":
        _put(container, place, draw(values(raw)))
    elif change == "copy":
        source, where = draw(st.sampled_from(sites))
        _put(container, place, _tree_copy(_get(source, where)))
    elif container is tree:
        return
    elif change == "delete":
        del _entries(container)[place]
    elif change == "repeat":
        _entries(container).insert(place, _tree_copy(_entries(container)[place]))
    elif isinstance(container, Map):
        key = draw(keys())
        if change == "rename":
            container.pairs[place][0] = key
        else:
            container.pairs.insert(place, [key, draw(values(raw))])


def _like(value: Any, raw: Sequence[str]) -> SearchStrategy[Any]:
    """Draw another value of the same kind, which passes more checks than one of any kind."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.integers(0, 100) | st.sampled_from(INTEGERS)
    if isinstance(value, float):
        return st.floats(0, 10) | st.sampled_from(FLOATS)
    if isinstance(value, str) and value.replace(".", "").isdigit():  # a cell
        numbers = st.integers(0, 9) | st.floats(0, 10) | st.sampled_from(INTEGERS) | st.sampled_from(FLOATS)
        return numbers.map(str)
    return st.text(max_size=20) | st.sampled_from(TEXTS) if isinstance(value, str) else values(raw)


def _sites(node: Any) -> Iterator[tuple[Any, int]]:
    """Yield every place of every container below a node."""
    for place in range(len(_entries(node))):
        yield node, place
        inner = _get(node, place)
        if isinstance(inner, list | Map):
            yield from _sites(inner)


def _entries(node: Any) -> list[Any]:
    return node.pairs if isinstance(node, Map) else node


def _get(node: Any, place: int) -> Any:
    return node.pairs[place][1] if isinstance(node, Map) else node[place]


def _put(node: Any, place: int, value: Any) -> None:
    if isinstance(node, Map):
        node.pairs[place][1] = value
    else:
        node[place] = value


def _tree_copy(node: Any) -> Any:
    if isinstance(node, Map):
        return Map([[key, _tree_copy(value)] for key, value in node.pairs])
    return [_tree_copy(value) for value in node] if isinstance(node, list) else node


def yaml_files(*documents: Any) -> SearchStrategy[bytes]:
    """Draw YAML files, most of them near one of these documents."""
    return _files(documents, RAW_YAML, _yaml)


def json_files(*documents: Any) -> SearchStrategy[bytes]:
    """Draw JSON files, most of them near one of these documents."""
    return _files(documents, RAW_JSON, _json)


def json_lines_files(documents: Sequence[Any]) -> SearchStrategy[bytes]:
    """Draw files with one JSON document per line."""
    return _files([list(documents)], RAW_JSON, _json_lines)


def csv_files(rows: Sequence[Sequence[str]]) -> SearchStrategy[bytes]:
    """Draw CSV files near this table, whose first row is the heading."""
    return _files([[list(row) for row in rows]], RAW_CSV, _csv)


def _files(documents: Sequence[Any], raw: Sequence[str], render: Callable[[Any], str]) -> SearchStrategy[bytes]:
    near = st.one_of([mutated(document, raw) for document in documents]).map(render)
    texts = near.map(lambda text: text.encode("utf-8", "surrogatepass"))
    others = st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.sampled_from(raw).map(_encoded)
    return st.one_of([texts] * 12 + [_damaged(texts)] * 3 + [others])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _damaged(draw: DrawFn, files: SearchStrategy[bytes]) -> bytes:
    """Draw a file with something wrong in its bytes."""
    content = draw(files)
    place = draw(st.integers(0, min(len(content), 400)))
    kind = draw(st.sampled_from(("insert", "insert", "cut", "utf-16", "twice", "mark")))
    if kind == "insert":
        return content[:place] + draw(st.sampled_from(BYTES)) + content[place:]
    if kind == "cut":
        return content[:place]
    if kind == "utf-16":
        return content.decode("utf-8", "replace").encode("utf-16")
    return content * 2 if kind == "twice" else b"\xef\xbb\xbf" + content


def _yaml(tree: Any) -> str:
    """Write a tree in block style at the top, in flow style below."""
    if isinstance(tree, Map):
        return "".join(f"{_key(key)}: {_flow(value, '.nan', '.inf')}\n" for key, value in tree.pairs)
    return _flow(tree, ".nan", ".inf") + "\n"


def _key(key: Any) -> str:
    return key if (isinstance(key, str) and key.isidentifier()) or key == "<<" else _flow(key, ".nan", ".inf")


def _json(tree: Any) -> str:
    return _flow(tree, "NaN", "Infinity")


def _json_lines(tree: Any) -> str:
    return "\n".join(map(_json, tree if isinstance(tree, list) else [tree])) + "\n"


def _csv(tree: Any) -> str:
    rows = tree if isinstance(tree, list) else [tree]
    return "".join(",".join(_cell(cell) for cell in (row if isinstance(row, list) else [row])) + "\n" for row in rows)


def _cell(cell: Any) -> str:
    return cell.text if isinstance(cell, Raw) else str(cell)


def _flow(tree: Any, nan: str, inf: str) -> str:
    if isinstance(tree, Map):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_flow(value, nan, inf)}" for key, value in tree.pairs) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(_flow(value, nan, inf) for value in tree) + "]"
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, float) and not math.isfinite(tree):
        return nan if math.isnan(tree) else inf if tree > 0 else f"-{inf}"
    return json.dumps(tree)
