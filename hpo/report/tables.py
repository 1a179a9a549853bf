"""A comparison as people and programs read it: on the terminal, as CSV, Markdown and JSON. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.analysis.compare import TEST_SCORES, Line, Result, Shrinkage
from hpo.analysis.estimates import Estimate
from hpo.analysis.importance import Importances
from hpo.analysis.pareto import StoredTrial
from hpo.analysis.verdicts import Comparison
from hpo.core.ledger import PARTS
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock

Rows = list[dict[str, Any]]
HOW_TO_READ = (
    "Scores are interquartile means over seeds with 95 % bootstrap intervals, which are too narrow for few seeds. "
    "Validation chose the trials; only test scores compare methods. > random: probability that a study beats one of "
    "random search."
)
SHOWN_NAMES = {"test_f1": "test F1", "test_exact_match": "test EM", "test_eval_loss": "test loss"}


def print_all(console: Console, result: Result) -> None:
    """The table of contestants, the verdicts, what shrank, and the notes."""
    console.print(lines_table(result))
    print_shrinkage(console, result)
    if result.pairs:
        print_verdicts(console, result.pairs)
    if result.confirmation_hours:
        console.print(f"confirmations took {result.confirmation_hours:.4f} device-hours beside", highlight=False)
    for note in result.notes:
        print_line(console, f"note: {note}")


def print_shrinkage(console: Console, result: Result) -> None:
    """What became of each confirmed incumbent."""
    if result.shrinkage:
        console.print(shrinkage_table(result.shrinkage))


def print_importance(console: Console, found: Importances | str) -> None:
    """The hyperparameters that explain most, in a line."""
    if isinstance(found, str):
        text = f"importance of hyperparameters: {found}"
    else:
        shares = ", ".join(f"{one.name} {estimate(one.share, 2)}" for one in found.hyperparameters)
        where = "" if found.is_at_full_resource else f" at unit {found.units} of {found.max_units}"
        text = f"share of the metric's variance{where}, by {found.num_trials} trials: {shares}"
    print_line(console, text)


def importance_notes(found: Importances | str) -> list[str]:
    """What a reader of importances must know, and the strongest interactions."""
    if isinstance(found, str):
        return []
    explained = f"A forest explains {max(0.0, found.r_squared):.0%} of the variance of trials it has not seen."
    pairs = [f"{pair.a} with {pair.b}: {estimate(pair.share, 2)}" for pair in found.interactions[:3]]
    return [explained, *([f"Beyond the single shares, together: {'; '.join(pairs)}."] if pairs else [])]


def importance_shares(found: Importances | str) -> dict[str, tuple[float, float | None, float | None]] | str:
    """By hyperparameter the share and the ends of its interval, or why there is none."""
    if isinstance(found, str):
        return found
    rows = {one.name: _ends("share", one.share) for one in found.hyperparameters}
    return {name: (row["share"] or 0.0, row["share_low"], row["share_high"]) for name, row in rows.items()}


def print_best_within(console: Console, found: StoredTrial | str) -> None:
    """The best trial within limits of cost and memory, or why there is none."""
    if isinstance(found, str):
        text = f"within the limits: {found}"
    else:
        memory = "" if found.peak_memory_mb is None else f", {found.peak_memory_mb:.0f} MB"
        text = f"within the limits: {found.name}, {found.device_hours:.4f} device-hours{memory}, {found.config}"
    print_line(console, text)


def lines_table(result: Result) -> Table:
    """One line a contestant."""
    mark = " - BUDGETS DIFFER" * result.is_marked
    title = f"{result.benchmark.name} on {result.accelerator}{mark}"
    headings = ("method", "seeds", "trials", f"validation {result.benchmark.metric}", *SHOWN_NAMES.values())
    costs = ("device-hours", "useful", "wall", "x grid", "> random")
    table = Table(
        title=title,
        caption=HOW_TO_READ,
        box=SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in (*headings, *costs):
        table.add_column(heading.replace("_", " "), justify="left" if heading in ("method", "trials") else "right")
    for line in result.lines:
        table.add_row(*_shown(line))
    return table


def _shown(line: Line) -> Iterable[str]:
    useful = sum(line.parts.get(part, 0.0) for part in ("train", "evaluate"))
    yield line.name
    yield str(len(line.seeds) or "-")
    yield ", ".join(f"{number} {name}" for name, number in sorted(line.outcomes.items())) or "-"
    yield _stacked(line.validation, 3)
    yield from (_stacked(line.test[metric], 3) for metric in TEST_SCORES)
    yield number(line.device_hours, 4)
    yield f"{useful / line.device_hours:.0%}" if line.device_hours and line.knows_parts else "-"
    yield clock(line.wall_seconds) if line.wall_seconds is not None else "-"
    yield number(line.cost_of_grid, 2)
    yield _stacked(line.over_random, 2)


def shrinkage_table(shrinkage: Sequence[Shrinkage]) -> Table:
    """The winner's curse: the F1 that chose an incumbent, and what it gets when it is trained again."""
    title = "F1 of each incumbent: as it was chosen, and trained again with fresh seeds"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for heading in ("method", "seed", "chosen by", "again, validation", "again, test", "shrinks by", "trainings"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for line in shrinkage:
        scores = (line.selected, line.validation, line.test, line.selected - line.test)
        table.add_row(line.name, str(line.seed), *(f"{value:.3f}" for value in scores), str(line.trainings))
    return table


def print_verdicts(console: Console, pairs: Sequence[Comparison]) -> None:
    """Pairs that are resolved, a line each; of the others how many there are, and why."""
    resolved = [pair for pair in pairs if pair.verdict != "not resolved"]
    for pair in resolved:
        print_line(console, f"{sentence(pair)} ({pair.reason})")
    others = [pair for pair in pairs if pair.verdict == "not resolved"]
    if others:
        text = f"not resolved: {len(others)} of {len(pairs)} pairs, such as {others[0].a} and {others[0].b}"
        print_line(console, f"{text} ({others[0].reason})")


def sentence(pair: Comparison) -> str:
    """A verdict in words."""
    if pair.verdict == "not resolved":
        return f"{pair.a} and {pair.b}: not resolved"
    return f"{pair.a} is {pair.verdict} {'to' if pair.verdict == 'equivalent' else 'than'} {pair.b}"


def files(result: Result) -> dict[str, str]:
    """The comparison as files: `comparison.csv`, `pairs.csv`, `shrinkage.csv`, `comparison.md`, `comparison.json`."""
    return {
        "comparison.csv": to_csv(line_rows(result)),
        "pairs.csv": to_csv(pair_rows(result.pairs)),
        "shrinkage.csv": to_csv([asdict(line) for line in result.shrinkage]),
        "comparison.md": markdown(result),
        "comparison.json": json.dumps(as_json(result), indent=2) + "\n",
    }


def as_json(result: Result) -> dict[str, Any]:
    """All figures."""
    return {
        "benchmark": result.benchmark.name,
        "digest": result.digest,
        "accelerator": result.accelerator,
        "budgets_differ": result.is_marked,
        "methods": line_rows(result),
        "pairs": pair_rows(result.pairs),
        "shrinkage": [asdict(line) for line in result.shrinkage],
        "confirmation_device_hours": result.confirmation_hours,
        "notes": result.notes,
    }


def line_rows(result: Result) -> Rows:
    """One row a contestant, values in full."""
    return [
        {
            "method": line.name,
            "studies": len(line.seeds),
            "seeds": " ".join(map(str, line.seeds)),
            "budget": line.budget,
            "trials": sum(line.outcomes.values()),
            **{outcome: line.outcomes.get(outcome, 0) for outcome in ("completed", "stopped", "diverged", "failed")},
            **_ends(f"validation_{result.benchmark.metric}", line.validation),
            **{key: value for metric in TEST_SCORES for key, value in _ends(metric, line.test[metric]).items()},
            "trainings": line.trainings,
            "diverged_trainings": line.diverged,
            "device_hours": line.device_hours,
            "gpu_hours": line.gpu_hours,
            **{f"device_hours_{part}": line.parts.get(part) for part in PARTS},
            "wall_seconds": line.wall_seconds,
            "units": line.units,
            "cost_of_grid": line.cost_of_grid,
            "reached_grid": line.reached_grid,
            "with_grid": line.with_grid,
            "device_hours_to_grid": line.hours_to_grid,
            **_ends("over_random", line.over_random),
        }
        for line in result.lines
    ]


def pair_rows(pairs: Sequence[Comparison]) -> Rows:
    """One row a pair, values in full."""
    return [
        {
            "a": pair.a,
            "b": pair.b,
            "blocks": pair.num_blocks,
            "mean_difference": pair.mean_difference,
            "low": pair.interval.low if pair.interval else None,
            "high": pair.interval.high if pair.interval else None,
            **_ends("a_over_b", pair.probability_of_improvement),
            "p": pair.p_value,
            "p_holm": pair.p_holm,
            "verdict": pair.verdict,
            "reason": pair.reason,
        }
        for pair in pairs
    ]


def _ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    interval = found.interval if found else None
    return {
        name: found.value if found else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def markdown(result: Result) -> str:
    """The tables and notes on one page."""
    mark = " (budgets differ)" * result.is_marked
    parts = [
        f"# Methods on {result.benchmark.name}{mark}",
        f"Accelerator: {result.accelerator}; version of the benchmark: {result.digest}. {HOW_TO_READ}",
        markdown_table(line_rows(result), MARKDOWN_COLUMNS),
        "## Pairs",
        markdown_table(pair_rows(result.pairs), ("a", "b", "blocks", "mean_difference", "p_holm", "verdict", "reason"))
        or "No pair was confirmed.",
        "## Trained again",
        markdown_table([asdict(line) for line in result.shrinkage]) or "Nothing was confirmed.",
        *([f"Confirmations took {result.confirmation_hours:.4f} device-hours beside."] * bool(result.shrinkage)),
        *(f"- {note}" for note in result.notes),
    ]
    return "\n\n".join(parts) + "\n"


MARKDOWN_COLUMNS = (
    "method",
    "studies",
    "budget",
    "trials",
    "test_f1",
    "test_f1_low",
    "test_f1_high",
    "test_exact_match",
    "test_eval_loss",
    "device_hours",
    "gpu_hours",
    "cost_of_grid",
    "over_random",
)


def markdown_table(rows: Rows, columns: Sequence[str] | None = None) -> str:
    """A pipe table; empty without rows."""
    if not rows:
        return ""
    names = list(columns or rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with a heading; empty without rows. None is an empty cell."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def estimate(found: Estimate | None, digits: int) -> str:
    """E.g. "0.713 [0.700, 0.731]"."""
    if found is None:
        return "-"
    show: Callable[[float], str] = lambda value: f"{value:.{digits}f}"  # noqa: E731
    interval = found.interval
    return show(found.value) + (f" [{show(interval.low)}, {show(interval.high)}]" if interval else "")


def _stacked(found: Estimate | None, digits: int) -> str:
    """The interval below its figure: a row stays narrow."""
    return estimate(found, digits).replace(" [", "\n[")


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
