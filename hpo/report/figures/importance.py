"""Importance of each hyperparameter. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from hpo.report.figures.plots import (
    GREY,
    METHOD_COLORS,
    Figure,
    LeftOut,
    by_method,
)

ImportanceShares = Mapping[str, tuple[float, float | None, float | None]]
"""By hyperparameter: the value, and the ends of its interval if there is one."""


def hyperparameter_importance(importance: ImportanceShares | str, notes: Sequence[str] = ()) -> Figure | LeftOut:
    """Draw the share of the metric's variation that each hyperparameter explains.

    Args:
        importance: by hyperparameter the value, and the ends of its interval if there is one; or the reason why there
            is none.
        notes: caveats for the reader, one sentence each.
    """
    name, title = "importance", "Hyperparameter importance"
    if isinstance(importance, str) or not importance:
        return LeftOut(name, title, str(importance or "no hyperparameter was varied"))
    ranked = sorted(importance.items(), key=lambda item: -item[1][0])
    data = pd.DataFrame([(key, *given) for key, given in ranked], columns=["hyperparameter", "value", "low", "high"])
    figure = by_method(data["hyperparameter"].tolist(), "importance")
    places = list(range(len(data)))
    bars = {"orientation": "h", "width": 0.6, "marker": {"color": METHOD_COLORS[0]}}
    figure.add_bar(x=data["value"].tolist(), y=places, hovertemplate="%{x:.3g}<extra></extra>", **bars)
    for place, row in zip(places, data.itertuples(), strict=True):  # an interval need not contain its value
        if pd.notna(row.low) and pd.notna(row.high):
            ends = {"x": [row.low, row.high], "y": [place, place], "marker": {"symbol": "line-ns-open", "size": 10}}
            figure.add_scatter(**ends, mode="lines+markers", line={"color": GREY, "width": 2}, hoverinfo="x")
    read = (
        "The longer the bar, the more of the metric's variation over the search space this hyperparameter explains; "
        "the line is its interval. It says what to search first, not which value is best."
    )
    return Figure(name, title, read, data, {"": figure}, tuple(notes))
