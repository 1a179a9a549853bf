"""Words that depend on a number. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, such as "1 study" and "3 studies".

    Args:
        number: how many, at least 0.
        noun: the singular.
        plural: of nouns that do not simply take an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """List names, such as "a, b and 3 more".

    Args:
        names: at least one.
        most: how many are written at most.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
