"""Critical-difference diagram: mean ranks of all contestants, and those that are not shown to differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hpo.analysis.compare import Result
from hpo.analysis.statistics.paired_tests import ALPHA
from hpo.analysis.statistics.ranks import Ranking, rank_methods
from hpo.core.wording import counted
from hpo.report.figures.plots import GREY, Figure, LeftOut, Plot, Style, by_method, words

STEP = 0.5
"""Rows between two bars of groups."""


def critical_difference_diagram(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the mean rank of each contestant by the metric of verdicts, with a bar over each group that shows none."""
    metric = result.benchmark.verdict_metric
    scores = {c.name: found for c in result.contestants if (found := c.scores(metric))}
    ranking = rank_methods(scores, metric.higher_is_better)
    return diagram_of(ranking, looks, f"{words(metric.words_on_test)} of a block (seed)", "confirmed block")


def diagram_of(ranking: Ranking | None, looks: Mapping[str, Style], best: str, noun: str) -> Figure | LeftOut:
    """Draw a ranking.

    Args:
        ranking: the ranking; None for a figure that is left out.
        looks: of its methods.
        best: the value whose best has rank 1.
        noun: one of the blocks that it is over, in the singular.
    """
    name, title = "critical_difference", "Critical differences"
    if ranking is None:
        return LeftOut(name, title, f"it takes three contestants with two {noun}s in common")
    read = (
        f"Rank 1 is the best {best}; a mark is the mean rank over "
        f"{counted(ranking.num_blocks, noun.removeprefix('confirmed '))}. Contestants under one bar are not shown to "
        f"differ: their mean ranks are closer than {ranking.critical_difference:.2f}, Nemenyi's critical difference of "
        f"all pairs at the level {ALPHA:g}. Friedman's test of all being alike: p = {ranking.friedman_p:.3g}. Ranks "
        "alone count here, not by how much."
    )
    notes = (f"Not in it, for want of blocks: {', '.join(ranking.left_out)}.",) if ranking.left_out else ()
    rows = [
        {
            "method": method,
            "mean_rank": rank,
            "groups": " ".join(str(number) for number, group in enumerate(ranking.groups, 1) if method in group),
            "blocks": ranking.num_blocks,
            "critical_difference": ranking.critical_difference,
            "friedman_p": ranking.friedman_p,
        }
        for method, rank in ranking.mean_ranks.items()
    ]
    return Figure(name, title, read, pd.DataFrame(rows), {"": _diagram(ranking, looks)}, notes)


def _diagram(ranking: Ranking, looks: Mapping[str, Style]) -> Plot:
    """Draw one row per contestant below the bars of the groups."""
    methods = list(ranking.mean_ranks)
    figure = by_method(methods, "mean rank (1 is the best)", row_height=34)
    bars = {STEP * (number - len(ranking.groups)) - 0.6: group for number, group in enumerate(ranking.groups)}
    top = min(bars, default=-0.5) - 0.4
    figure.update_yaxes(range=[len(methods) - 0.5, top])
    figure.update_layout(height=figure.layout["height"] + round(34 * (-0.5 - top)))
    figure.update_xaxes(range=[0.8, len(methods) + 0.2], dtick=1, tickformat="d")
    for place, group in bars.items():
        ends = [ranking.mean_ranks[group[0]] - 0.04, ranking.mean_ranks[group[-1]] + 0.04]
        figure.add_scatter(
            x=ends, y=[place, place], mode="lines", line={"color": GREY, "width": 6}, hoverinfo="skip", showlegend=False
        )
    lowest = max(bars, default=top)
    for row, method in enumerate(methods):
        rank, look = ranking.mean_ranks[method], looks[method]
        inside = [place for place, group in bars.items() if method in group]
        figure.add_scatter(
            x=[rank, rank],
            y=[min(inside, default=lowest), row],
            mode="lines",
            line={"color": look.color, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=[rank],
            y=[row],
            mode="markers",
            marker={"color": look.color, "size": 12, "symbol": look.symbol},
            hovertemplate=f"mean rank {rank:.2f}<extra></extra>",
            showlegend=False,
        )
    return figure
