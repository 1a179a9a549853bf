"""Columns of the contestants' table, for the terminal and for the page alike. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Metric
from hpo.analysis.standings import Standing
from hpo.analysis.statistics.estimates import Estimate
from hpo.core.wording import counted
from hpo.terminal.tables import clock

HOW_TO_READ = (
    "Scores are means over seeds with 95 % intervals of Student's t, from 5 seeds on. Failed: seeds whose study found "
    "nothing, or whose incumbent diverged when it was trained again; they count as the worst score there is. "
    "Validation chose the trials; only test scores compare methods. > random: probability that a study beats one of "
    "random search."
)
MAX_DIGITS = 3
"""Decimals of an estimate at most: its interval is wider than the fourth."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the value as it is shown; a dash where it is missing.
        key: the value by which its column is sorted: a number, or text; None for a missing one, which stays last.
        small: a second line, such as an interval.
        color: of a mark before the text, as #rrggbb; empty for none.
    """

    text: str
    key: float | str | None
    small: str = ""
    color: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the contestants' table.

    Attributes:
        heading: its heading.
        cell: the cell of a contestant.
        is_text: it is aligned to the left.
        printed: the cell on the terminal; None for a column that only the page has room for.
    """

    heading: str
    cell: Callable[[Standing], Cell]
    is_text: bool = False
    printed: Callable[[Cell], str] | None = lambda cell: "\n".join(filter(None, [cell.text, cell.small]))


def columns(benchmark: Benchmark) -> list[Column]:
    """Return the columns of a benchmark's table, in their order."""
    ranking = benchmark.ranking_metric
    validation = f"validation {ranking.name.replace('_', ' ')}"
    return [
        Column("method", _method, is_text=True, printed=lambda cell: cell.text),
        Column("seeds", lambda one: Cell(str(len(one.seeds) or "-"), len(one.seeds) or None)),
        Column("trials", _trials, is_text=True, printed=lambda cell: cell.small or "-"),
        Column("by model", lambda one: number_cell(one.model_share, ".0%"), printed=None),
        Column(validation, lambda one: estimate_cell(one.validation, digits_of(ranking))),
        *(_test_column(metric) for metric in benchmark.test_metrics),
        Column("failed", _failed),
        Column("device-hours", lambda one: number_cell(one.costs.device_hours, ".4g"), printed=_with_four_decimals),
        Column("useful", lambda one: number_cell(one.costs.useful_share, ".0%")),
        Column("wall", _wall),
        Column("x grid", lambda one: number_cell(one.grid.cost_ratio, ".2f")),
        Column("reached grid", _reached_grid, printed=None),
        Column("> random", lambda one: estimate_cell(one.over_random, 2)),
    ]


def estimate_cell(found: Estimate | None, digits: int) -> Cell:
    """Show an estimate with its interval below it."""
    if found is None:
        return Cell("-", None)
    interval = found.interval
    small = f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if interval else ""
    return Cell(f"{found.value:.{digits}f}", found.value, small)


def number_cell(value: float | None, form: str) -> Cell:
    """Show a number in a format of Python's, or a dash where there is none."""
    return Cell("-", None) if value is None else Cell(f"{value:{form}}", value)


def colored(cell: Cell, color: str) -> Cell:
    """Put a mark of a colour before a cell."""
    return replace(cell, color=color)


def _method(standing: Standing) -> Cell:
    diverged, trainings = standing.confirmed.diverged, standing.confirmed.trainings
    return Cell(standing.name, standing.name, f"{diverged} of {trainings} diverged" if diverged else "")


def _trials(standing: Standing) -> Cell:
    number = sum(standing.outcomes.values())
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(standing.outcomes.items()))
    return Cell(str(number or "-"), number or None, outcomes)


def _failed(standing: Standing) -> Cell:
    confirmed, lost = standing.confirmed, standing.failed_studies
    ended = f"{counted(len(lost), 'study', 'studies')} without a score" if lost else ""
    if not confirmed.blocks:
        return Cell("-", None, ended)
    return Cell(f"{confirmed.failed} of {confirmed.blocks}", confirmed.failed / confirmed.blocks, ended)


def digits_of(metric: Metric) -> int:
    """Return the decimals of an estimate of a metric."""
    return min(metric.digits, MAX_DIGITS)


def _test_column(metric: Metric) -> Column:
    return Column(
        metric.words_on_test, lambda one: estimate_cell(one.confirmed.test[metric.on_test], digits_of(metric))
    )


def _wall(standing: Standing) -> Cell:
    seconds = standing.costs.wall_seconds
    return Cell("-", None) if seconds is None else Cell(clock(seconds), seconds)


def _reached_grid(standing: Standing) -> Cell:
    race = standing.grid
    if not race.entered:
        return Cell("-", None)
    hours = "fewer than half" if race.device_hours is None else f"half by {race.device_hours:.4g} h"
    return Cell(f"{race.reached} of {race.entered}", race.reached / race.entered, hours)


def _with_four_decimals(cell: Cell) -> str:
    return f"{cell.key:.4f}" if isinstance(cell.key, float) else cell.text
