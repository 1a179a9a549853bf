"""Figures of a comparison over tasks: aggregates, profiles, mean ranks, practical equality. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from hpo.analysis.across.comparison import CREDIBLE, AcrossTasks, Outcome
from hpo.analysis.statistics.aggregates import Aggregate, PerformanceProfile, profile
from hpo.analysis.statistics.estimates import Estimate
from hpo.report.across.sentences import intervals
from hpo.report.figures.critical_difference import diagram_of
from hpo.report.figures.plots import (
    GREY,
    Figure,
    LeftOut,
    Plot,
    Style,
    by_method,
    canvas,
    error_bar,
    faint,
    interval_text,
    plain,
    styles_of,
)
from hpo.report.tables import ends_of

BOUNDS = 201
"""Points of a profile."""
SHOWN_SHARE = 0.95
"""Share of all runs that a profile's axis reaches; it shows at least `LEAST_BOUND`."""
LEAST_BOUND = 1.5
OUTCOME_COLORS: Mapping[Outcome, str] = {"better": "#0072b2", "practically equal": "#a5abb1", "worse": "#d55e00"}
MEDIAN_LINE = {
    "type": "line",
    "x0": 1,
    "x1": 1,
    "yref": "paper",
    "y0": 0,
    "y1": 1,
    "line": {"color": GREY, "width": 1, "dash": "dot"},
}
"""Line at the median of random search."""
TOO_FEW = "there are too few tasks for a statement across them"


def all_of(found: AcrossTasks) -> list[Figure | LeftOut]:
    """Draw all figures, in the order of the report."""
    looks = styles_of({method: method in found.untuned for method in found.regrets})
    return [
        aggregate_regrets(found, looks),
        performance_profiles(found, looks),
        diagram_of(found.ranking, looks, "mean regret of a task", "task")
        if found.has_statement
        else LeftOut("critical_difference", "Critical differences", TOO_FEW),
        practical_equality(found),
    ]


# ---- aggregates


