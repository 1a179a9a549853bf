"""Quality against cost, with the Pareto front. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from hpo.analysis.compare import Result
from hpo.analysis.contestants import SCORE
from hpo.analysis.estimates import Interval
from hpo.analysis.pareto import Point, front
from hpo.report.figures.plots import (
    GREY,
    WIDE_RATIO,
    Figure,
    LeftOut,
    Style,
    canvas,
    error_bar,
    plain,
)


def points_of(result: Result) -> list[Point]:
    """Return the confirmed F1 and the mean device-hours of each confirmed contestant with studies."""
    return [
        Point(standing.name, standing.score.value, standing.costs.device_hours)
        for standing in result.standings
        if standing.score and standing.costs.device_hours
    ]


def quality_against_cost(
    points: Sequence[Point], looks: Mapping[str, Style], intervals: Mapping[str, Interval | None]
) -> Figure | LeftOut:
    """Draw confirmed F1 against mean device-hours, with the Pareto front.

    Args:
        points: finite; quality is F1, cost is device-hours above 0.
        looks: a style for each point.
        intervals: of the qualities, as far as there are any.
    """
    name, title = "quality_against_cost", "Quality against cost"
    if not points:
        return LeftOut(name, title, "no method has both a confirmed score and studies that cost something")
    best = front(points, mode="max")
    data = pd.DataFrame(
        {
            "method": point.name,
            "device_hours": point.cost,
            SCORE: point.quality,
            "low": interval.low if (interval := intervals.get(point.name)) else None,
            "high": interval.high if interval else None,
            "on_front": point in best,
        }
        for point in points
    )
    read = (
        "Confirmed test F1 (interquartile mean, 95 % interval) against the mean device-hours of a study, confirmation "
        "apart. Up and left is better. The step line is the Pareto front: scores that no other method reaches at the "
        "same or a lower cost. It joins estimates, so a method just below it is not shown to be worse."
    )
    return Figure(name, title, read, data, {"": _pareto(data, best, looks)})


def _pareto(data: pd.DataFrame, best: Sequence[Point], looks: Mapping[str, Style]) -> go.Figure:
    figure = canvas(400, legend=True)
    hours = data["device_hours"]
    kind = "log" if hours.max() > WIDE_RATIO * hours.min() else "linear"
    ends = [0.0, 2 * hours.max()] if hours.max() == hours.min() else None
    figure.update_xaxes(title_text="mean device-hours of a study", type=kind, range=ends, tickformat=".3~g", nticks=6)
    figure.update_yaxes(title="confirmed test F1", automargin=True)
    figure.add_scatter(
        x=[*(point.cost for point in best), hours.max()],
        y=[*(point.quality for point in best), best[-1].quality],
        mode="lines",
        line={"shape": "hv", "color": GREY, "width": 1.5, "dash": "dot"},
        name="Pareto front",
        hoverinfo="skip",
    )
    for row in data.itertuples():
        look = looks[row.method]
        figure.add_scatter(
            x=[row.device_hours],
            y=[getattr(row, SCORE)],
            mode="markers",
            name=plain(row.method),
            marker={"color": look.color, "symbol": look.symbol, "size": 12},
            error_y=error_bar(getattr(row, SCORE), row.low, row.high, look.color),
            hovertemplate="%{x:.4g} device-hours: F1 %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    return figure
