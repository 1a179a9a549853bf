"""The text of the MLproject file, made from the table of options: `python -m hpo mlproject > MLproject`.

MLflow quotes values for the shell itself; a `{x}` within quotes would undo that. Parameters that a command does
not use are ignored by MLflow without a word, so commands and parameters are made from one list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from hpo.app.options import COMMANDS, SMALL_SUITE, STUDY_OPTIONS, SUITE_OPTIONS, Option
from hpo.app.parser import method_options
from hpo.search import registry

HEADER = """\
# Made by `python -m hpo mlproject`; one entry per method. Change hpo/methods/ or hpo/app/options.py, not this file.
name: hpo-llm-finetuning

python_env: python_env.yaml

entry_points:
"""


def text() -> str:
    """Write the whole file."""
    small = [replace(option, default=SMALL_SUITE.get(option.name, option.default)) for option in SUITE_OPTIONS]
    entries = [_entry("main", "suite", small)]
    entries += [_entry(name, f"run {name}", [*STUDY_OPTIONS, *method_options(name)]) for name in registry.names()]
    entries += [_entry(command.verb, command.verb, command.options) for command in COMMANDS if command.is_entry]
    return HEADER + "\n".join(entries)


def _entry(name: str, verb: str, options: Sequence[Option]) -> str:
    lines = [f"  {name}:", "    parameters:"]
    lines += [f"      {option.name}: {{{_type(option)}}}" for option in options]
    words = [f"{'--' if option.is_positional else option.flag} {{{option.name}}}" for option in options]
    return "\n".join([*lines, f'    command: "python -m hpo {verb} {" ".join(words)}"']) + "\n"


def _type(option: Option) -> str:
    """MLflow's declaration of a parameter; one without a default is required."""
    return "type: string" if option.default is None else f"type: string, default: {json.dumps(option.default)}"
