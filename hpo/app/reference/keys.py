"""Tables of the keys of a YAML file, made from the models that read it: type, bounds, default and meaning.

The meaning of a key is its line under `Attributes:` in the docstring of its model.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from benchmarks.spec import Benchmark
from hpo.core.text_tables import markdown_cell, markdown_table
from slurm.profile import Profile

HEADINGS = ("key", "value", "default", "meaning")
KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
LIBRARY_LIMIT = 2**31
"""Bound of numbers that libraries hold in 32 bits; no table shows it."""
SCALAR = ["boolean", "integer", "number", "string"]
"""Types of a value of a hyperparameter."""
BENCHMARK_HEADER = """\
# Keys of a benchmark

Made by `python -m hpo reference --output docs`. A benchmark is a YAML file ([how to write one](../own-model.md)). A key
that is not on this page is refused, and so is a value beyond its bounds.
"""
CLUSTER_HEADER = """\
# Keys of a cluster profile

Made by `python -m hpo reference --output docs`. A cluster profile is a YAML file with the resources that jobs
ask SLURM for ([how to write one](../../slurm/README.md)). A key that is not on this page is refused, and so is a value
beyond its bounds.
"""

Schema = Mapping[str, Any]


def benchmark_page() -> str:
    """Write the page of a benchmark's keys."""
    return "\n".join([BENCHMARK_HEADER, *_sections(Benchmark)])


def cluster_page() -> str:
    """Write the page of a cluster profile's keys."""
    return "\n".join([CLUSTER_HEADER, *_sections(Profile)])


def meanings(model: type) -> dict[str, str]:
    """Return the lines under `Attributes:` in a class's docstring, by name."""
    _, _, listed = (inspect.getdoc(model) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", listed, re.MULTILINE)
    joined = {name: " ".join(text.split()) for name, text in entries}
    return {name: text if ". " in text else text.removesuffix(".") for name, text in joined.items()}


def _sections(root: type[BaseModel]) -> Iterator[str]:
    """Yield a section for each model that a file has a block of, in the order of the keys."""
    schema = root.model_json_schema()
    models = _models(root)
    for name, paths in _paths(schema).items():
        block = schema["$defs"][name] if name else schema
        model = models[name or root.__name__]
        title = _title(paths, block) if name else "The file"
        summary = (inspect.getdoc(model) or "").splitlines()[0]
        yield f"## {title}\n\n{summary}\n\n{table(block, meanings(model))}\n"


def _models(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the models that a file is read by, by name: the modules of a model name those of its fields."""
    found: dict[str, type[BaseModel]] = {}
    waiting = [root]
    while waiting:
        model = waiting.pop()
        if model.__name__ not in found:
            found[model.__name__] = model
            waiting += [part for field in model.model_fields.values() for part in _parts(field.annotation)]
    return found


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """List the models within an annotation, such as `dict[str, Uniform | Choice]`."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _parts(argument)]


def _paths(schema: Schema) -> dict[str, list[str]]:
    """Return each model of a schema with the paths of keys that lead to it; the root's name is empty."""
    found: dict[str, list[str]] = {"": [""]}
    waiting = [("", schema)]
    while waiting:
        path, block = waiting.pop(0)
        for key, value in block["properties"].items():
            here = f"{path}.{key}" if path else key
            for name, place in _blocks(value, here):
                is_new = name not in found
                found.setdefault(name, []).append(place)
                if is_new:
                    waiting.append((place, schema["$defs"][name]))
    return found


def _blocks(value: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Yield the models that a key's value may be, with the path of each."""
    if "$ref" in value:
        yield _name(value), path
    for part in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _blocks(part, path)
    inner = value.get("additionalProperties")
    if isinstance(inner, dict):
        yield from _blocks(inner, f"{path}.NAME")


def _name(value: Schema) -> str:
    return str(value["$ref"]).rsplit("/", 1)[-1]


def _title(paths: list[str], block: Schema) -> str:
    constant = block["properties"].get("type", {}).get("const")
    kind = f" with `type: {constant}`" if constant else ""
    return ", ".join(f"`{path}`" for path in paths) + kind


def table(block: Schema, texts: Mapping[str, str]) -> str:
    """Write the table of a block.

    Args:
        block: its JSON schema, as pydantic makes it.
        texts: the meaning of each key; one that is missing is an error.
    """
    required = block.get("required", ())
    rows = [
        (f"`{key}`", _kind(value), "required" if key in required else _default(value), texts[key])
        for key, value in block["properties"].items()
    ]
    return markdown_table(HEADINGS, [[markdown_cell(cell) for cell in row] for row in rows])


def _default(value: Schema) -> str:
    default = value.get("default")
    return "" if default in (None, "", [], {}) or isinstance(default, dict) else f"`{json.dumps(default)}`"


def _kind(value: Schema) -> str:
    """Describe the values of a key in words, with their bounds."""
    if "$ref" in value or "oneOf" in value:
        return "block"
    if "anyOf" in value:
        if [part.get("type") for part in value["anyOf"]] == SCALAR:
            return "number, text, true or false"
        kinds = [_kind(part) for part in value["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if value.get("type") == "array":
        return f"list of: {_kind(value['items'])}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"names with: {_kind(inner)}" if isinstance(inner, dict) else "block"
    if value.get("format") == "path":
        return "path"
    limits = {sign: value[key] for key, sign in BOUNDS.items() if key in value and value[key] != LIBRARY_LIMIT}
    return ", ".join([KINDS[value["type"]], *(f"{sign} {limit:,.10g}" for sign, limit in limits.items())])
