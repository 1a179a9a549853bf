"""A command of `python -m hpo` and its options, as the table in `hpo.app.options` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "count", "integer", "number", "counts", "texts", "flag", "switch", "rest"]
"""Rule by which a text becomes a value, see `hpo.app.parser.value_of`."""


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        name: as functions know it, such as `gpu_hours`; the command line has `--gpu-hours`.
        help: one sentence; names the default in brackets where `default` alone would not say it.
        default: as text; empty for "not given", None where the option is required.
        kind: the type of its value.
        choices: the texts that are allowed; all where empty.
        is_positional: whether it is given without its name.
    """

    name: str
    help: str
    default: str | None = ""
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    is_positional: bool = False

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return self.name if self.is_positional else f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Command:
    """A command of `python -m hpo`.

    Attributes:
        verb: one word, or two for those of a group.
        help: one sentence.
        function: module in `hpo.app` and function, such as `commands.run`.
        options: in the order of help and documentation.
        is_entry: whether MLproject has an entry for it.
        passes_on: whether options that it does not know belong to another command, which it is given.
        is_internal: whether only a job of ours calls it.
    """

    verb: str
    help: str
    function: str
    options: tuple[Option, ...] = ()
    is_entry: bool = False
    passes_on: bool = False
    is_internal: bool = False
