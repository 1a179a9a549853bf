"""Schedules: the hyperparameters of incumbents that several configurations trained. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.space import Scalar
from hpo.analysis.compare import Result
from hpo.report.figures.plots import (
    WIDE_RATIO,
    Figure,
    LeftOut,
    Plot,
    Style,
    canvas,
    in_order,
    is_number,
    plain,
)


def schedules(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the hyperparameters over the units of incumbents that more than one configuration trained."""
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
    """List one row per step: `method`, `seed`, `hyperparameter`, `from_unit`, `to_unit`, `value`.

    It has the hyperparameters that change in some schedule, of studies whose schedule has more than one step.
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


def _steps(data: pd.DataFrame, looks: Mapping[str, Style]) -> Plot:
    keys = list(dict.fromkeys(data["hyperparameter"]))
    figure = _canvas(keys)
    for axis, key in zip(_axes(len(keys)), keys, strict=True):
        mine = data[data["hyperparameter"] == key]
        figure.update_layout(**{f"yaxis{axis}": {"automargin": True, **_value_axis(mine["value"].tolist())}})
        codes = {value: place for place, value in enumerate(dict.fromkeys(mine["value"]))}
        for (method, seed), steps in mine.groupby(["method", "seed"], sort=False):
            values = [value if is_number(value) else codes[value] for value in steps["value"]]
            look, is_first = looks[method], not any(trace["legendgroup"] == method for trace in figure.data)
            figure.add_scatter(
                xaxis=f"x{axis}",
                yaxis=f"y{axis}",
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
    return figure


def _canvas(keys: Sequence[str]) -> Plot:
    """Make one empty plot per hyperparameter, below each other, with one x axis that all share."""
    figure, axes = canvas(60 + 170 * len(keys), legend=True), _axes(len(keys))
    gap, last = 0.22 / len(keys), axes[-1]
    height = (1 - gap * (len(keys) - 1)) / len(keys)
    for row, (axis, key) in enumerate(zip(axes, keys, strict=True)):
        top = 1 - row * (height + gap)
        shared = (
            {"title": {"text": "units trained"}} if axis == last else {"matches": f"x{last}", "showticklabels": False}
        )
        x, y = {"anchor": f"y{axis}", **shared}, {"anchor": f"x{axis}", "domain": [top - height, top]}
        figure.update_layout(**{f"xaxis{axis}": x, f"yaxis{axis}": y})
        figure.layout.setdefault("annotations", []).append(_heading(plain(key), top))
    return figure


def _axes(number: int) -> list[str]:
    """List the ends of plotly's names of axes: the first has none."""
    return ["", *map(str, range(2, number + 1))]


def _heading(text: str, height: float) -> dict[str, Any]:
    place = {"x": 0.5, "xref": "paper", "xanchor": "center", "y": height, "yref": "paper", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "font": {"size": 16}, **place}


def _value_axis(values: Sequence[Any]) -> dict[str, Any]:
    if not all(map(is_number, values)):
        names = list(dict.fromkeys(values))
        return {"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names]}
    low, high = min(values), max(values)
    if low > 0 and high > WIDE_RATIO * low:
        return {"type": "log", "nticks": 4, "tickformat": ".2~g"}
    return {"nticks": 5, "tickformat": ".3~g"}
