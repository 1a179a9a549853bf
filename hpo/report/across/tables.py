"""Tables of a comparison over tasks for people and programs: on the terminal, as CSV, Markdown and JSON. Pure."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as PrintedTable

from hpo.analysis.across.comparison import AcrossTasks, TaskPair
from hpo.analysis.across.task_scores import TaskScores
from hpo.analysis.statistics.aggregates import Aggregate
from hpo.analysis.statistics.estimates import mean_of
from hpo.core.text_tables import csv_of
from hpo.report.across import sentences
from hpo.report.columns import Cell, digits_of, estimate_cell, number_cell
from hpo.report.html import Table
from hpo.report.tables import Rows, ends_of, pipe_table
from hpo.terminal.console import print_line

MAX_PRINTED_TASKS = 6
"""Tasks that the terminal shows in a column each."""


def print_tasks(console: Console, found: AcrossTasks) -> None:
    """Print the tasks, the regrets, the statements and the notes."""
    for table in (tasks_table(found), regrets_table(found, len(found.tasks) <= MAX_PRINTED_TASKS)):
        console.print(_printed(table))
    for text in (sentences.SCALE, sentences.intervals(found), *sentences.replays(found)):
        if text:
            print_line(console, text)
    if found.pairs:
        console.print(_printed(pairs_table(found)))
    print_line(console, sentences.statement(found))
    for note in found.notes:
        print_line(console, f"note: {note}")


def _printed(table: Table) -> PrintedTable:
    """Lay out a table of the page for the terminal."""
    printed = PrintedTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in table.headings:
        printed.add_column(heading, justify="left" if heading in table.worded else "right")
    for row in table.rows:
        printed.add_row(*("\n".join(filter(None, [cell.text, cell.small])) for cell in row))
    return printed


# ---- tables of the page


def tasks_table(found: AcrossTasks) -> Table:
    """Lay out one row per task."""
    return Table(
        "tasks",
        "The ends of each task's scale of regret, by the metric that was tuned, on test. Margin: the difference that "
        "does not matter, in units of regret. Seeds: blocks that all methods here have.",
        ("task", "metric", "best known (0)", "by", "median random (1)", "margin", "seeds", "budget", "studies"),
        [_task_cells(task, len(found.blocks[task.name])) for task in found.tasks],
        frozenset({"task", "metric", "by", "studies"}),
    )


def _task_cells(task: TaskScores, blocks: int) -> list[Cell]:
    scale, form = task.scale, f".{digits_of(task.scale.metric)}f"
    source = "replayed" if task.replay else task.conditions["accelerator"]
    return [
        Cell(task.name, task.name),
        Cell(scale.metric.words_on_test, scale.metric.words_on_test),
        number_cell(scale.best, form),
        Cell(scale.best_by, scale.best_by),
        number_cell(scale.random, form),
        number_cell(scale.metric.margin / scale.width, ".2g"),
        number_cell(blocks, "d"),
        Cell(str(task.budget or "several"), task.budget),
        Cell(source, source),
    ]


def regrets_table(found: AcrossTasks, has_tasks: bool = True) -> Table:
    """Lay out one row per method.

    Args:
        found: the comparison.
        has_tasks: with a column for each task.
    """
    shown = [task.name for task in found.tasks] if has_tasks else []
    across = ("mean", "over tasks", "IQM", "IQM over tasks", "mean rank") if found.aggregates else ()
    return Table(
        "regrets",
        "Mean normalised regret, less is better. On one task with the interval of Student's t over seeds. Mean and "
        "interquartile mean (IQM) count all tasks alike. The interval below each is over other seeds on these tasks, "
        "and the one beside it over other tasks. Mean rank: over tasks.",
        ("method", *shown, *across),
        [_regret_cells(found, method, shown) for method in found.regrets],
        frozenset({"method"}),
    )


def _regret_cells(found: AcrossTasks, method: str, shown: list[str]) -> list[Cell]:
    cells = [Cell(method, method)]
    cells += [estimate_cell(mean_of(list(found.regrets[method][task].values())), 2) for task in shown]
    if method in found.aggregates:
        own = found.aggregates[method]
        for over_seeds, over_tasks in (
            (own.mean, own.mean_over_tasks),
            (own.interquartile_mean, own.interquartile_mean_over_tasks),
        ):
            ends = estimate_cell(over_tasks, 2).small
            cells += [estimate_cell(over_seeds, 2), Cell(ends or "-", over_tasks.value if ends else None)]
        cells.append(number_cell(_rank(found, method), ".2f"))
    return cells


def pairs_table(found: AcrossTasks) -> Table:
    """Lay out one row per pair."""
    return Table(
        "pairs",
        "Probabilities that a is better, practically equal (within the margin of the metric) or worse than b on a "
        "further task like these, by a hierarchical model of differences in margins (Corani et al. 2017). Typical: "
        "the centre of the tasks' mean differences, in margins, above 0 where a is better, with its 95 % credible "
        "interval. Statements are corrected for all pairs together. Tasks: how many would resolve the pair, if "
        "further ones turned out as these did.",
        ("a", "b", "better", "practically equal", "worse", "typical", "statement", "tasks"),
        [_pair_cells(pair) for pair in found.pairs],
        frozenset({"a", "b", "statement"}),
    )


def _pair_cells(pair: TaskPair) -> list[Cell]:
    return [
        Cell(pair.a, pair.a),
        Cell(pair.b, pair.b),
        *(number_cell(chance, ".3f") for chance in pair.chances.values()),
        estimate_cell(pair.further.typical, 1),
        Cell(pair.statement, pair.statement),
        Cell(sentences.needed(pair), pair.tasks_needed),
    ]


def _rank(found: AcrossTasks, method: str) -> float | None:
    return found.ranking.mean_ranks.get(method) if found.ranking else None


# ---- files


def files(found: AcrossTasks) -> dict[str, str]:
    """Write `comparison.csv`, `tasks.csv`, `regrets.csv`, `pairs.csv`, `comparison.md` and `comparison.json`."""
    return {
        "comparison.csv": csv_of(method_rows(found)),
        "tasks.csv": csv_of(task_rows(found)),
        "regrets.csv": csv_of(regret_rows(found)),
        "pairs.csv": csv_of(pair_rows(found)),
        "comparison.md": markdown(found),
        "comparison.json": json.dumps(as_json(found), indent=2) + "\n",
    }


def as_json(found: AcrossTasks) -> dict[str, Any]:
    """Return all figures, values in full."""
    return {
        "tasks": task_rows(found),
        "methods": method_rows(found),
        "pairs": pair_rows(found),
        "reference": found.reference,
        "friedman_p": found.ranking.friedman_p if found.ranking else None,
        "critical_difference": found.ranking.critical_difference if found.ranking else None,
        "statement": sentences.statement(found),
        "replayed": sentences.replays(found),
        "notes": found.notes,
    }


def task_rows(found: AcrossTasks) -> Rows:
    """Return one row per task, values in full."""
    return [
        {
            "task": task.name,
            "identity": task.identity,
            "metric": task.scale.metric.on_test,
            "best_known": task.scale.best,
            "best_by": task.scale.best_by,
            "random_median": task.scale.random,
            "margin": task.scale.metric.margin,
            "seeds": " ".join(map(str, found.blocks[task.name])),
            "budget": task.budget,
            **task.conditions,
            "replayed": bool(task.replay),
        }
        for task in found.tasks
    ]


def method_rows(found: AcrossTasks) -> Rows:
    """Return one row per method, values in full; aggregates are empty for too few tasks."""
    return [
        {
            "method": method,
            "tasks": len(by_task),
            "runs": sum(map(len, by_task.values())),
            **_aggregate_columns(found.aggregates.get(method)),
            "mean_rank": _rank(found, method),
            **{f"regret_{task}": fmean(regrets.values()) for task, regrets in by_task.items()},
        }
        for method, by_task in found.regrets.items()
    ]


def _aggregate_columns(own: Aggregate | None) -> dict[str, float | None]:
    """Return both means with the ends of both intervals; all empty without them."""
    both = {
        "mean_regret": (own.mean, own.mean_over_tasks) if own else (None, None),
        "iqm_regret": (own.interquartile_mean, own.interquartile_mean_over_tasks) if own else (None, None),
    }
    found: dict[str, float | None] = {}
    for name, (over_seeds, over_tasks) in both.items():
        ends = ends_of(name, over_tasks)
        found |= ends_of(name, over_seeds)
        found |= {f"{name}_over_tasks_low": ends[f"{name}_low"], f"{name}_over_tasks_high": ends[f"{name}_high"]}
    return found


def regret_rows(found: AcrossTasks) -> Rows:
    """Return one row per method, task and seed, values in full."""
    return [
        {"method": method, "task": task.name, "seed": seed, "score": task.scores[method][seed], "regret": regret}
        for method, by_task in found.regrets.items()
        for task in found.tasks
        for seed, regret in by_task[task.name].items()
    ]


def pair_rows(found: AcrossTasks) -> Rows:
    """Return one row per pair, values in full."""
    return [
        {
            "a": pair.a,
            "b": pair.b,
            "p_better": pair.further.better,
            "p_equal": pair.further.equal,
            "p_worse": pair.further.worse,
            "doubt_holm": pair.doubt,
            **ends_of("typical_margins", pair.further.typical),
            "statement": pair.statement,
            "tasks_needed": pair.tasks_needed,
        }
        for pair in found.pairs
    ]


def markdown(found: AcrossTasks) -> str:
    """Write the tables and notes on one page."""
    names = [task.name for task in found.tasks]
    across = ("mean_regret", "iqm_regret", "mean_rank") if found.aggregates else ()
    ranked = ("task", "metric", "best_known", "best_by", "random_median", "margin", "seeds", "budget", "replayed")
    parts = [
        f"# Methods on {', '.join(names)}",
        *(f"**{text}**" for text in sentences.replays(found)),
        sentences.statement(found),
        sentences.SCALE,
        pipe_table(task_rows(found), ranked),
        "## Regrets",
        pipe_table(method_rows(found), ("method", *(f"regret_{name}" for name in names), *across)),
        sentences.intervals(found),
        *(["## Pairs", pipe_table(pair_rows(found))] if found.pairs else []),
        *(f"- {note}" for note in found.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
