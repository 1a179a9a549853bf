"""Random search as a curve over its budget, with exact simultaneous bands, and each contestant beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.spec import Benchmark
from hpo.analysis.beside_random.worth import Beside, beside_random, random_search
from hpo.analysis.compare import Result
from hpo.analysis.statistics.random_search import MIN_DRAWS
from hpo.report.figures.plots import GREY, Figure, LeftOut, Plot, Style, canvas, faint, plain, words
from hpo.report.sentences import trainings_in_words

ROOM = 1.5
"""Length of the curve, divided by the largest budget."""


def random_search_curve(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the median of random search over its number of trainings, and the incumbents of each contestant."""
    name, title, benchmark = "random_search", "Beside random search", result.benchmark
    found = random_search(result.contestants, benchmark)
    rows = beside_random(result.contestants, benchmark)
    if found is None or not rows:
        return LeftOut(name, title, f"it takes {MIN_DRAWS} random trainings to the full resource")
    curve = found.curve(math.ceil(ROOM * max(one.budget for one in rows)))
    read = (
        f"The line is the best validation {words(benchmark.metric)} ({benchmark.ranking_metric.direction}) of so many "
        f"random trainings, in the median, and the grey area its band: with 95 % confidence the whole true curve lies "
        f"in it. Both are from {found.draws} trainings of random search. A mark is the median incumbent of a method at "
        "its budget; random search is as good where the line has the mark's height. These scores chose the incumbents, "
        "for random search as for the others."
    )
    bounded = curve.assign(method="").replace([-math.inf, math.inf], math.nan)
    data = pd.concat([bounded, _marks(rows)])[["method", *curve.columns, "worth", "worth_low", "worth_high"]]
    told = "; ".join(f"{one.name}: {trainings_in_words(one.worth)}" for one in rows)
    notes = (f"Worth in random trainings, with the band's ends: {told}.",)
    return Figure(name, title, read, data, {"": _drawn(curve, rows, benchmark, looks)}, notes)


def _marks(rows: Sequence[Beside]) -> pd.DataFrame:
    """Lay out one row per contestant: budget, median incumbent, and its worth; ends without a bound are empty."""
    found = [
        {
            "method": one.name,
            "trainings": one.budget,
            "value": one.value,
            "worth": one.worth.trainings,
            "worth_low": one.worth.low,
            "worth_high": one.worth.high,
        }
        for one in rows
    ]
    return pd.DataFrame(found).replace([math.inf], math.nan)


def _heights(curve: pd.DataFrame, edges: pd.DataFrame, rows: Sequence[Beside]) -> tuple[float, float]:
    """Return the ends of the axis, for all marks and the curve from a third of the least budget on; it begins steep."""
    late = curve["trainings"] >= min(one.budget for one in rows) / 3
    shown = [*edges[late].stack(), *curve["value"][late], *(one.value for one in rows)]
    room = 0.08 * (max(shown) - min(shown) or 1.0)
    return min(shown) - room, max(shown) + room


def _drawn(curve: pd.DataFrame, rows: Sequence[Beside], benchmark: Benchmark, looks: Mapping[str, Style]) -> Plot:
    figure = canvas(400, legend=True)
    figure.update_xaxes(title={"text": "full trainings"}, tickformat="d", nticks=8, rangemode="tozero")
    figure.update_yaxes(title={"text": f"validation {words(benchmark.metric)}"}, automargin=True)
    edges = curve[["low", "high"]].replace([-math.inf, math.inf], math.nan)
    lowest, highest = _heights(curve, edges, rows)
    figure.update_yaxes(range=[lowest, highest])
    x = curve["trainings"].tolist()
    edge = {"x": x, "mode": "lines", "showlegend": False, "hoverinfo": "skip", "line": {"width": 0}}
    figure.add_scatter(y=edges["low"].fillna(lowest).tolist(), **edge)
    figure.add_scatter(y=edges["high"].fillna(highest).tolist(), fill="tonexty", fillcolor=faint(GREY), **edge)
    figure.add_scatter(
        x=x,
        y=curve["value"].tolist(),
        mode="lines",
        name="random search, median",
        line={"color": GREY, "width": 2.5},
        hovertemplate="%{x} trainings: %{y:.4g}<extra>random search</extra>",
    )
    for one in rows:
        look = looks[one.name]
        figure.add_scatter(
            x=[one.budget],
            y=[one.value],
            mode="markers",
            name=plain(one.name),
            marker={"color": look.color, "size": 11, "symbol": look.symbol},
            hovertemplate=f"{one.budget} trainings: %{{y:.4g}}, worth {trainings_in_words(one.worth)}"
            "<extra>%{fullData.name}</extra>",
        )
    return figure
