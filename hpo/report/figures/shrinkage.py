"""Shrinkage: the score that chose each incumbent, and its score when it was trained again. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.tasks.task import Metric
from hpo.analysis.compare import Result
from hpo.report.figures.plots import (
    GREY,
    Figure,
    LeftOut,
    Plot,
    Style,
    by_method,
    share,
)

MARKS = {"selected": "circle-open", "validation": "x-thin", "test": "circle"}
MEANINGS = {"selected": "as it was chosen", "validation": "again, validation", "test": "again, test"}


def shrinkage(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the score that chose each incumbent beside its score when it was trained again."""
    name, title = "shrinkage", "From validation to test"
    if not result.shrinkage:
        return LeftOut(name, title, "no incumbent was trained again")
    columns = ["name", "seed", "selected", "validation", "test", "trainings"]
    places = {standing.name: place for place, standing in enumerate(result.standings)}
    ordered = sorted(result.shrinkage, key=lambda one: places[one.name])
    data = pd.DataFrame([{key: getattr(one, key) for key in columns} for one in ordered])
    data = data.rename(columns={"name": "method"})
    metric = result.benchmark.verdict_metric
    worse = "left" if metric.higher_is_better else "right"
    read = (
        f"A line is a study: the open circle is the validation {metric.title} that chose its incumbent, the cross the "
        f"mean {metric.title} on validation when it was trained again with fresh seeds, the dot the same on test. A "
        f"line that runs to the {worse} is the winner's curse: the best of many looks better than it is."
    )
    return Figure(name, title, read, data, {"": _paired(data, metric, looks)})


def _paired(data: pd.DataFrame, metric: Metric, looks: Mapping[str, Style]) -> Plot:
    methods = list(dict.fromkeys(data["method"]))
    most = int(data.groupby("method").size().max())
    figure = by_method(methods, metric.title, legend=True, row_height=max(34, 12 * most))
    places = data["method"].map(methods.index) + data.groupby("method").cumcount().map(
        lambda number: 0.6 * (share(number, most) - 0.5) if most > 1 else 0.0
    )
    colors = [looks[method].color for method in data["method"]]
    for place, color, row in zip(places, colors, data.itertuples(), strict=True):
        ends = {"x": [row.selected, row.test], "y": [place, place]}
        figure.add_scatter(
            **ends, mode="lines", line={"color": color, "width": 1.5}, showlegend=False, hoverinfo="skip"
        )
    for key, symbol in MARKS.items():
        figure.add_scatter(
            x=data[key].tolist(),
            y=places.tolist(),
            mode="markers",
            showlegend=False,
            customdata=data["seed"].tolist(),
            marker={"color": colors, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colors}},
            hovertemplate=f"seed %{{customdata}}, {MEANINGS[key]}: %{{x:.4g}}<extra></extra>",
        )
        legend = {"color": GREY, "symbol": symbol, "size": 9, "line": {"width": 2, "color": GREY}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=legend, name=MEANINGS[key])
    return figure
