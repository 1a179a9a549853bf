"""The figures of a comparison: each with its data as a frame, a title and a sentence that says how to read it. Pure.

What each is about is fixed by docs/protocol.md. A figure without data is a `LeftOut` with its reason, never an empty
frame.

    for figure in figures.all_of(compare.compare(records.read("nano"))): ...
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.space import Scalar
from benchmarks.spec import Benchmark
from hpo.analysis import curves
from hpo.analysis.compare import SCORE, TEST_SCORES, Contestant, Result
from hpo.analysis.pareto import Point, front
from hpo.analysis.records import DEFAULT, StudyRecord
from hpo.analysis.stats import Interval
from hpo.analysis.timeline import IN_A_UNIT, in_use, unit_parts
from hpo.core.ledger import PARTS
from hpo.report.parallel import parallel_coordinates
from hpo.report.plots import (
    GREY,
    METHOD_COLORS,
    WIDE_RATIO,
    Figure,
    LeftOut,
    Style,
    by_method,
    canvas,
    direction,
    error_bar,
    faint,
    in_order,
    interval_text,
    is_number,
    plain,
    rounded,
    share,
    words,
)
from hpo.report.tables import SHOWN_NAMES

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
MOST_STUDIES = 12
"""Studies whose timelines are all drawn; of more, the first seed of each method: the page stays small."""
MOST_ROW_NAMES = 16
"""Rows of a timeline that are named; of more, every second, third, ..."""
Importance = Mapping[str, tuple[float, float | None, float | None]]
"""By hyperparameter: the value, and the ends of its interval where there is one."""


def all_of(
    result: Result, importance: Importance | str | None = None, importance_notes: Sequence[str] = ()
) -> list[Figure | LeftOut]:
    """All figures of a comparison, in the order of the report.

    Args:
        result: the comparison.
        importance: of the hyperparameters, or why there is none; None leaves that figure away without a word.
        importance_notes: see `hyperparameter_importance`.
    """
    looks = styles(result)
    intervals = {line.name: estimate.interval for line in result.lines if (estimate := line.test[SCORE])}
    return [
        confirmed_scores(result, looks),
        anytime_curves(result, looks),
        quality_against_cost(points_of(result), looks, intervals),
        cost_split(result),
        timelines(result),
        parallel_coordinates(result),
        *([] if importance is None else [hyperparameter_importance(importance, importance_notes)]),
        schedules(result, looks),
        shrinkage(result, looks),
    ]


def styles(result: Result) -> dict[str, Style]:
    """A style for each contestant; the default is grey."""
    looks: dict[str, Style] = {}
    symbols = cycle(SYMBOLS)
    for contestant in result.contestants:
        number = sum(look.color != GREY for look in looks.values())
        is_default = contestant.method == DEFAULT
        color = GREY if is_default else METHOD_COLORS[number % len(METHOD_COLORS)]
        dash = "dash" if is_default else DASHES[number // len(METHOD_COLORS) % len(DASHES)]
        looks[contestant.name] = Style(color, next(symbols), dash)
    return looks


# ---- confirmed scores


def confirmed_scores(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Of each contestant the confirmed score of every block, their interquartile mean and its interval."""
    name, title = "confirmed_scores", "Confirmed scores"
    rows = [row for metric in TEST_SCORES for row in _score_rows(result, metric)]
    if not rows:
        why = f"nothing is confirmed yet; run: python -m hpo confirm --benchmark {result.benchmark.name}"
        return LeftOut(name, title, why)
    data = pd.DataFrame(rows)
    views = {SHOWN_NAMES[metric]: _scores(data[data["metric"] == metric], metric, looks) for metric in TEST_SCORES}
    read = (
        "A small dot is one block (seed): the mean test score of its incumbent, trained again with fresh seeds. The "
        "large mark is the interquartile mean over blocks, the bar its 95 % bootstrap interval, which is too narrow "
        "for few blocks. What found nothing, or diverged, counts as the worst there is. Intervals that overlap show no "
        "difference; the verdict is in the table of pairs."
    )
    return Figure(name, title, read, data, views, _unconfirmed(result))


