"""The MLproject file: made from the methods, safe to fill in, and understood by the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpo.app import mlproject
from hpo.app.parser import make_parser
from hpo.search import registry

FILE = Path(__file__).parents[3] / "MLproject"
ENTRIES: dict[str, Any] = yaml.safe_load(FILE.read_text())["entry_points"]
COMMON = ["benchmark", "budget", "seed", "space", "gpu_hours", "experiment", "plan"]
NASTY = "a b'c\"d;$(touch x)"


def filled(entry: dict[str, Any], values: dict[str, str]) -> list[str]:
    """The words that a shell gets to see, values quoted as MLflow quotes them."""
    defaults = {name: field.get("default", "given") for name, field in entry["parameters"].items()}
    quoted = {name: shlex.quote(str(values.get(name, default))) for name, default in defaults.items()}
    return shlex.split(entry["command"].format(**quoted))


def test_the_committed_file_is_the_generated_one() -> None:
    assert FILE.read_text() == mlproject.text(), "run: python -m hpo mlproject > MLproject"


def test_names_its_environment() -> None:
    assert yaml.safe_load(FILE.read_text())["python_env"] == "python_env.yaml"


@pytest.mark.parametrize("method", registry.names())
def test_every_method_has_an_entry(method: str) -> None:
    assert method in ENTRIES


@pytest.mark.parametrize("method", registry.names())
def test_a_method_s_entry_has_the_common_parameters_and_its_own(method: str) -> None:
    own = list(registry.get(method).arguments.model_fields)
    assert list(ENTRIES[method]["parameters"]) == COMMON + own


@pytest.mark.parametrize("method", registry.names())
def test_defaults_are_the_command_line_s(method: str) -> None:
    parsed = make_parser(method).parse_args(["run", method])
    defaults = {name: field["default"] for name, field in ENTRIES[method]["parameters"].items() if name in COMMON}
    assert {name: str(value) for name, value in defaults.items()} == {
        name: str(getattr(parsed, name)) for name in COMMON
    }


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_parameter_is_used_exactly_once(entry: str) -> None:
    used = re.findall(r"\{(\w+)\}", ENTRIES[entry]["command"])
    assert sorted(used) == sorted(ENTRIES[entry]["parameters"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_parameter_stands_in_quotes(entry: str) -> None:
    """MLflow quotes values for the shell; a pair of quotes around one would undo it."""
    assert not set("\"'`$") & set(ENTRIES[entry]["command"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_value_with_spaces_and_quotes_stays_one_word(entry: str) -> None:
    name = "benchmark" if "benchmark" in ENTRIES[entry]["parameters"] else "run_id"
    words = filled(ENTRIES[entry], {name: NASTY})
    assert words[words.index("--" if name == "run_id" else f"--{name}") + 1] == NASTY


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_command_line_accepts_the_defaults(entry: str) -> None:
    words = filled(ENTRIES[entry], {})
    assert words[:3] == ["python", "-m", "hpo"]
    make_parser(entry if words[3] == "run" else None).parse_args(words[3:])


@pytest.mark.parametrize("method", registry.names())
def test_the_method_accepts_its_defaults(method: str) -> None:
    parsed = vars(make_parser(method).parse_args(filled(ENTRIES[method], {})[3:]))
    given = {key.removeprefix("method."): value for key, value in parsed.items() if key.startswith("method.")}
    assert registry.get(method).parse(given) == registry.get(method).arguments()
