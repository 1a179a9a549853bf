"""Trials as lines through the search space: parallel coordinates, drawn as paths in SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.space import Choice, Domain, LogUniform, Scalar
from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.report.figures.plots import (
    GREY,
    WIDE_RATIO,
    Figure,
    LeftOut,
    Plot,
    canvas,
    in_order,
    plain,
    rounded,
    share,
    words,
)

RANK_COLORS = ("#0072b2", "#4b9ccb", "#8c8c8c", "#d08a45", "#b84a00")
"""Colours of fifths of the trials, the best first."""
MOST_LINES = 600
"""Trials that a plot draws; of more, so many drawn by lot: the page stays small, and the lines apart."""


def parallel_coordinates(result: Result) -> Figure | LeftOut:
    """Draw all trials: the hyperparameters that each started with, and its last score."""
    name, title, benchmark = "parallel_coordinates", "Trials in the search space", result.benchmark
    data = trials_of(result)
    if data.empty:
        return LeftOut(name, title, "no trial is stored")
    axes = {key: _axis(key, benchmark.space.get(key), data[key]) for key in (*benchmark.space, benchmark.metric)}
    views = {"all methods": _parallel(_thinned(data), axes, benchmark)}
    methods = list(dict.fromkeys(data["method"]))
    views |= {method: _parallel(_thinned(data[data["method"] == method]), axes, benchmark) for method in methods}
    notes = (f"Of {len(data)} trials {MOST_LINES} are drawn, by lot; the file has all.",) * (len(data) > MOST_LINES)
    read = (
        "Each line is a trial; it crosses an axis at the value of that hyperparameter, and the last axis at its last "
        f"validation {words(benchmark.metric)} ({benchmark.ranking_metric.direction}), which trials that were stopped "
        "early have at a lower fidelity. Colour: the fifths of the trials shown, best to worst. Blue lines that bundle "
        "on an axis tell where good values lie. Members of populations are shown with the values that they started "
        "with."
    )
    return Figure(name, title, read, data, views, notes, min_width=105 * len(axes))


def _thinned(data: pd.DataFrame) -> pd.DataFrame:
    return data.sample(MOST_LINES, random_state=0).sort_index() if len(data) > MOST_LINES else data


def trials_of(result: Result) -> pd.DataFrame:
    """List one row per trial: `method`, `seed`, `trial`, `outcome`, `units`, the search space, the metric.

    Hyperparameters that a study has not stored are empty, and so is the metric of trials that have none.
    """
    benchmark = result.benchmark
    names = ["trial", "outcome", "units", *benchmark.space, benchmark.metric]
    frames = [
        study.trials.reindex(columns=names).assign(method=contestant.name, seed=study.seed)
        for contestant in result.contestants
        for study in in_order(contestant)
        if len(study.trials)
    ]
    if not frames:
        return pd.DataFrame(columns=["method", "seed", *names])
    return pd.concat(frames, ignore_index=True)[["method", "seed", *names]]


@dataclass(frozen=True)
class _Axis:
    """A vertical axis from 0 to 1: `low` and `high` of its (perhaps logarithmic) scale, or its `values` in order."""

    label: str
    ticks: list[tuple[float, str]]
    values: tuple[Scalar, ...] | None = None
    is_log: bool = False
    low: float = 0.0
    high: float = 1.0

    def place(self, value: Any) -> float | None:
        """Place a value on the axis; None if it is missing or infinite."""
        if self.values is not None:
            return next((share(i, len(self.values)) for i, v in enumerate(self.values) if v == value), None)
        number = float(value)
        if not math.isfinite(number) or (self.is_log and number <= 0):
            return None
        return (self.scaled(number) - self.low) / (self.high - self.low)

    def scaled(self, number: float) -> float:
        return math.log10(number) if self.is_log else number


def _axis(name: str, domain: Domain | None, values: pd.Series[Any]) -> _Axis:
    """Make the axis of a hyperparameter, or without a domain that of a metric."""
    if isinstance(domain, Choice):
        ticks = [(share(i, len(domain.values)), rounded(value)) for i, value in enumerate(domain.values)]
        return _Axis(name, ticks, values=domain.values)
    finite = values[np.isfinite(pd.to_numeric(values))].astype(float)
    ends = [finite.min(), finite.max()] if len(finite) else [0.0, 1.0]
    if domain is not None:  # imported studies may lie outside
        ends = [
            min(domain.low, ends[0]) if len(finite) else domain.low,
            max(domain.high, ends[1]) if len(finite) else domain.high,
        ]
    is_log = isinstance(domain, LogUniform) or (domain is None and 0 < WIDE_RATIO * ends[0] < ends[1])
    low, high = (math.log10(end) if is_log else end for end in ends)
    high = high if high > low else low + 1.0
    marks = _marks(low, high, is_log)
    return _Axis(
        name,
        [((mark - low) / (high - low), rounded(10**mark if is_log else mark)) for mark in marks],
        None,
        is_log,
        low,
        high,
    )


def _marks(low: float, high: float, is_log: bool) -> list[float]:
    """Choose the values to write: the ends and some between, on a logarithmic scale whole powers of ten."""
    if not is_log:
        return [low + step * (high - low) / 4 for step in range(5)]
    inner = [float(power) for power in range(math.ceil(low), math.floor(high) + 1)]
    room = 0.08 * (high - low)
    return [low, *(power for power in inner if low + room < power < high - room), high]


def _parallel(data: pd.DataFrame, axes: Mapping[str, _Axis], benchmark: Benchmark) -> Plot:
    figure = canvas(430, legend=True)
    scores = pd.to_numeric(data[benchmark.metric]).replace([np.inf, -np.inf], np.nan)
    ranks = scores.rank(method="first", pct=True, ascending=benchmark.mode == "min")
    groups = np.ceil(ranks * len(RANK_COLORS)).fillna(0).astype(int)  # 0: no score
    for group in (0, *range(len(RANK_COLORS), 0, -1)):  # the best on top
        mine = data[groups == group]
        if len(mine):
            figure.add_scatter(**_lines(mine, axes), **_rank_look(group, scores[groups == group]))
    marks = [_annotation(x, tick, text) for x, axis in enumerate(axes.values()) for tick, text in axis.ticks]
    heads = [_annotation(x, 1.1, _broken(axis.label), bold=True) for x, axis in enumerate(axes.values())]
    figure.update_layout(
        xaxis={
            "range": [-0.45, len(axes) - 0.55],
            "visible": False,
        },
        yaxis={"range": [-0.05, 1.25], "visible": False},
        shapes=[_upright(x) for x in range(len(axes))],
        annotations=[*marks, *heads],
        margin={"l": 4, "r": 4, "b": 8},
    )
    return figure


def _upright(x: int) -> dict[str, Any]:
    return {"type": "line", "layer": "below", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1}}


def _lines(data: pd.DataFrame, axes: Mapping[str, _Axis]) -> dict[str, Any]:
    """Draw many lines as one path, with gaps between them; a missing value leaves a gap too."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    for row in data.to_dict("records"):
        text = f"{plain(row['method'])} seed {row['seed']}, trial {row['trial']}: {plain(row['outcome'])}"
        for x, (name, axis) in enumerate(axes.items()):
            place = axis.place(row[name])
            xs.append(x)
            ys.append(None if place is None else round(place, 4))
            texts.append(f"{text}<br>{plain(name)} = {plain(rounded(row[name]))}")
        xs.append(None)
        ys.append(None)
        texts.append("")
    return {"x": xs, "y": ys, "hovertext": texts, "hoverinfo": "text", "connectgaps": False}


