"""Anytime curves: the best validation score of each method over the device-hours it spent. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.analysis.over_cost import curves
from hpo.analysis.statistics.estimates import MIN_BLOCKS
from hpo.report.figures.plots import (
    Figure,
    LeftOut,
    Plot,
    Style,
    canvas,
    faint,
    plain,
    words,
)


def anytime_curves(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the best validation score of each method over the device-hours spent, over its seeds."""
    name, title, benchmark = "anytime", "Anytime curves", result.benchmark
    bands = {c.name: curves.band(list(c.studies.values()), benchmark) for c in result.contestants if c.studies}
    drawn = {method: band for method, band in bands.items() if not band.empty}
    if not drawn:
        why = "no method has an incumbent at the full resource in all of its studies, or studies did not keep units"
        return LeftOut(name, title, why)
    missing = [method for method in bands if method not in drawn]
    notes = [f"No curve: {', '.join(missing)}; a study of it has no trial at the full resource, or kept no units."]
    single = [method for method, band in drawn.items() if band["low"].isna().all()]
    notes_of_single = [f"Without a band, which takes {MIN_BLOCKS} seeds: {', '.join(single)}."]
    read = (
        f"The validation {words(benchmark.metric)} ({benchmark.ranking_metric.direction}) of the best trial at the "
        "full resource once so many device-hours were reserved: the mean over seeds, with its 95 % "
        "interval (Student's t, from 5 seeds on). A curve begins where every study of the method has such a trial, "
        "and ends where the first study ends. These scores chose the trials, so they flatter; only confirmed scores "
        "compare methods."
    )
    data = pd.concat([band.assign(method=method) for method, band in drawn.items()])
    data = data[["method", "device_hours", "value", "low", "high"]].reset_index(drop=True)
    shown = tuple(notes * bool(missing) + notes_of_single * bool(single))
    views = {"with intervals": _curves(drawn, benchmark, looks), "lines only": _curves(drawn, benchmark, looks, False)}
    if len(single) == len(drawn):
        views = {"": views["lines only"]}
    return Figure(name, title, read, data, views, shown)


def _curves(
    bands: Mapping[str, pd.DataFrame], benchmark: Benchmark, looks: Mapping[str, Style], with_intervals: bool = True
) -> Plot:
    figure = canvas(400, legend=True)
    figure.update_xaxes(type="log", title={"text": "device-hours reserved"}, nticks=6, tickformat=".3~g")
    figure.update_yaxes(title={"text": f"validation {words(benchmark.metric)}"}, automargin=True)
    for method, band in bands.items():
        look, steps = looks[method], _changes(band)
        shared = {"x": steps["device_hours"].tolist(), "legendgroup": method}
        if with_intervals and band["low"].notna().all():
            edge = {
                **shared,
                "mode": "lines",
                "showlegend": False,
                "hoverinfo": "skip",
                "line": {"shape": "hv", "width": 0},
            }
            figure.add_scatter(y=steps["low"].tolist(), **edge)
            figure.add_scatter(y=steps["high"].tolist(), fill="tonexty", fillcolor=faint(look.color), **edge)
        figure.add_scatter(
            **shared,
            mode="lines+markers",
            y=steps["value"].tolist(),
            name=plain(method),
            line={"shape": "hv", "color": look.color, "dash": look.dash, "width": 2.5},
            marker={"symbol": look.symbol, "size": 8, "line": {"width": 0}},
            hovertemplate="%{x:.4g} device-hours: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    return figure


def _changes(band: pd.DataFrame) -> pd.DataFrame:
    """Keep a curve's first and last point, and those between at which it steps: the others draw nothing."""
    columns = band[["value", "low", "high"]]
    stays = (columns == columns.shift()) | (columns.isna() & columns.shift().isna())  # a curve may have no band
    keeps = ~stays.all(axis=1)
    keeps.iloc[[0, -1]] = True
    return band[keeps].drop_duplicates()
