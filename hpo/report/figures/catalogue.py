"""All figures of a comparison, in the order of the report. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.analysis.compare import Result
from hpo.report.figures.cost_split import cost_split
from hpo.report.figures.critical_difference import critical_difference_diagram
from hpo.report.figures.importance import ImportanceShares, hyperparameter_importance
from hpo.report.figures.over_cost.along import confirmed_along
from hpo.report.figures.over_cost.anytime import anytime_curves
from hpo.report.figures.over_cost.random_search import random_search_curve
from hpo.report.figures.over_cost.reached import target_reached
from hpo.report.figures.parallel import parallel_coordinates
from hpo.report.figures.pareto import points_of, quality_against_cost
from hpo.report.figures.plots import (
    Figure,
    LeftOut,
    styles,
)
from hpo.report.figures.schedules import schedules
from hpo.report.figures.scores import confirmed_scores
from hpo.report.figures.shrinkage import shrinkage
from hpo.report.figures.timelines import timelines

FOLLOWS_IMPORTANCE = "schedules"
"""Name of the figure before which the importance stands."""


def all_of(
    result: Result, importance: ImportanceShares | str | None = None, importance_notes: Sequence[str] = ()
) -> list[Figure | LeftOut]:
    """Draw all figures of a comparison, in the order of the report.

    Args:
        result: the comparison.
        importance: of the hyperparameters, or the reason why there is none; None leaves that figure away without a
            word.
        importance_notes: see `hyperparameter_importance`.
    """
    looks = styles(result)
    intervals = {standing.name: standing.score.interval for standing in result.standings if standing.score}
    figures = [
        confirmed_scores(result, looks),
        critical_difference_diagram(result, looks),
        anytime_curves(result, looks),
        confirmed_along(result, looks),
        target_reached(result, looks),
        random_search_curve(result, looks),
        quality_against_cost(points_of(result), result.benchmark.verdict_metric, looks, intervals),
        cost_split(result),
        timelines(result),
        parallel_coordinates(result),
        schedules(result, looks),
        shrinkage(result, looks),
    ]
    return figures if importance is None else with_importance(figures, importance, importance_notes)


def with_importance(
    figures: Sequence[Figure | LeftOut], importance: ImportanceShares | str, notes: Sequence[str] = ()
) -> list[Figure | LeftOut]:
    """Add the importance of hyperparameters to the other figures, which can be drawn while the forests grow.

    Args:
        figures: of a comparison, without the importance.
        importance: see `hyperparameter_importance`.
        notes: see `hyperparameter_importance`.
    """
    place = next(place for place, figure in enumerate(figures) if figure.name == FOLLOWS_IMPORTANCE)
    return [*figures[:place], hyperparameter_importance(importance, notes), *figures[place:]]
