"""Tables as text, for every file that the suite writes: CSV and Markdown. Pure.

markdown_table(("method", "trials"), [("asha", "27")])
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Write rows of cells as CSV, the heading being one of them; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows that all have the keys of the first as CSV, with a heading; empty without rows."""
    return csv_text([list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]) if rows else ""


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a pipe table without a last line break; its cells are Markdown already, see `markdown_cell`."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [headings, ["---"] * len(headings), *rows])


def markdown_cell(value: Any) -> str:
    """Show a value in one cell of a pipe table: a float with four digits, None as nothing."""
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
