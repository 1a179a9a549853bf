"""Turn the words of a command line into typed values, by the table in `hpo.app.options`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.files import whole_number
from benchmarks.spec import BenchmarkError
from hpo.app.options import COMMANDS, GROUPS, Command, Option
from hpo.search import registry

METHOD = "method."
"""Prefix that keeps a method's own arguments apart from the options of `run`."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one paragraph that names the valid options; options cannot be abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the command with argparse's own sentence."""
        raise BenchmarkError(f"{message}; see `{self.prog} --help`")

    def refuse(self, unknown: list[str], also: argparse.ArgumentParser | None = None) -> NoReturn:
        """Name the unknown words and the options there are, those of another parser too."""
        actions = [*self._actions, *(also._actions if also else [])]
        options = sorted({option for action in actions for option in action.option_strings if option != "-h"})
        self.error(f"unrecognized arguments: {' '.join(unknown)} (options here: {', '.join(options)})")


class Joined(argparse.Action):
    """An option that may be given several times: its values with commas between them."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Take a value; the first one replaces the default."""
        mark = f"{self.dest} was given"
        before = [getattr(namespace, self.dest)] if hasattr(namespace, mark) else []
        setattr(namespace, self.dest, ",".join([*before, values]))
        setattr(namespace, mark, True)


def listed(text: str) -> list[str]:
    """Divide a text at its commas, unless all of it is a file."""
    return [text] if Path(text).is_file() else [word.strip() for word in text.split(",") if word.strip()]


def parse(words: Sequence[str], also: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Parse a command.

    Args:
        words: the command line.
        also: a parser that has taken its options out of them, named too where one is unknown.

    Returns:
        A value for each option, by its name, and

        * `command`: the `Command`;
        * `texts`: the options as texts, by name;
        * `given`: a method's own arguments as texts, those alone that were given;
        * `options`: the words that are another command's, where this one passes them on;
        * `parser`: the command's own.

    Raises:
        BenchmarkError: an unknown command, option or method, or a value of the wrong type.
    """
    parsed, unknown = make_parser(_wanted_method(words)).parse_known_args(words)
    command: Command = parsed.command
    if unknown and not command.passes_on:
        parsed.parser.refuse(unknown, also)
    texts = {option.name: getattr(parsed, option.name) for option in command.options}
    values = {option.name: value_of(option, texts[option.name]) for option in command.options}
    given = {key.removeprefix(METHOD): value for key, value in vars(parsed).items() if key.startswith(METHOD)}
    settings = {"command": command, "texts": texts, "given": given, "options": unknown, "parser": parsed.parser}
    return argparse.Namespace(**values, **settings)


def _wanted_method(words: Sequence[str]) -> str | None:
    """Return the method after `run`, if there is one: its module is imported for its options, and no other."""
    return words[1] if len(words) > 1 and words[0] == "run" and not words[1].startswith("-") else None


@cache
def make_parser(method: str | None = None) -> Parser:
    """Make the parser of all commands, once; `run` with the options of `method` alone.

    Raises:
        BenchmarkError: no such method.
    """
    parser = Parser(
        prog="python -m hpo", description="Hyperparameter optimisation methods for LLM fine-tuning, compared."
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    groups = {
        name: verbs.add_parser(name, help=text).add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
        for name, text in GROUPS.items()
    }
    for command in COMMANDS:
        *group, verb = command.verb.split()
        own = (groups[group[0]] if group else verbs).add_parser(verb, help=command.help)
        own.set_defaults(command=command, parser=own)
        for option in command.options:
            _add(own, option)
        if command.verb == "run" and method is not None:
            for option in method_options(method):
                _add(own, option, dest=f"{METHOD}{option.name}", default=argparse.SUPPRESS)
    return parser


def method_options(method: str) -> list[Option]:
    """List a method's own options.

    Raises:
        BenchmarkError: no such method.
    """
    arguments = registry.get(method).arguments.model_fields
    return [Option(name, field.description or "", str(field.default)) for name, field in arguments.items()]


def _add(parser: argparse.ArgumentParser, option: Option, **settings: Any) -> None:
    settings = {"default": option.default, "help": help_of(option), **settings}
    if option.choices:
        settings["choices"] = option.choices
    if option.kind == "flag":  # MLproject entries give it a value
        settings |= {"nargs": "?", "const": "true", "choices": ("true", "false")}
    elif option.kind == "switch":
        settings |= {"action": "store_const", "const": "true"}
    elif option.kind == "texts":
        settings["action"] = Joined
    elif option.kind == "rest":
        settings["nargs"] = argparse.REMAINDER
    elif option.is_positional:
        settings["nargs"] = None if option.default is None else "?"
    elif option.default is None:
        settings["required"] = True
    parser.add_argument(option.flag, **settings)


def help_of(option: Option) -> str:
    """Describe an option in one line, its default included."""
    text = f"true: {option.help}" if option.kind == "flag" else option.help
    default = f" (default: {option.default})" if option.default else ""
    return f"{text}{default}".replace("%", "%%")


def value_of(option: Option, text: Any) -> Any:
    """Turn an option's text into its value; None where a number is not given.

    Raises:
        BenchmarkError: the text stands for no such value.
    """
    if option.kind in ("text", "rest"):
        return text
    if option.kind == "texts":
        return listed(text)
    if option.kind in ("flag", "switch"):
        return text == "true"
    if not text and option.default == "":
        return None
    value, rule = _number(option.kind, text)
    if value is None:
        raise BenchmarkError(f"{option.name} is {text!r}, but must be {rule} ({option.flag})")
    return value


def _number(kind: str, text: str) -> tuple[Any, str]:
    """Return the number that a text stands for, None if it stands for none; and the rule that it must follow."""
    if kind == "count":
        return whole_number(text), "a whole number"
    if kind == "integer":
        return int(text) if re.fullmatch("[+-]?[0-9]{1,18}", text) else None, "a whole number"
    if kind == "counts":
        numbers = [whole_number(word.strip()) for word in text.split(",")]
        return None if None in numbers else numbers, "whole numbers with commas between them, such as 1,2"
    try:
        return float(text), "a number"
    except ValueError:
        return None, "a number"
