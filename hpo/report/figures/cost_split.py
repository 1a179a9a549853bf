"""Device time of each method by part of the ledger. Pure."""

from __future__ import annotations

import pandas as pd

from hpo.analysis.compare import Result
from hpo.analysis.studies import StudyRecord
from hpo.core.ledger import PARTS
from hpo.report.figures.plots import (
    PART_COLORS,
    Figure,
    LeftOut,
    Plot,
    by_method,
    rounded,
)


def cost_split(result: Result) -> Figure | LeftOut:
    """Draw the mean device-hours of a study by part of the ledger."""
    name, title = "cost_split", "Where the device time went"
    costs = {one.name: one.costs for one in result.standings if one.costs.device_hours}
    if not costs:
        return LeftOut(name, title, "no study has reserved a device")
    data = pd.DataFrame(
        {
            "method": name,
            "part": part,
            "device_hours": cost.parts.get(part, 0.0),
            "share": cost.parts.get(part, 0.0) / (cost.device_hours or 1.0),
        }
        for name, cost in sorted(costs.items(), key=lambda entry: entry[1].device_hours or 0.0)
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


def _stacked(data: pd.DataFrame) -> Plot:
    methods = list(dict.fromkeys(data["method"]))
    figure = by_method(methods, "mean device-hours of a study", legend=True)
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    for part in PARTS:
        rows = data[data["part"] == part]
        figure.add_bar(
            orientation="h",
            x=rows["device_hours"].tolist(),
            y=list(range(len(methods))),
            name=part,
            marker={"color": PART_COLORS[part]},
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
