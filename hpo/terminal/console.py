"""Output of commands to the terminal."""

from __future__ import annotations

import sys

from rich.console import Console

LOG_WIDTH = 160


def open_console() -> Console:
    """Open stdout; a file gets lines wide enough for each row of a table."""
    return Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)


def print_line(console: Console, text: str) -> None:
    """Print a line unbroken at any length."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
