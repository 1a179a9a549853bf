"""The outcome of checks: one JSON line each, and a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "failed", "measured", "skipped"]


@dataclass(frozen=True)
class Line:
    """One check.

    Attributes:
        check: its name.
        outcome: "measured" if there is nothing to hold the figures against.
        seconds: of its process, start included.
        found: its figures by name.
    """

    check: str
    outcome: Outcome
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return the line as plain values, for JSON."""
        return asdict(self)


def render(lines: list[Line]) -> str:
    """Return lines as a table, with one figure per row."""
    rows = [("check", "outcome", "seconds", "found")]
    for line in lines:
        figures = [f"{name} {_short(value)}" for name, value in line.found.items()] or [""]
        rows.append((line.check, line.outcome, f"{line.seconds:.1f}", figures[0]))
        rows += [("", "", "", figure) for figure in figures[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(part)}" for key, part in value.items())
    return str(value)
