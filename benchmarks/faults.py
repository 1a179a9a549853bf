"""Explain the faults that pydantic finds in a file: the key, the rule, the value got, and the keys that are valid."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MAX_FAULTS = 5
"""Faults of a file that are told at once."""
LIST, MAPPING = "must be a list", "must be keys with values"
FORMS = {
    **dict.fromkeys(("tuple_type", "list_type"), LIST),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), MAPPING),
}
"""Rules for a value that is no list or mapping, in YAML's words, by pydantic's name of the fault."""


def explained(error: ValidationError, model: type[BaseModel], section: Sequence[str] = ()) -> str:
    """Return pydantic's list of faults as one line.

    Args:
        error: the faults.
        model: the class of the whole file, in which valid keys are looked up.
        section: the keys under which the validated part lies in the file.
    """
    faults = error.errors()
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return "; ".join(_explained(fault, model, section) for fault in faults[:MAX_FAULTS]) + more


def _explained(fault: Any, model: type[BaseModel], section: Sequence[str]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = _unknown_key(str(fault["loc"][-1]), _valid_keys(model, (*section, *fault["loc"][:-1])))
    else:
        given = fault.get("input")
        is_plain = isinstance(given, bool | int | float | str)
        if form := FORMS.get(fault["type"]):
            message = f"{form}, such as [{given}]" if is_plain and form == LIST else form
        message += f" (got {given!r})" if is_plain else ""
    return f"{where}: {message}" if where else message


def _unknown_key(key: str, valid: list[str]) -> str:
    near = get_close_matches(key, valid, n=1, cutoff=0.8)
    return f"unknown key; valid here are {', '.join(valid)}{f'; did you mean `{near[0]}`?' if near else ''}"


def _valid_keys(model: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """Return the keys of the models that lie under `parents`; a union's come together, each once."""
    found: list[Any] = [model]
    for part in parents:
        found = [inner for one in found for inner in _models_in(one.model_fields.get(str(part)))] or found
    return list(dict.fromkeys(key for one in found for key in one.model_fields))


def _models_in(field: Any) -> list[type[BaseModel]]:
    """Return the models that a field's annotation names, at any depth; none for a part that is no field."""
    waiting, found = [getattr(field, "annotation", None)], []
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.append(one)
        else:
            waiting = [*get_args(one), *waiting]
    return found
