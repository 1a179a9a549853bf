"""Confirmed scores along the way: of incumbents at a quarter, half and the whole of the budget. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean

import pandas as pd

from benchmarks.tasks.task import Metric
from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant, score
from hpo.analysis.over_cost.along import SHARES
from hpo.report.figures.plots import Figure, LeftOut, Plot, Style, canvas, plain, words

WHOLE = 1.0
NOT_YET = "incumbents along the way are not confirmed"


def _next_step(result: Result) -> str:
    if result.replay:
        return "a replay has fresh trainings of the last ones alone"
    return f"run: {result.confirm_command} --along true"


def confirmed_along(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the mean confirmed score of each method's incumbents over the share of the budget that was spent."""
    name, title, metric = "confirmed_along", "Confirmed along the way", result.benchmark.verdict_metric
    told = [one for one in result.contestants if _is_confirmed(one)]
    data = pd.DataFrame([row for one in told for row in _rows(one, metric)])
    if data.empty:
        return LeftOut(name, title, f"{NOT_YET}; {_next_step(result)}")
    is_whole = data.groupby(["method", "seed"])["share"].transform("nunique") == len(SHARES) + 1
    kept, blocks = data[is_whole], data.groupby("method")["seed"].nunique()
    if kept.empty:
        return LeftOut(name, title, "no block had a trial at the full resource after a quarter of its budget")
    counted = kept.groupby("method")["seed"].nunique().reindex(blocks.index, fill_value=0)
    read = (
        f"The {words(metric.words_on_test)} ({metric.direction}) of the incumbents that studies had at a quarter, half "
        "and the whole of their budget, each trained again with fresh seeds: the mean over the blocks that have all "
        "three. These scores did not choose the incumbents, so they do not flatter, as validation scores do."
    )
    late = [
        f"{method}: {counted[method]} of {number} blocks; the others had no trial at the full resource by then."
        for method, number in blocks.items()
        if counted[method] < number
    ]
    means = kept.groupby(["method", "share"], sort=False, as_index=False).agg(
        score=("score", "mean"), blocks=("seed", "nunique")
    )
    return Figure(name, title, read, means, {"": _drawn(means, metric, looks)}, tuple(late))


def _is_confirmed(contestant: Contestant) -> bool:
    """Tell whether each incumbent along the way is confirmed: those that happen to be are the ones that stayed."""
    trainings = [of_block for blocks in contestant.along.values() for of_block in blocks.values()]
    return bool(trainings) and all(trainings)


def _rows(contestant: Contestant, metric: Metric) -> Iterator[dict[str, object]]:
    """Yield the score of each block at each share of the budget."""
    for share, blocks in contestant.along.items():
        for seed, trainings in blocks.items():
            mean = fmean(score(one, metric, metric.on_test) for one in trainings)
            yield {"method": contestant.name, "share": share, "seed": seed, "score": mean}
    for seed, mean in contestant.scores(metric).items():
        yield {"method": contestant.name, "share": WHOLE, "seed": seed, "score": mean}


def _drawn(means: pd.DataFrame, metric: Metric, looks: Mapping[str, Style]) -> Plot:
    figure = canvas(400, legend=True)
    figure.update_xaxes(
        title={"text": "share of the budget"}, tickformat=".0%", tickvals=[0.25, 0.5, 1.0], range=[0.2, 1.05]
    )
    figure.update_yaxes(title={"text": metric.words_on_test}, automargin=True)
    for method, of_one in means.groupby("method", sort=False):
        look, steps = looks[str(method)], of_one.sort_values("share")
        figure.add_scatter(
            x=steps["share"].tolist(),
            y=steps["score"].tolist(),
            mode="lines+markers",
            name=plain(method),
            line={"color": look.color, "dash": look.dash, "width": 2.5},
            marker={"symbol": look.symbol, "size": 9},
            hovertemplate="%{x:.0%} of the budget: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    return figure
