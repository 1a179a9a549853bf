"""The canvas of all figures: looks of methods, an empty plot, numbers and names as they are written. Pure.

All plots are cartesian ones of plotly in SVG: its WebGL traces, `parcoords` among them, stay empty where a browser has
no WebGL, and need `eval`, which the report forbids. Colours of the page (text, grid) are set by the page itself, which
knows whether it is light or dark.

A plot is the JSON that plotly.js reads, without plotly's Python objects around it: those check each value as it is set,
which took a third of a comparison's time. The tests let them check every plot instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant
from hpo.analysis.studies import StudyRecord

GREY = "#80868b"
"""Reads on light and dark alike, as all colours here do."""
METHOD_COLORS = ("#0072b2", "#d55e00", "#009e73", "#b85c93", "#b07d00", "#8c564b", "#3d9bd1")
"""After Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with colour blindness tell apart."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hexagon", "pentagon")
DASHES = ("solid", "dash", "dot")
PART_COLORS = {
    "startup": "#b07d00",
    "train": "#0072b2",
    "evaluate": "#3d9bd1",
    "checkpoint": "#b85c93",
    "idle": "#a5abb1",
    "failed": "#d55e00",
}
"""Colours of the ledger's parts."""
WIDE_RATIO = 10
"""Values that differ by more are drawn on a logarithmic axis."""
LONGEST_LABEL = 26
"""Characters of a name beside a row: on a phone, half of the width."""


@dataclass(frozen=True)
class Style:
    """The look of a method, the same in all figures.

    Attributes:
        color: as #rrggbb.
        symbol: plotly's name of a marker.
        dash: plotly's name of a line style; differs where colours are used again.
    """

    color: str
    symbol: str
    dash: str


class Plot:
    """A plot as plotly.js draws it, https://plotly.com/javascript/reference.

    Attributes:
        data: traces, in the order in which they are drawn.
        layout: axes, legend, sizes.
    """

    def __init__(self, **layout: Any) -> None:
        self.data: list[dict[str, Any]] = []
        self.layout = layout

    def add_bar(self, **trace: Any) -> None:
        """Add bars; a key without a value, None, is left away."""
        self._add("bar", trace)

    def add_scatter(self, **trace: Any) -> None:
        """Add points, lines or texts; a key without a value, None, is left away."""
        self._add("scatter", trace)

    def _add(self, kind: str, trace: Mapping[str, Any]) -> None:
        self.data.append({"type": kind, **{key: value for key, value in trace.items() if value is not None}})

    def update_layout(self, **changes: Any) -> None:
        """Merge changes into the layout; a nested key without a value, None, is left away."""
        _merge(self.layout, changes)

    def update_xaxes(self, **changes: Any) -> None:
        """Merge changes into the x axis."""
        self.update_layout(xaxis=changes)

    def update_yaxes(self, **changes: Any) -> None:
        """Merge changes into the y axis."""
        self.update_layout(yaxis=changes)


def _merge(old: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _merge(old.setdefault(key, {}), value)
        elif value is not None:
            old[key] = value


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: of its CSV file and its place on the page.
        title: for people.
        how_to_read: a sentence or two under the title.
        data: all data of the plot, one row per mark.
        views: plots to choose from, by label; most figures have one.
        notes: data that are not in it and the reason, one sentence each.
        min_width: pixels below which it is to be scrolled instead of squeezed.
    """

    name: str
    title: str
    how_to_read: str
    data: pd.DataFrame
    views: Mapping[str, Plot] = field(repr=False)
    notes: tuple[str, ...] = ()
    min_width: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A figure that has no data.

    Attributes:
        name: the figure's.
        title: the figure's.
        why: the reason, a sentence.
    """

    name: str
    title: str
    why: str


def styles(result: Result) -> dict[str, Style]:
    """Choose a style for each contestant; the default is grey."""
    return styles_of({one.name: one.traits.is_single_config for one in result.contestants})


def styles_of(methods: Mapping[str, bool]) -> dict[str, Style]:
    """Choose a style for each method; those that search for nothing are grey.

    Args:
        methods: by name, whether it searches for nothing.
    """
    looks: dict[str, Style] = {}
    symbols = cycle(SYMBOLS)
    for method, is_default in methods.items():
        number = sum(look.color != GREY for look in looks.values())
        color = GREY if is_default else METHOD_COLORS[number % len(METHOD_COLORS)]
        dash = "dash" if is_default else DASHES[number // len(METHOD_COLORS) % len(DASHES)]
        looks[method] = Style(color, next(symbols), dash)
    return looks


def plain(text: object) -> str:
    """Escape a text for plotly, which reads tags such as <b> and <a>, and entities, in every label."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def canvas(height: int, legend: bool = False) -> Plot:
    """Make an empty plot; the page adds colours, the width, and room for the legend."""
    return Plot(
        height=height,
        margin={"l": 12, "r": 16, "t": 28, "b": 48},
        showlegend=legend,
        legend={
            "orientation": "h",
            "xref": "container",
            "x": 0,
            "xanchor": "left",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "tracegroupgap": 0,
        },
        hovermode="closest",
        font={"size": 13},
        xaxis={"tickangle": 0, "title": {"standoff": 12}},
    )


def by_method(names: Sequence[str], title: str, legend: bool = False, row_height: int = 44) -> Plot:
    """Make a plot with one row per name, the first on top; rows are numbered, since cut names may look the same."""
    figure = canvas(90 + row_height * len(names), legend)
    labels = [plain(name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…") for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=labels,
        range=[len(names) - 0.5, -0.5],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title={"text": title}, tickformat=".3~g", nticks=8, zeroline=False)
    return figure


def error_bar(value: float, low: float | None, high: float | None, color: str) -> dict[str, Any] | None:
    """Write an interval around a value in plotly's terms; None without an interval."""
    if low is None or high is None or math.isnan(low):
        return None
    ends = {"array": [high - value], "arrayminus": [value - low]}
    return {"type": "data", "symmetric": False, **ends, "color": color, "thickness": 2, "width": 5}


def faint(color: str) -> str:
    """Make a colour that lets others through."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def rounded(value: Any) -> str:
    """Write a number with four digits, anything else as it is."""
    return f"{value:.4g}" if is_number(value) or isinstance(value, np.number) else str(value)


def interval_text(low: float | None, high: float | None) -> str:
    """Write an interval, e.g. " [0.7, 0.73]"; empty without one."""
    return "" if low is None or math.isnan(low) or high is None else f" [{low:.4g}, {high:.4g}]"


def words(metric: str) -> str:
    """Write a name as people write it."""
    return metric.replace("_", " ")


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def share(number: int, count: int) -> float:
    """Place one of several evenly between 0 and 1; the only one in the middle."""
    return number / (count - 1) if count > 1 else 0.5


def in_order(contestant: Contestant) -> list[StudyRecord]:
    """List a contestant's studies by seed."""
    return [contestant.studies[seed] for seed in sorted(contestant.studies)]