def _score_rows(result: Result, metric: str) -> list[dict[str, Any]]:
    by_name = {contestant.name: contestant for contestant in result.contestants}
    return [
        {
            "method": line.name,
            "metric": metric,
            "seed": seed,
            "score": score,
            "interquartile_mean": estimate.value,
            "low": estimate.interval.low if estimate.interval else None,
            "high": estimate.interval.high if estimate.interval else None,
        }
        for line in result.lines
        if (estimate := line.test[metric])
        for seed, score in sorted(by_name[line.name].scores(metric, result.benchmark).items())
    ]


def _unconfirmed(result: Result) -> tuple[str, ...]:
    missing = [line.name for line in result.lines if not line.test[SCORE]]
    return (f"Not confirmed: {', '.join(missing)}.",) if missing else ()


def _scores(data: pd.DataFrame, metric: str, looks: Mapping[str, Style]) -> go.Figure:
    methods = list(dict.fromkeys(data["method"]))
    figure = by_method(methods, f"{SHOWN_NAMES[metric]} ({direction(metric)})")
    for place, method in enumerate(methods):
        blocks, look = data[data["method"] == method], looks[method]
        value, low, high = blocks.iloc[0][["interquartile_mean", "low", "high"]]
        figure.add_scatter(
            x=blocks["score"].tolist(),
            y=[place + 0.22] * len(blocks),
            mode="markers",
            marker={"color": look.color, "size": 7, "opacity": 0.6},
            customdata=blocks["seed"].tolist(),
            hovertemplate="seed %{customdata}: %{x:.4g}<extra></extra>",
        )
        figure.add_scatter(
            x=[value],
            y=[place],
            mode="markers",
            marker={"color": look.color, "size": 12, "symbol": look.symbol},
            error_x=error_bar(value, low, high, look.color),
            hovertemplate=f"interquartile mean {rounded(value)}{interval_text(low, high)}<extra></extra>",
        )
    return figure


# ---- anytime curves


