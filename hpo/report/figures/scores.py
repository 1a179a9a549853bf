"""Confirmed scores: the blocks of each contestant, their mean and its interval. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.tasks.task import Metric
from hpo.analysis.compare import Result
from hpo.report.figures.plots import (
    Figure,
    LeftOut,
    Plot,
    Style,
    by_method,
    error_bar,
    interval_text,
    rounded,
)


def confirmed_scores(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the confirmed score of every block of each contestant, their mean and its interval."""
    name, title = "confirmed_scores", "Confirmed scores"
    metrics = result.benchmark.test_metrics
    rows = [row for metric in metrics for row in _score_rows(result, metric)]
    if not rows:
        return LeftOut(name, title, f"nothing is confirmed yet; run: {result.confirm_command}")
    data = pd.DataFrame(rows)
    views = {one.words_on_test: _scores(data[data["metric"] == one.on_test], one, looks) for one in metrics}
    read = (
        "A small dot is one block (seed): the mean test score of its incumbent, trained again with fresh seeds. The "
        "large mark is the mean over blocks, the bar its 95 % interval (Student's t, from 5 blocks on). A study that "
        "found nothing, and a training that diverged, count as the worst there is. Intervals that overlap show no "
        "difference; the verdict is in the table of pairs."
    )
    return Figure(name, title, read, data, views, _unconfirmed(result))


def _score_rows(result: Result, metric: Metric) -> list[dict[str, Any]]:
    by_name = {contestant.name: contestant for contestant in result.contestants}
    return [
        {
            "method": standing.name,
            "metric": metric.on_test,
            "seed": seed,
            "score": score,
            "mean": estimate.value,
            "low": estimate.interval.low if estimate.interval else None,
            "high": estimate.interval.high if estimate.interval else None,
        }
        for standing in result.standings
        if (estimate := standing.confirmed.test[metric.on_test])
        for seed, score in sorted(by_name[standing.name].scores(metric).items())
    ]


def _unconfirmed(result: Result) -> tuple[str, ...]:
    missing = [standing.name for standing in result.standings if not standing.score]
    return (f"Not confirmed: {', '.join(missing)}.",) if missing else ()


def _scores(data: pd.DataFrame, metric: Metric, looks: Mapping[str, Style]) -> Plot:
    methods = list(dict.fromkeys(data["method"]))
    figure = by_method(methods, f"{metric.words_on_test} ({metric.direction})")
    for place, method in enumerate(methods):
        blocks, look = data[data["method"] == method], looks[method]
        value, low, high = blocks.iloc[0][["mean", "low", "high"]]
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
            hovertemplate=f"mean {rounded(value)}{interval_text(low, high)}<extra></extra>",
        )
    return figure