def _rank_look(group: int, scores: pd.Series[float]) -> dict[str, Any]:
    if group == 0:
        line = {"color": GREY, "width": 1, "dash": "dot"}
        return {"name": "no finite score", "mode": "lines+markers", "line": line, "marker": {"size": 3}}
    words = {1: "best fifth: ", len(RANK_COLORS): "worst fifth: "}.get(group, "")
    return {
        "name": f"{words}{rounded(scores.min())} to {rounded(scores.max())}",
        "mode": "lines+markers",
        "line": {"color": RANK_COLORS[group - 1], "width": 2.2 if group == 1 else 1.3},
        "marker": {"size": 4},
        "opacity": 0.95 if group == 1 else 0.75,
        "legendrank": 1000 + group,
    }


def _annotation(x: float, y: float, text: str, bold: bool = False) -> dict[str, Any]:
    """Write a label beside an axis; the page gives it the page's background, so that it can be read upon lines."""
    safe = _with_breaks(text)
    size = {"size": 12 if bold else 10}
    anchor = {"xanchor": "center", "yanchor": "bottom"} if bold else {"xanchor": "left", "xshift": 4}
    text = f"<b>{safe}</b>" if bold else safe
    return {"x": x, "y": y - 0.03 * bold, "text": text, "showarrow": False, "font": size, "borderpad": 1, **anchor}


def _with_breaks(text: str) -> str:
    return plain(text).replace("\n", "<br>")


def _broken(name: str) -> str:
    """Break a long name after underscores."""
    lines, line = [], ""
    for word in name.replace("_", "_\n").split("\n"):
        if line and len(line) + len(word) > 13:
            lines.append(line)
            line = ""
        line += word
    return "\n".join([*lines, line])
