"""The page of all commands and options, made from the table of options."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.app.options import COMMANDS, Command, Option
from hpo.app.parser import method_options
from hpo.core.text_tables import markdown_cell, markdown_table
from hpo.search import registry

HEADER = """\
# Every command and option

Made by `python -m hpo reference --output docs`. Commands marked *entry* are entries of MLproject too: there an option
is given as `-P name=value`, with an underscore in place of the hyphen. Every method is an entry of its own name.
"""
KINDS = {
    "text": "text",
    "count": "whole number",
    "integer": "whole number",
    "number": "number",
    "counts": "whole numbers, such as 1,2",
    "texts": "text, several with commas between them",
    "flag": "true or false",
    "switch": "given or not",
    "rest": "words",
}


def text() -> str:
    """Write the whole page."""
    parts = [HEADER, *(_command(command) for command in COMMANDS if not command.is_internal), "## Methods\n"]
    for name in registry.names():
        options = method_options(name)
        if options:
            parts.append(f"### {name}\n\n{registry.get(name).summary}\n\n{table(options)}")
    return "\n".join(parts)


def _command(command: Command) -> str:
    entry = " (*entry*)" if command.is_entry else ""
    sentence = command.help[0].upper() + command.help[1:]
    title = f"## python -m hpo {command.verb}{entry}\n\n{sentence}.\n"
    return f"{title}\n{table(command.options)}" if command.options else title


def table(options: Sequence[Option]) -> str:
    """Write the table of some options."""
    return markdown_table(("option", "value", "default", "meaning"), map(_row, options)) + "\n"


def _row(option: Option) -> list[str]:
    kind = ", ".join(option.choices) or KINDS[option.kind]
    default = "required" if option.default is None else f"`{option.default}`" if option.default else ""
    return [markdown_cell(text) for text in (f"`{option.flag}`", kind, default, option.help)]
