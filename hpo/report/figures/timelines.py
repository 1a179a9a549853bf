"""Timelines: a Gantt chart of each study, and the share of its devices in use. Pure."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant
from hpo.analysis.studies import StudyRecord
from hpo.analysis.timeline import IN_A_UNIT, in_use, rows_of, unit_parts
from hpo.report.figures.plots import (
    GREY,
    PART_COLORS,
    Figure,
    LeftOut,
    Plot,
    canvas,
    in_order,
)

SHARE = "a share of a device, on which several trials train at once"
MOST_STUDIES = 12
"""Studies whose timelines are all drawn; of more, the first seed of each method: the page stays small."""
MOST_ROW_NAMES = 16
"""Rows of a timeline that are named; of more, every second, third, ..."""


def timelines(result: Result) -> Figure | LeftOut:
    """Draw a Gantt chart of each study: the trials on its devices, and the parts of their time."""
    name, title = "timelines", "Timelines of the studies"
    benchmark, each = result.benchmark, result.benchmark.devices_per_trial
    studies = {_study_name(c, s): s for c in result.contestants for s in in_order(c) if not s.units.empty}
    parts = {label: unit_parts(study, each) for label, study in studies.items()}
    kept = {label: study for label, study in studies.items() if not parts[label].empty}  # others took no time
    if not kept:
        return LeftOut(name, title, "no study has kept its units and how long they took (`units.csv`)")
    drawn = kept
    if len(kept) > MOST_STUDIES:
        first = {_study_name(c, study) for c in result.contestants for study in in_order(c)[:1]}
        drawn = {label: study for label, study in kept.items() if label in first}
    views = {
        f"{label} ({_useful(study)} useful)": _gantt(parts[label], study, benchmark) for label, study in drawn.items()
    }
    row = "a device" if each == 1 else f"{each:g} devices that train a trial together" if each > 1 else SHARE
    read = (
        f"Above, a row is {row}, and a block a part of a trial's time there; a tick marks where a trial begins or "
        "resumes. Empty is time in which no trial held the row, or that a failed attempt lost. Below, the share of all "
        "devices that train or evaluate. Equal devices are not told apart: rows are packed from the times."
    )
    data = pd.concat([parts[label].assign(study=label) for label in drawn], ignore_index=True)
    left = len(kept) - len(drawn)
    notes = (f"Of {len(kept)} studies the first seed of each method is drawn.",) * bool(left)
    return Figure(name, title, read, data[["study", *data.columns.drop("study")]], views, notes)


def _study_name(contestant: Contestant, study: StudyRecord) -> str:
    return f"{contestant.name} seed {study.seed}"


def _useful(study: StudyRecord) -> str:
    return f"{study.metrics.get('utilization', 0.0):.0%}"


def _gantt(parts: pd.DataFrame, study: StudyRecord, benchmark: Benchmark) -> Plot:
    rows = max(rows_of(study, benchmark.devices_per_trial), int(parts["row"].max()) + 1)
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
    names = [_row_name(row, benchmark) for row in named]
    above = {"domain": [0.38, 1], "range": [rows - 0.5, -0.5], "showgrid": False, "zeroline": False}
    below = {"domain": [0, 0.27], "range": [0, 1.05], "tickformat": ".0%", "nticks": 3, "title": {"text": "in use"}}
    figure.update_layout(
        barmode="overlay",
        xaxis={"title": {"text": "seconds since the study began"}, "range": [0, until], "anchor": "y2"},
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
        "name": "a trial begins or resumes",
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


def _row_name(row: int, benchmark: Benchmark) -> str:
    ranks, sharing = benchmark.ranks_per_trial, benchmark.trials_per_gpu
    if sharing > 1:
        return f"device {row // sharing + 1}, share {row % sharing + 1}"
    first = row * ranks + 1
    return f"device {first}" if ranks == 1 else f"devices {first} to {first + ranks - 1}"


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