def aggregate_regrets(found: AcrossTasks, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the mean and the interquartile mean of each method, with both intervals."""
    name, title = "aggregate_regrets", "Regret over all tasks"
    if not found.aggregates:
        return LeftOut(name, title, TOO_FEW)
    kinds: dict[str, Callable[[Aggregate], tuple[Estimate, Estimate]]] = {
        "mean": lambda own: (own.mean, own.mean_over_tasks),
        "interquartile mean": lambda own: (own.interquartile_mean, own.interquartile_mean_over_tasks),
    }
    rows = [
        {
            "method": method,
            "aggregate": kind,
            **ends_of("regret", estimates(own)[0]),
            "low_over_tasks": ends_of("", estimates(own)[1])["_low"],
            "high_over_tasks": ends_of("", estimates(own)[1])["_high"],
        }
        for kind, estimates in kinds.items()
        for method, own in found.aggregates.items()
    ]
    data = pd.DataFrame(rows)
    read = (
        "Normalised regret, less is better: 0 is the best known score of each task, 1 the median of random search "
        "there. All tasks count the same. The interquartile mean leaves out the lowest and the highest quarter of "
        f"runs. Thick bars: other seeds on these tasks. Thin bars: other tasks too. {intervals(found)}"
    )
    views = {kind: _dots(data[data["aggregate"] == kind], looks) for kind in kinds}
    return Figure(name, title, read, data, views)


def _dots(data: pd.DataFrame, looks: Mapping[str, Style]) -> Plot:
    """Draw a mark and two bars per method, and a line at random search's median."""
    figure = by_method(list(data["method"]), "normalised regret")
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(shapes=[MEDIAN_LINE])
    for row, one in enumerate(data.to_dict("records")):
        look, value = looks[one["method"]], one["regret"]
        ends = [(one["low_over_tasks"], one["high_over_tasks"], 2), (one["regret_low"], one["regret_high"], 6)]
        for low, high, width in ends:
            bar = error_bar(value, low, high, look.color) if low is not None else None
            figure.add_scatter(
                x=[value],
                y=[row],
                mode="markers",
                marker={"color": look.color, "size": 11, "symbol": look.symbol},
                error_x=bar and {**bar, "thickness": width, "width": 0},
                hovertemplate=f"{value:.3f}{interval_text(low, high)}<extra></extra>",
                showlegend=False,
            )
    return figure


# ---- profiles


def performance_profiles(found: AcrossTasks, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the share of each method's runs whose regret is at most a bound, over the bound."""
    name, title = "performance_profiles", "Performance profiles"
    if not found.has_statement:
        return LeftOut(name, title, TOO_FEW)
    runs = np.concatenate([own for method in found.regrets for own in found.runs(method)])
    bounds = np.linspace(0, max(LEAST_BOUND, float(np.quantile(runs, SHOWN_SHARE))), BOUNDS)
    profiles = {method: profile(found.runs(method), bounds) for method in found.regrets}
    read = (
        "A line is the share of a method's runs, all tasks alike, whose normalised regret is at most the bound. Higher "
        "is better. At 1 it is the share that is as good as the median of random search. A band is the pointwise 95 % "
        "interval over other seeds on these tasks, and where lines cross, no method is better throughout."
    )
    beyond = float(np.mean(runs > bounds[-1]))
    notes = (f"{beyond:.1%} of all runs have a regret beyond the axis, up to {runs.max():.3g}.",) if beyond else ()
    data = pd.concat([_profile_rows(method, own) for method, own in profiles.items()], ignore_index=True)
    return Figure(name, title, read, data, {"": _lines(profiles, looks)}, notes)


def _profile_rows(method: str, own: PerformanceProfile) -> pd.DataFrame:
    ends = {"low": own.low, "high": own.high}
    return pd.DataFrame({"method": method, "bound": own.bounds, "share": own.shares, **ends})


def _lines(profiles: Mapping[str, PerformanceProfile], looks: Mapping[str, Style]) -> Plot:
    figure = canvas(420, legend=True)
    figure.update_xaxes(title={"text": "normalised regret"}, rangemode="tozero", nticks=8, zeroline=False)
    figure.update_yaxes(title={"text": "share of runs"}, range=[-0.02, 1.02], tickformat=".0%", automargin=True)
    figure.update_layout(shapes=[MEDIAN_LINE])
    for method, own in profiles.items():
        look, bounds = looks[method], own.bounds.tolist()
        if own.low is not None and own.high is not None:
            figure.add_scatter(
                x=[*bounds, *reversed(bounds)],
                y=[*own.high.tolist(), *reversed(own.low.tolist())],
                fill="toself",
                fillcolor=faint(look.color),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=method,
                showlegend=False,
            )
        figure.add_scatter(
            x=bounds,
            y=own.shares.tolist(),
            mode="lines",
            name=plain(method),
            legendgroup=method,
            line={"shape": "hv", "color": look.color, "dash": look.dash, "width": 2.5},
            hovertemplate="regret at most %{x:.2f}: %{y:.0%}<extra>%{fullData.name}</extra>",
        )
    return figure


# ---- practical equality


def practical_equality(found: AcrossTasks) -> Figure | LeftOut:
    """Draw the three probabilities of each pair as parts of a bar."""
    name, title = "practical_equality", "A further task"
    if not found.pairs:
        return LeftOut(name, title, TOO_FEW if not found.has_statement else "it takes two methods that search")
    read = (
        f"A bar is what the model expects of a further task like these {len(found.tasks)}: the probability that the "
        "first method is better than the second, practically equal (within the margin of the task's metric), or worse. "
        f"A statement is made from {CREDIBLE:g} on, or more if there are several pairs. Few tasks leave much open, "
        "however many seeds each has."
    )
    rows = [
        {"a": pair.a, "b": pair.b, "outcome": outcome, "probability": chance}
        for pair in found.pairs
        for outcome, chance in pair.chances.items()
    ]
    figure = by_method([f"{pair.a} / {pair.b}" for pair in found.pairs], "probability", legend=True, row_height=34)
    figure.update_xaxes(range=[0, 1.01], tickformat=".0%", dtick=0.25)
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    for outcome, color in OUTCOME_COLORS.items():
        figure.add_bar(
            x=[pair.chances[outcome] for pair in found.pairs],
            y=list(range(len(found.pairs))),
            orientation="h",
            name=outcome,
            marker={"color": color},
            hovertemplate=f"{outcome}: %{{x:.3f}}<extra></extra>",
        )
    return Figure(name, title, read, pd.DataFrame(rows), {"": figure})
