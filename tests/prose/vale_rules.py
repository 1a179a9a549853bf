"""Reader of the rules in `.vale/House`, so that they hold where Vale itself is not installed.

It knows the two kinds of Vale's rules that the house uses, `existence` and `occurrence`. As in Vale, code, addresses of
links and rules of tables are no text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_ADDRESS = re.compile(r"\]\([^)]*\)|https?://\S+")
_BLOCK_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.) ?)|\|")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")
_ABBREVIATION = re.compile(r"\be\.g\.|\bi\.e\.")


@dataclass(frozen=True)
class Alert:
    """A place where a page breaks a rule.

    Attributes:
        rule: name of the rule's file.
        level: `error` or `warning`.
        text: the words that break it.
    """

    rule: str
    level: str
    text: str


def load_rules(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read every rule of a style by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))}


def blocks_of(page: str) -> list[str]:
    """Split a page into paragraphs, list items, headings and cells, without code and addresses."""
    text = _ADDRESS.sub("]", _CODE.sub("code", page))
    return [" ".join(block.split()) for block in _BLOCK_END.split(text) if block.strip(" -:|\n")]


def alerts(page: str, rules: Mapping[str, Mapping[str, Any]]) -> Iterator[Alert]:
    """Yield every place of a page that breaks a rule."""
    for block in blocks_of(page):
        for name, rule in rules.items():
            for text in _broken(block, rule):
                yield Alert(name, rule["level"], text)


def _broken(block: str, rule: Mapping[str, Any]) -> Iterator[str]:
    flags = re.IGNORECASE if rule.get("ignorecase") else 0
    if rule["extends"] == "existence":
        for token in rule["tokens"]:
            yield from (
                block[max(0, found.start() - 40) : found.end() + 40] for found in re.finditer(token, block, flags)
            )
    elif rule["extends"] == "occurrence":
        for sentence in _SENTENCE_END.split(_ABBREVIATION.sub("for", block)):
            if len(re.findall(rule["token"], sentence, flags)) > rule["max"]:
                yield sentence
    else:
        raise ValueError(f"extends is {rule['extends']!r}, but must be existence or occurrence")
