"""Tables of a comparison for people and programs: on the terminal, as CSV, Markdown and JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Metric
from hpo.analysis.compare import Result
from hpo.analysis.importance import Importances
from hpo.analysis.standings import Shrinkage, Standing
from hpo.analysis.statistics.estimates import Estimate, Interval
from hpo.analysis.statistics.verdicts import Comparison
from hpo.core.ledger import PARTS
from hpo.core.text_tables import csv_of, markdown_cell, markdown_table
from hpo.report.columns import HOW_TO_READ, columns, digits_of
from hpo.report.sentences import beside, replayed, sentence
from hpo.store.stored_trials import StoredTrial
from hpo.terminal.console import print_line

Rows = list[dict[str, Any]]
MAX_INCUMBENTS = 40
"""Incumbents that the terminal shows one by one."""


def print_all(console: Console, result: Result) -> None:
    """Print the table of contestants, the shrinkage, the verdicts and the notes."""
    console.print(standings_table(result))
    if result.replay:
        print_line(console, replayed(result))
    print_shrinkage(console, result)
    print_line(console, result.plan.sentence)
    if result.pairs:
        print_verdicts(console, result.pairs)
    for text in beside(result):
        print_line(console, text)
    if result.confirmation_hours:
        console.print(f"confirmations took {result.confirmation_hours:.4f} device-hours of their own", highlight=False)
    for note in result.notes:
        print_line(console, f"note: {note}")


def print_shrinkage(console: Console, result: Result) -> None:
    """Print the scores of each confirmed incumbent, before and after; of many their mean alone."""
    found, metric = result.shrinkage, result.benchmark.verdict_metric
    if len(found) > MAX_INCUMBENTS:
        mean = fmean(metric.gain(one.selected, one.test) for one in found)
        print_line(
            console,
            f"{len(found)} incumbents were trained again with fresh seeds: {metric.title} is worse by "
            f"{mean:.{digits_of(metric)}f} on average; shrinkage.csv has each",
        )
    elif found:
        console.print(shrinkage_table(found, metric))


def print_importance(console: Console, found: Importances | str) -> None:
    """Print the hyperparameters that explain most, in a line."""
    if isinstance(found, str):
        text = f"importance of hyperparameters: {found}"
    else:
        shares = ", ".join(f"{one.name} {estimate(one.share, 2)}" for one in found.hyperparameters)
        where = "" if found.is_at_full_resource else f" at unit {found.units} of {found.max_units}"
        text = f"share of the metric's variance{where}, by {found.num_trials} trials: {shares}"
    print_line(console, text)


def importance_notes(found: Importances | str) -> list[str]:
    """Write the caveats of importances, and the strongest interactions."""
    if isinstance(found, str):
        return []
    explained = f"A forest explains {max(0.0, found.r_squared):.0%} of the variance of trials it has not seen."
    pairs = [f"{pair.a} with {pair.b}: {estimate(pair.share, 2)}" for pair in found.interactions[:3]]
    return [explained, *([f"Beyond the single shares, together: {'; '.join(pairs)}."] if pairs else [])]


def importance_shares(found: Importances | str) -> dict[str, tuple[float, float | None, float | None]] | str:
    """Return by hyperparameter the share and the ends of its interval, or the reason why there is none."""
    if isinstance(found, str):
        return found
    rows = {one.name: ends_of("share", one.share) for one in found.hyperparameters}
    return {name: (row["share"] or 0.0, row["share_low"], row["share_high"]) for name, row in rows.items()}


def print_best_within(console: Console, found: StoredTrial | str) -> None:
    """Print the best trial within limits of cost and memory, or the reason why there is none."""
    if isinstance(found, str):
        text = f"within the limits: {found}"
    else:
        memory = "" if found.peak_memory_mb is None else f", {found.peak_memory_mb:.0f} MiB"
        text = f"within the limits: {found.name}, {found.device_hours:.4f} device-hours{memory}, {found.config}"
    print_line(console, text)


def standings_table(result: Result) -> Table:
    """Lay out one row per contestant."""
    mark = " - REPLAYED" * bool(result.replay) + " - BUDGETS DIFFER" * result.is_marked
    table = Table(
        title=f"{result.benchmark.name} on {result.accelerator}{mark}",
        caption=HOW_TO_READ,
        box=SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    shown = [(column, column.printed) for column in columns(result.benchmark) if column.printed]
    for column, _ in shown:
        table.add_column(column.heading, justify="left" if column.is_text else "right")
    for standing in result.standings:
        table.add_row(*(printed(column.cell(standing)) for column, printed in shown))
    return table


def shrinkage_table(shrinkage: Sequence[Shrinkage], metric: Metric) -> Table:
    """Lay out the winner's curse: the score that chose an incumbent beside its score when it is trained again."""
    title = f"{metric.title} of each incumbent: as it was chosen, and trained again with fresh seeds"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for heading in ("method", "seed", "chosen by", "again, validation", "again, test", "worse by", "trainings"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for one in shrinkage:
        scores = (one.selected, one.validation, one.test, metric.gain(one.selected, one.test))
        shown = (f"{value:.{digits_of(metric)}f}" for value in scores)
        table.add_row(one.name, str(one.seed), *shown, str(one.trainings))
    return table


def print_verdicts(console: Console, pairs: Sequence[Comparison]) -> None:
    """Print the pairs that are resolved, a line each; then the number of the others, and a reason."""
    resolved = [pair for pair in pairs if pair.verdict != "not resolved"]
    for pair in resolved:
        print_line(console, f"{sentence(pair)} ({pair.reason})")
    others = [pair for pair in pairs if pair.verdict == "not resolved"]
    if others:
        text = f"not resolved: {len(others)} of {len(pairs)} pairs, such as {others[0].a} and {others[0].b}"
        print_line(console, f"{text} ({others[0].reason})")


def files(result: Result) -> dict[str, str]:
    """Write `comparison.csv`, `pairs.csv`, `shrinkage.csv`, `comparison.md` and `comparison.json`."""
    return {
        "comparison.csv": csv_of(standing_rows(result)),
        "pairs.csv": csv_of(pair_rows(result)),
        "shrinkage.csv": csv_of([asdict(one) for one in result.shrinkage]),
        "comparison.md": markdown(result),
        "comparison.json": json.dumps(as_json(result), indent=2) + "\n",
    }


def as_json(result: Result) -> dict[str, Any]:
    """Return all figures, values in full."""
    return {
        "benchmark": result.benchmark.name,
        "digest": result.digest,
        "accelerator": result.accelerator,
        "budgets_differ": result.is_marked,
        "replayed": result.replay,
        "methods": standing_rows(result),
        "plan": plan_row(result),
        "pairs": pair_rows(result),
        "shrinkage": [asdict(one) for one in result.shrinkage],
        "confirmation_device_hours": result.confirmation_hours,
        "notes": result.notes,
    }


def standing_rows(result: Result) -> Rows:
    """Return one row per contestant, values in full."""
    return [standing_row(standing, result.benchmark) for standing in result.standings]


def standing_row(standing: Standing, benchmark: Benchmark) -> dict[str, Any]:
    """Return a contestant's row, values in full."""
    costs, confirmed, grid = standing.costs, standing.confirmed, standing.grid
    return {
        "method": standing.name,
        "studies": len(standing.seeds),
        "seeds": " ".join(map(str, standing.seeds)),
        "budget": standing.budget,
        "trials": sum(standing.outcomes.values()),
        **{outcome: standing.outcomes.get(outcome, 0) for outcome in ("completed", "stopped", "diverged", "failed")},
        **ends_of(f"validation_{benchmark.metric}", standing.validation),
        **{key: value for name, found in confirmed.test.items() for key, value in ends_of(name, found).items()},
        "trainings": confirmed.trainings,
        "diverged_trainings": confirmed.diverged,
        "blocks": confirmed.blocks,
        "failed_blocks": confirmed.failed,
        "failed_studies": len(standing.failed_studies),
        "model_share": standing.model_share,
        "device_hours": costs.device_hours,
        "gpu_hours": costs.gpu_hours,
        **{f"device_hours_{part}": costs.parts.get(part) for part in PARTS},
        "wall_seconds": costs.wall_seconds,
        "units": costs.units,
        "cost_of_grid": grid.cost_ratio,
        "reached_grid": grid.reached,
        "with_grid": grid.entered,
        "device_hours_to_grid": grid.device_hours,
        "expected_hours_to_grid": grid.expected_hours,
        **ends_of("over_random", standing.over_random),
    }


def plan_row(result: Result) -> dict[str, Any]:
    """Return the comparison beside its plan."""
    check = result.plan
    return {
        "checksum": check.plan.checksum if check.plan else None,
        "looks": check.looks,
        "differences": list(check.differences),
        "sentence": check.sentence,
    }


def pair_rows(result: Result) -> Rows:
    """Return one row per pair and metric, values in full: the metric of verdicts first."""
    first, split = result.benchmark.verdict_metric.on_test, result.verdicts.split
    ends = split.intervals if split else {}
    rows = [pair_row(pair, first, ends.get((pair.a, pair.b))) for pair in result.pairs]
    return rows + [pair_row(pair, name, None) for name, pairs in result.verdicts.others.items() for pair in pairs]


def pair_row(pair: Comparison, metric: str, with_records: Interval | None) -> dict[str, Any]:
    """Return a pair's row by one metric, values in full.

    Args:
        pair: the pair.
        metric: its name on test.
        with_records: interval of the mean difference over seeds and records of the test split.
    """
    return {
        "a": pair.a,
        "b": pair.b,
        "metric": metric,
        "blocks": pair.num_blocks,
        "mean_difference": pair.mean_difference,
        "low": pair.interval.low if pair.interval else None,
        "high": pair.interval.high if pair.interval else None,
        "low_over_records": with_records.low if with_records else None,
        "high_over_records": with_records.high if with_records else None,
        **ends_of("a_over_b", pair.probability_of_improvement),
        "p": pair.p_value,
        "p_holm": pair.p_holm,
        "within_margin": pair.equivalence.within,
        "beyond_margin_at_most": pair.equivalence.beyond_at_most,
        "p_equivalence_holm": pair.p_equivalence_holm,
        "verdict": pair.verdict,
        "reason": pair.reason,
    }


def ends_of(name: str, found: Estimate | None) -> dict[str, float | None]:
    """Return an estimate and the ends of its interval as columns, empty where there is none."""
    interval = found.interval if found else None
    return {
        name: found.value if found else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def markdown(result: Result) -> str:
    """Write the tables and notes on one page."""
    mark = " (replayed)" * bool(result.replay) + " (budgets differ)" * result.is_marked
    parts = [
        f"# Methods on {result.benchmark.name}{mark}",
        *([f"**{replayed(result)}**"] * bool(result.replay)),
        result.plan.sentence,
        f"Accelerator: {result.accelerator}; version of the benchmark: {result.digest}. {HOW_TO_READ}",
        pipe_table(standing_rows(result), _markdown_columns(result.benchmark)),
        "## Pairs",
        pipe_table(pair_rows(result), ("a", "b", "metric", "blocks", "mean_difference", "p_holm", "verdict", "reason"))
        or "No pair was confirmed.",
        *beside(result),
        "## Trained again",
        pipe_table([asdict(one) for one in result.shrinkage]) or "Nothing was confirmed.",
        *([f"Confirmations took {result.confirmation_hours:.4f} device-hours of their own."] * bool(result.shrinkage)),
        *(f"- {note}" for note in result.notes),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_columns(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the columns of the contestants' table on the page, with an interval for the metric of verdicts alone."""
    verdict, *others = (metric.on_test for metric in benchmark.test_metrics)
    scores = (verdict, f"{verdict}_low", f"{verdict}_high", *others)
    return (
        "method",
        "studies",
        "budget",
        "trials",
        *scores,
        "device_hours",
        "gpu_hours",
        "cost_of_grid",
        "over_random",
    )


def pipe_table(rows: Rows, columns: Sequence[str] | None = None) -> str:
    """Write rows as a pipe table; empty without rows."""
    names = list(columns or (rows[0] if rows else ()))
    return markdown_table(names, [[markdown_cell(row[name]) for name in names] for row in rows]) if rows else ""


def estimate(found: Estimate | None, digits: int) -> str:
    """Write an estimate, e.g. "0.713 [0.700, 0.731]"; a dash for none."""
    if found is None:
        return "-"
    show: Callable[[float], str] = lambda value: f"{value:.{digits}f}"  # noqa: E731
    interval = found.interval
    return show(found.value) + (f" [{show(interval.low)}, {show(interval.high)}]" if interval else "")
