"""Errors for a user: a paragraph on stderr, of one line whatever the message quotes."""

from __future__ import annotations

import re
import sys

from hpo.terminal.console import Lasting

LONGEST_WORD = 300
LONGEST = 2000
"""Characters of a message that is still read."""


def show(message: str) -> None:
    """Print an error."""
    _print(f"error: {paragraph(message)}")


def show_nothing_found(reason: str) -> None:
    """Print the end of a study of which every trial failed."""
    show(f"the study found nothing ({reason})")


def warn(message: str) -> None:
    """Print a warning: the command goes on."""
    _print(f"warning: {paragraph(message)}")


def _print(line: str) -> None:
    stream = Lasting(sys.stderr)
    stream.write(line + "\n")
    stream.flush()


def paragraph(message: str) -> str:
    """Write a message on one line, shortened if it quotes a long text.

    Characters that a terminal would act upon, or cannot show, become escapes: they may come from another user's file.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(message.split()))
    line = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _shortened(word[0], LONGEST_WORD), line)
    return _shortened(line, LONGEST)


def _shortened(text: str, longest: int) -> str:
    """Cut the middle out of a text that is too long: the fault comes first, and the remedy last."""
    left_out = f" ... ({len(text)} characters) ... "
    half = (longest - len(left_out)) // 2
    return text if len(text) <= longest else text[:half] + left_out + text[-half:]
