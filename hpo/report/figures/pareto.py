"""Quality against cost, with the Pareto front. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.tasks.task import Metric
from hpo.analysis.compare import Result
from hpo.analysis.pareto import Point, front
from hpo.analysis.statistics.estimates import Interval
from hpo.report.figures.plots import (
    GREY,
    WIDE_RATIO,
    Figure,
    LeftOut,
    Plot,
    Style,
    canvas,
    error_bar,
    plain,
)


def points_of(result: Result) -> list[Point]:
    """Return the confirmed score and the mean device-hours of each confirmed contestant with studies."""
    return [
        Point(standing.name, standing.score.value, standing.costs.device_hours)
        for standing in result.standings
        if standing.score and standing.costs.device_hours
    ]


def quality_against_cost(
    points: Sequence[Point], metric: Metric, looks: Mapping[str, Style], intervals: Mapping[str, Interval | None]
) -> Figure | LeftOut:
    """Draw the confirmed score against mean device-hours, with the Pareto front.

    Args:
        points: finite; quality is the score, cost is device-hours above 0.
        metric: the metric of verdicts, which the quality is.
        looks: a style for each point.
        intervals: of the qualities, as far as there are any.
    """
    name, title = "quality_against_cost", "Quality against cost"
    if not points:
        return LeftOut(name, title, "no method has both a confirmed score and studies that cost something")
    best = front(points, metric.mode)
    data = pd.DataFrame(
        {
            "method": point.name,
            "device_hours": point.cost,
            metric.on_test: point.quality,
            "low": interval.low if (interval := intervals.get(point.name)) else None,
            "high": interval.high if interval else None,
            "on_front": point in best,
        }
        for point in points
    )
    better, beside = ("Up", "below") if metric.higher_is_better else ("Down", "above")
    read = (
        f"Confirmed test {metric.title} (mean, 95 % interval) against the mean device-hours of a study, "
        f"confirmation apart. {better} and left is better. The step line is the Pareto front: scores that no other "
        f"method reaches at the same or a lower cost. It joins estimates, so a method just {beside} it is not shown to "
        "be worse."
    )
    return Figure(name, title, read, data, {"": _pareto(data, best, metric, looks)})


def _pareto(data: pd.DataFrame, best: Sequence[Point], metric: Metric, looks: Mapping[str, Style]) -> Plot:
    figure = canvas(400, legend=True)
    hours = data["device_hours"]
    kind = "log" if hours.max() > WIDE_RATIO * hours.min() else "linear"
    ends = [0.0, 2 * hours.max()] if hours.max() == hours.min() else None
    figure.update_xaxes(
        title={"text": "mean device-hours of a study"}, type=kind, range=ends, tickformat=".3~g", nticks=6
    )
    figure.update_yaxes(title={"text": f"confirmed test {metric.title}"}, automargin=True)
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
            y=[getattr(row, metric.on_test)],
            mode="markers",
            name=plain(row.method),
            marker={"color": look.color, "symbol": look.symbol, "size": 12},
            error_y=error_bar(getattr(row, metric.on_test), row.low, row.high, look.color),
            hovertemplate=f"%{{x:.4g}} device-hours: {metric.title} %{{y:.4g}}<extra>%{{fullData.name}}</extra>",
        )
    return figure
