"""How commands write to the terminal."""

from __future__ import annotations

import sys

from rich.console import Console

LOG_WIDTH = 160


def open_console() -> Console:
    """Stdout; in a file wide enough for a table's rows to stay on one line."""
    return Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)


def print_line(console: Console, text: str) -> None:
    """A line as it is, however long."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
