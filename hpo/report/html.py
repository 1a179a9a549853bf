"""One HTML file that needs nothing else: tables, figures, and the policy that holds it to itself. Pure.

The file asks no network for anything, and its own Content-Security-Policy holds it to that. Only the scripts that are
in it run, named by their checksums: a method's or hyperparameter's name that looks like a script stays text, even if
it were not escaped. Most of its size is plotly.js, which comes with the Python package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hpo.report.columns import Cell
from hpo.report.figures.plots import Figure, LeftOut

ASSETS = Path(__file__).parent / "assets"
REPORT = "report.html"


class Extent(Enum):
    """Parts of the report that a page has."""

    WHOLE = auto()
    DATA = auto()
    """All but the plots and their library."""
    TABLES = auto()
    """No data of the figures either."""


LEFT_OUT = {
    Extent.WHOLE: "",
    Extent.DATA: "The store takes no larger file: plots are left out here, with their data kept. The folder in which "
    "the comparison was written has the whole report.",
    Extent.TABLES: "The store takes no larger file: plots and their data are left out here. The folder in which the "
    "comparison was written has the whole report.",
}
"""Sentences on the page about the parts that it lacks."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: its place on the page.
        caption: its subject, and how to read it.
        headings: of the columns.
        rows: cells by row, as many as headings.
        worded: columns of text, which are aligned to the left.
    """

    name: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    worded: frozenset[str]


def render(
    template: str,
    title: str,
    tables: Sequence[Table],
    figures: Sequence[Figure | LeftOut],
    extent: Extent = Extent.WHOLE,
    **content: Any,
) -> str:
    """Write a page.

    Args:
        template: its file among the assets.
        title: of the page.
        tables: each at the place that the template has for its name.
        figures: in their order.
        extent: the parts that the page has.
        **content: the template's other values.
    """
    scripts = [(ASSETS / "report.js").read_text(encoding="utf-8")]
    if extent is Extent.WHOLE:
        scripts.insert(0, get_plotlyjs())
    page = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(template)
    return page.render(
        title=title,
        policy=_policy(scripts),
        css=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - files of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        tables={table.name: table for table in tables},
        figures=[_shown(figure, extent) for figure in figures],
        left_out=LEFT_OUT[extent],
        **content,
    )


def data_files(figures: Iterable[Figure | LeftOut]) -> dict[str, str]:
    """Write the data of each figure that has some: `figure_<name>.csv`."""
    return {_csv_name(figure): _csv(figure) for figure in figures if isinstance(figure, Figure)}


def _policy(scripts: Iterable[str]) -> str:
    """Forbid all loading and all scripts but these; plotly sets elements' styles, and saves images through data."""
    sums = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {sums}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _shown(figure: Figure | LeftOut, extent: Extent) -> dict[str, Any]:
    """Prepare a figure for the template."""
    if isinstance(figure, LeftOut):
        return {**asdict(figure), "views": []}
    is_whole = extent is Extent.WHOLE
    plots = [{"data": plot.data, "layout": plot.layout} for plot in figure.views.values()] if is_whole else []
    csv = "" if extent is Extent.TABLES else base64.b64encode(_csv(figure).encode()).decode()
    return {
        "name": figure.name,
        "title": figure.title,
        "how_to_read": figure.how_to_read,
        "notes": figure.notes,
        "min_width": figure.min_width,
        "views": list(figure.views),
        "plots": _json_in_html(plots) if is_whole else "",
        "csv_name": _csv_name(figure),
        "csv": f"data:text/csv;charset=utf-8;base64,{csv}" if csv else "",
    }


def _json_in_html(value: Any) -> Markup:
    """Write JSON that can stand in a script element: nothing in it ends the element, or begins a comment."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - made safe above


def _csv_name(figure: Figure) -> str:
    return f"figure_{figure.name}.csv"


def _csv(figure: Figure) -> str:
    return str(figure.data.to_csv(index=False, lineterminator="\n"))


def _plain(value: Any) -> Any:
    """Return a value of Python's own types, numpy's and pandas' among them; null for what is no number of JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(of) for key, of in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
