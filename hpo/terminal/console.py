"""Output of commands to the terminal."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, TextIO

from rich.console import Console

LOG_WIDTH = 160


class Lasting:
    """A stream that outlives its reader: after `| head`, or with the terminal closed, output is discarded.

    Args:
        stream: stdout or stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text if there is a reader."""
        try:
            return self._stream.write(text)
        except OSError:
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush the stream if there is a reader."""
        try:
            self._stream.flush()
        except OSError:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def discard(stream: IO[str]) -> None:
    """Send further output of a stream nowhere, that of libraries and of Python's own end included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def open_console() -> Console:
    """Open stdout; a file gets lines wide enough for each row of a table."""
    file: Any = Lasting(sys.stdout)
    return Console(file=file) if sys.stdout.isatty() else Console(file=file, width=LOG_WIDTH)


def print_line(console: Console, text: str) -> None:
    """Print a line unbroken at any length."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
