"""How a user is told what is wrong: a paragraph on stderr, of one line whatever the message quotes."""

from __future__ import annotations

import re
import sys

LONGEST_WORD = 300
LONGEST = 2000
"""Characters that somebody reads."""


def show(message: str) -> None:
    """Print an error."""
    print(f"error: {paragraph(message)}", file=sys.stderr)


def paragraph(message: str) -> str:
    """A message on one line, shortened where it quotes something long.

    What a terminal would act upon, or cannot show, is written as an escape: it may come out of somebody else's file.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(message.split()))
    line = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _shortened(word[0], LONGEST_WORD), line)
    return _shortened(line, LONGEST)


def _shortened(text: str, longest: int) -> str:
    """A text without its middle, where it is too long: what is wrong comes first, and what to do last."""
    left_out = f" ... ({len(text)} characters) ... "
    half = (longest - len(left_out)) // 2
    return text if len(text) <= longest else text[:half] + left_out + text[-half:]