def anytime_curves(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """What each method had found by when, over its seeds."""
    name, title, benchmark = "anytime", "Anytime curves", result.benchmark
    bands = {c.name: curves.band(list(c.studies.values()), benchmark) for c in result.contestants if c.studies}
    drawn = {method: band for method, band in bands.items() if not band.empty}
    if not drawn:
        why = "no method has an incumbent at the full resource in all of its studies, or studies did not keep units"
        return LeftOut(name, title, why)
    missing = [method for method in bands if method not in drawn]
    notes = [f"No curve: {', '.join(missing)}; a study of it has no trial at the full resource, or kept no units."]
    single = [method for method, band in drawn.items() if band["low"].isna().all()]
    notes_of_single = [f"Without a band, since one study has no spread: {', '.join(single)}."]
    read = (
        f"The validation {words(benchmark.metric)} ({direction(benchmark.metric)}) of the best trial at the full "
        "resource once so many device-hours were reserved: the interquartile mean over seeds, with its 95 % bootstrap "
        "interval. A curve begins where every study of the method has such a trial, and ends where the first study "
        "ends. These scores chose the trials, so they flatter; only confirmed scores compare methods."
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
) -> go.Figure:
    figure = canvas(400, legend=True)
    figure.update_xaxes(type="log", title_text="device-hours reserved", nticks=6, tickformat=".3~g")
    figure.update_yaxes(title=f"validation {words(benchmark.metric)}", automargin=True)
    for method, band in bands.items():
        look, steps = looks[method], _changes(band)
        shared = {"x": steps["device_hours"].tolist(), "legendgroup": method, "line_shape": "hv"}
        if with_intervals and band["low"].notna().all():
            edge = {**shared, "mode": "lines", "showlegend": False, "hoverinfo": "skip", "line_width": 0}
            figure.add_scatter(y=steps["low"].tolist(), **edge)
            figure.add_scatter(y=steps["high"].tolist(), fill="tonexty", fillcolor=faint(look.color), **edge)
        figure.add_scatter(
            **shared,
            mode="lines+markers",
            y=steps["value"].tolist(),
            name=plain(method),
            line={"color": look.color, "dash": look.dash, "width": 2.5},
            marker={"symbol": look.symbol, "size": 8, "line": {"width": 0}},
            hovertemplate="%{x:.4g} device-hours: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    return figure


def _changes(band: pd.DataFrame) -> pd.DataFrame:
    """A curve's first and last point, and those between at which it steps: the others draw nothing."""
    columns = band[["value", "low", "high"]]
    stays = (columns == columns.shift()) | (columns.isna() & columns.shift().isna())  # a curve may have no band
    keeps = ~stays.all(axis=1)
    keeps.iloc[[0, -1]] = True
    return band[keeps].drop_duplicates()


# ---- quality against cost


def points_of(result: Result) -> list[Point]:
    """Of each confirmed contestant with studies: the confirmed F1, and the mean device-hours of a study."""
    return [
        Point(line.name, estimate.value, line.device_hours)
        for line in result.lines
        if (estimate := line.test[SCORE]) and line.device_hours
    ]


def quality_against_cost(
    points: Sequence[Point], looks: Mapping[str, Style], intervals: Mapping[str, Interval | None]
) -> Figure | LeftOut:
    """Confirmed F1 against mean device-hours, with the Pareto front.

    Args:
        points: finite; quality is F1, cost is device-hours above 0.
        looks: a style for each point.
        intervals: of the quality, where there are any.
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
        "apart. Up and left is better. The step line is the Pareto front: of what no other method reaches at the same "
        "or a lower price. It joins estimates, so a method just below it is not shown to be worse."
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


# ---- cost


def cost_split(result: Result) -> Figure | LeftOut:
    """Mean device-hours of a study by part of the ledger."""
    name, title = "cost_split", "Where the device time went"
    lines = sorted((line for line in result.lines if line.device_hours), key=lambda line: line.device_hours or 0.0)
    if not lines:
        return LeftOut(name, title, "no study has reserved a device")
    data = pd.DataFrame(
        {
            "method": line.name,
            "part": part,
            "device_hours": line.parts.get(part, 0.0),
            "share": line.parts.get(part, 0.0) / (line.device_hours or 1.0),
        }
        for line in lines
        for part in PARTS
    )
    imported = sorted({c.name for c in result.contestants for s in c.studies.values() if _is_total(s)})
    notes = (f"Only the total is known of imported studies, which is shown as training: {', '.join(imported)}.",)
    read = (
        "Mean device-hours that a study reserved, from the first request to the release; the parts add up to the "
        "total at the end of each bar. Only train and evaluate bring the search forward. Cheapest first."
    )
    return Figure(name, title, read, data, {"": _stacked(data)}, notes * bool(imported))


def _is_total(study: StudyRecord) -> bool:
    return study.tags.get("hpo.ledger") == "total"


def _stacked(data: pd.DataFrame) -> go.Figure:
    methods = list(dict.fromkeys(data["method"]))
    figure = by_method(methods, "mean device-hours of a study", legend=True)
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    for part in PARTS:
        rows = data[data["part"] == part]
        figure.add_bar(
            orientation="h",
            x=rows["device_hours"].tolist(),
            y=list(range(len(methods))),
            name=part,
            marker_color=PART_COLORS[part],
            customdata=rows["share"].tolist(),
            hovertemplate="%{customdata:.1%}, %{value:.4g} device-hours<extra>%{fullData.name}</extra>",
        )
    totals = data.groupby("method", sort=False)["device_hours"].sum()
    figure.add_scatter(
        x=totals.tolist(),
        y=list(range(len(methods))),
        mode="text",
        text=[f" {rounded(total)}" for total in totals],
        textposition="middle right",
        showlegend=False,
        hoverinfo="skip",
        cliponaxis=False,
    )
    figure.update_xaxes(range=[0, totals.max() * 1.18], tickformat=".3~g")
    return figure


# ---- timelines


def timelines(result: Result) -> Figure | LeftOut:
    """A Gantt chart of each study: which trial held which devices when, and what it did."""
    name, title = "timelines", "Timelines of the studies"
    kept = {_study_name(c, s): s for c in result.contestants for s in in_order(c) if not s.units.empty}
    if not kept:
        return LeftOut(name, title, "no study has kept its units (`units.csv`)")
    drawn = kept
    if len(kept) > MOST_STUDIES:
        first = {_study_name(c, study) for c in result.contestants for study in in_order(c)[:1]}
        drawn = {label: study for label, study in kept.items() if label in first}
    ranks = result.benchmark.ranks_per_trial
    parts = {label: unit_parts(study, ranks) for label, study in drawn.items()}
    views = {f"{label} ({_useful(study)} useful)": _gantt(parts[label], study, ranks) for label, study in drawn.items()}
    read = (
        f"Above, a row is {'a device' if ranks == 1 else f'{ranks} devices that train a trial together'}, and a block "
        "what a trial did there; a tick marks where a trial begins or goes on. Empty is time in which no trial held "
        "the row, or that a failed attempt lost. Below, the share of all devices that train or evaluate. Which of "
        "equal devices a trial held is not recorded: rows are packed from the times."
    )
    data = pd.concat([frame.assign(study=label) for label, frame in parts.items()], ignore_index=True)
    left = len(kept) - len(drawn)
    notes = (f"Of {len(kept)} studies the first seed of each method is drawn.",) * bool(left)
    return Figure(name, title, read, data[["study", *data.columns.drop("study")]], views, notes)


def _study_name(contestant: Contestant, study: StudyRecord) -> str:
    return f"{contestant.name} seed {study.seed}"


def _useful(study: StudyRecord) -> str:
    return f"{study.metrics.get('utilization', 0.0):.0%}"


def _gantt(parts: pd.DataFrame, study: StudyRecord, ranks_per_trial: int) -> go.Figure:
    rows = max(round(curves.devices(study) / ranks_per_trial), int(parts["row"].max()) + 1)
    until = max(study.metrics.get("wall_seconds", 0.0), float(parts["ended_seconds"].max()))
    row_height = max(8, min(34, 400 // rows))
    figure = canvas(230 + row_height * rows, legend=True)
    for part in IN_A_UNIT:
        mine = parts[parts["part"] == part]
        if len(mine):
            figure.add_bar(**_blocks(mine, part))
    figure.add_scatter(**_begins(parts[parts["begins"]], 0.7 * row_height))
    figure.add_scatter(**_use(in_use(parts, rows, until), until))
    named = list(range(0, rows, math.ceil(rows / MOST_ROW_NAMES)))
    names = [_row_name(row, ranks_per_trial) for row in named]
    above = {"domain": [0.38, 1], "range": [rows - 0.5, -0.5], "showgrid": False, "zeroline": False}
    below = {"domain": [0, 0.27], "range": [0, 1.05], "tickformat": ".0%", "nticks": 3, "title": "in use"}
    figure.update_layout(
        barmode="overlay",
        xaxis={"title": "seconds since the study began", "range": [0, until], "anchor": "y2"},
        yaxis={**above, "tickvals": named, "ticktext": names, "automargin": True},
        yaxis2={**below, "anchor": "x"},
    )
    return figure


def _begins(parts: pd.DataFrame, size: float) -> dict[str, Any]:
    return {
        "x": parts["began_seconds"].tolist(),
        "y": parts["row"].tolist(),
        "mode": "markers",
        "marker": {"symbol": "line-ns", "size": size, "line": {"width": 1.5, "color": GREY}},
        "customdata": parts["trial"].tolist(),
        "hovertemplate": "trial %{customdata}<extra></extra>",
        "name": "a trial begins or goes on",
    }


def _use(share: pd.DataFrame, until_seconds: float) -> dict[str, Any]:
    return {
        "x": [*share["began_seconds"], until_seconds],
        "y": [*share["share"], share["share"].iloc[-1]],
        "mode": "lines",
        "line": {"shape": "hv", "color": PART_COLORS["train"], "width": 1},
        "fill": "tozeroy",
        "yaxis": "y2",
        "showlegend": False,
        "hovertemplate": "%{y:.0%} of devices in use<extra></extra>",
    }


def _row_name(row: int, ranks_per_trial: int) -> str:
    first = row * ranks_per_trial + 1
    return f"device {first}" if ranks_per_trial == 1 else f"devices {first} to {first + ranks_per_trial - 1}"


def _blocks(parts: pd.DataFrame, part: str) -> dict[str, Any]:
    seconds = (parts["ended_seconds"] - parts["began_seconds"]).round(4).tolist()
    return {
        "orientation": "h",
        "base": parts["began_seconds"].tolist(),
        "x": seconds,
        "y": parts["row"].tolist(),
        "width": 0.72,
        "name": part,
        "marker": {"color": PART_COLORS[part], "line": {"width": 0}, "opacity": 0.35 if part == "idle" else 1.0},
        "customdata": list(zip(parts["trial"].tolist(), parts["units"].tolist(), seconds, strict=True)),
        "hovertemplate": "trial %{customdata[0]}, unit %{customdata[1]}: %{customdata[2]:.4g} s"
        "<extra>%{fullData.name}</extra>",
    }


# ---- hyperparameters


def hyperparameter_importance(importance: Importance | str, notes: Sequence[str] = ()) -> Figure | LeftOut:
    """How much of the metric's variation each hyperparameter explains.

    Args:
        importance: by hyperparameter the value, and the ends of its interval where there is one; or why there is none.
        notes: what the reader must know of it, a sentence each.
    """
    name, title = "importance", "Hyperparameter importance"
    if isinstance(importance, str) or not importance:
        return LeftOut(name, title, str(importance or "no hyperparameter was varied"))
    ranked = sorted(importance.items(), key=lambda item: -item[1][0])
    data = pd.DataFrame([(key, *given) for key, given in ranked], columns=["hyperparameter", "value", "low", "high"])
    figure = by_method(data["hyperparameter"].tolist(), "importance")
    places = list(range(len(data)))
    bars = {"orientation": "h", "width": 0.6, "marker_color": METHOD_COLORS[0]}
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


# ---- schedules


def schedules(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """The hyperparameters over the units of those incumbents that more than one configuration trained."""
    name, title = "schedules", "Schedules of populations"
    data = schedule_steps(result)
    if data.empty:
        return LeftOut(name, title, "every incumbent was trained by a single configuration all the way")
    read = (
        "Hyperparameters of the incumbents that populations (PBT, PB2) found, over the units of their training: a line "
        "is a study, in its method's colour, and steps where a member took over another's weights and went on with "
        "other values. Hyperparameters that never change are left out."
    )
    return Figure(name, title, read, data, {"": _steps(data, looks)})


def schedule_steps(result: Result) -> pd.DataFrame:
    """One row a step: `method`, `seed`, `hyperparameter`, `from_unit`, `to_unit`, `value`.

    Of hyperparameters that change in some schedule, in studies whose schedule has more than one step.
    """
    rows = [
        (contestant.name, study.seed, key, since, until, value)
        for contestant in result.contestants
        for study in in_order(contestant)
        if study.schedule and len(study.schedule) > 1
        for since, until, config in _with_ends(study.schedule, result.benchmark.resource.max_units)
        for key, value in config.items()
    ]
    columns = ["method", "seed", "hyperparameter", "from_unit", "to_unit", "value"]
    data = pd.DataFrame(rows, columns=columns, dtype=object)
    studies = data.groupby(["hyperparameter", "method", "seed"], sort=False)["value"].nunique()
    changing = {key for (key, _, _), number in studies.items() if number > 1}
    return data[data["hyperparameter"].isin(changing)].reset_index(drop=True)


def _with_ends(
    schedule: Sequence[tuple[int, Mapping[str, Scalar]]], max_units: int
) -> Iterable[tuple[int, int, Mapping[str, Scalar]]]:
    ends = [since for since, _ in schedule[1:]] + [max_units]
    return [(since, until, config) for (since, config), until in zip(schedule, ends, strict=True)]


def _steps(data: pd.DataFrame, looks: Mapping[str, Style]) -> go.Figure:
    keys = list(dict.fromkeys(data["hyperparameter"]))
    figure = make_subplots(
        rows=len(keys),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.22 / len(keys),
        subplot_titles=[plain(key) for key in keys],
        figure=canvas(60 + 170 * len(keys), legend=True),
    )
    for row, key in enumerate(keys, start=1):
        mine = data[data["hyperparameter"] == key]
        figure.update_yaxes(row=row, col=1, automargin=True, **_value_axis(mine["value"].tolist()))
        codes = {value: place for place, value in enumerate(dict.fromkeys(mine["value"]))}
        for (method, seed), steps in mine.groupby(["method", "seed"], sort=False):
            values = [value if is_number(value) else codes[value] for value in steps["value"]]
            look, is_first = looks[method], not any(trace.legendgroup == method for trace in figure.data)
            figure.add_scatter(
                row=row,
                col=1,
                x=[*steps["from_unit"], steps["to_unit"].iloc[-1]],
                y=[*values, values[-1]],
                mode="lines+markers",
                line={"shape": "hv", "color": look.color, "dash": look.dash, "width": 2},
                marker={"symbol": look.symbol, "size": 7},
                name=plain(method),
                legendgroup=method,
                showlegend=is_first,
                hovertemplate=f"seed {seed}, " + "unit %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
    figure.update_xaxes(row=len(keys), col=1, title="units trained")
    return figure


def _value_axis(values: Sequence[Any]) -> dict[str, Any]:
    if not all(map(is_number, values)):
        names = list(dict.fromkeys(values))
        return {"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names]}
    low, high = min(values), max(values)
    if low > 0 and high > WIDE_RATIO * low:
        return {"type": "log", "nticks": 4, "tickformat": ".2~g"}
    return {"nticks": 5, "tickformat": ".3~g"}


# ---- shrinkage


def shrinkage(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """What became of the incumbents' F1 when they were trained again."""
    name, title = "shrinkage", "From validation to test"
    if not result.shrinkage:
        return LeftOut(name, title, "no incumbent was trained again")
    columns = ["name", "seed", "selected", "validation", "test", "trainings"]
    places = {line.name: place for place, line in enumerate(result.lines)}
    lines = sorted(result.shrinkage, key=lambda line: places[line.name])
    data = pd.DataFrame([{key: getattr(line, key) for key in columns} for line in lines])
    data = data.rename(columns={"name": "method"})
    read = (
        "A line is a study: the open circle is the validation F1 that chose its incumbent, the cross the mean F1 on "
        "validation when it was trained again with fresh seeds, the dot the same on test. A line that runs to the left "
        "is the winner's curse: the best of many looks better than it is."
    )
    return Figure(name, title, read, data, {"": _paired(data, looks)})


MARKS = {"selected": "circle-open", "validation": "x-thin", "test": "circle"}
MEANINGS = {"selected": "as it was chosen", "validation": "again, validation", "test": "again, test"}


def _paired(data: pd.DataFrame, looks: Mapping[str, Style]) -> go.Figure:
    methods = list(dict.fromkeys(data["method"]))
    most = int(data.groupby("method").size().max())
    figure = by_method(methods, "F1", legend=True, row_height=max(34, 12 * most))
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
