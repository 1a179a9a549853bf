"""The pages of all methods, made from the docstrings of their files."""

from __future__ import annotations

import re

from hpo.app.reference.keys import table
from hpo.search import registry

HEADER = """\
# The methods' pages

Made by `python -m hpo reference --output docs`. Each page is the docstring of the method's file in `hpo/methods/`.
[Methods](../methods.md) compares them in one table.
"""
LABEL = re.compile(r"^([A-Z][\w' ]+):(?=\s)", re.MULTILINE)
URL = re.compile(r"https?://[^\s,)]+[^\s,.)]")


def text() -> str:
    """Write the page."""
    return "\n".join([HEADER, *map(_section, registry.names())])


def _section(name: str) -> str:
    summary, _, rest = registry.get(name).page.partition("\n")
    arguments = registry.get(name).arguments
    texts = {key: field.description or "" for key, field in arguments.model_fields.items()}
    listed = table(arguments.model_json_schema(), texts) if texts else "It has no arguments of its own."
    return f"## {name}\n\n{_escaped(summary)}\n\n{_markdown(rest.strip())}\n\n{listed}\n"


def _markdown(page: str) -> str:
    """Turn plain text into Markdown: a paragraph for each label, which is bold, and addresses linked."""
    labelled = LABEL.sub(r"\n**\1:**", _escaped(page)).strip()
    return re.sub(r"\n{3,}", "\n\n", labelled)


def _escaped(page: str) -> str:
    """Link addresses, and keep signs of multiplication, outside code."""
    parts = re.split(r"(`[^`]*`)", page)
    parts[::2] = [URL.sub(r"<\g<0>>", part.replace("*", r"\*")) for part in parts[::2]]
    return "".join(parts)
