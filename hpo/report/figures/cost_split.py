"""Device time of each method by part of the ledger. Pure."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from hpo.analysis.compare import Result
from hpo.analysis.records import StudyRecord
from hpo.core.ledger import PARTS
from hpo.report.figures.plots import (
    PART_COLORS,
    Figure,
    LeftOut,
    by_method,
    rounded,
)


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
