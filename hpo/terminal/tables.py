"""Tables of one study: its trials, its cost, its data in tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

from benchmarks.tasks.task import Task, TokenStatistics
from hpo.core.books import Books
from hpo.core.ledger import Shares
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.core.wording import counted
from hpo.terminal.console import print_line

if TYPE_CHECKING:  # it imports Ray, which tables of stored studies do without
    pass


LENGTHS = ("mean", "median", "95 %", "longest")
"""Columns of the table of lengths that are lengths."""


def describe_incumbent(study: Study, books: Books) -> str:
    """Describe the incumbent, e.g. "eval_loss 0.3481 EM 0.713 (trial 7)"; says so if it is not at the full resource.

    It shows the loss and the metric that is tuned; beside a tuned loss, the task's first one.
    """
    row = books.incumbent()
    if row is None:
        return "none yet"
    where = f"trial {row.number}" + ("" if row.units >= study.max_units else f", unit {row.units} of {study.max_units}")
    loss, *own = study.benchmark.metrics
    shown = [loss, *([tuned] if (tuned := study.benchmark.ranking_metric) in own else own[:1])]
    scores = [f"{one.short} {row.metrics[one.name]:.{one.digits}f}" for one in shown]
    return f"{' '.join(scores)} ({where})"


def clock(seconds: float) -> str:
    """Write minutes and seconds, e.g. "3:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def tokens_table(tokens: Sequence[TokenStatistics], task: Task[Any]) -> Table:
    """Make the table of the splits' lengths, in tokens of prompt and answer."""
    title = f"tokens of prompt and answer, at most {tokens[0].max_length}"
    table = Table(title=title, header_style="bold", box=SIMPLE_HEAD, title_justify="left", min_width=len(title))
    for heading in ("split", f"{task.noun}s", *LENGTHS, f"{task.cut_field}s\ncut", "answers\ncut"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in tokens:
        counted = (split.questions, f"{split.mean:.1f}", f"{split.median:g}", split.p95, split.longest)
        cut = (f"{split.truncated_share:.1%}", f"{split.cut_answers_share:.1%}")
        table.add_row(split.split, *map(str, counted), *cut)
    return table


def results_table(study: Study, rows: list[TrialRow]) -> Table:
    """Make the table of all trials, the best first: those that got further before the others.

    Of the hyperparameters it shows those that were searched; headings are stacked and values never cut.
    """
    sign = 1.0 if study.benchmark.mode == "min" else -1.0
    names = [name for name in study.benchmark.space if any(name in row.config for row in rows)]
    title = f"{study.method} on {study.benchmark.name}, seed {study.seed}"
    layout: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 0), "pad_edge": False}
    table = Table(title=title, header_style="bold", title_justify="left", **layout)
    metrics = study.benchmark.metrics
    headings = ("trial", "outcome", "units", *names, *(metric.short for metric in metrics), "seconds")
    for heading in headings:
        side: JustifyMethod = "left" if heading == "outcome" else "right"
        table.add_column(heading.replace("_", "\n"), justify=side, overflow="fold")
    ranked = sorted(rows, key=lambda r: (r.outcome in ("diverged", "failed"), -r.units, sign * (r.objective or 0.0)))
    for row in ranked:
        shown = [_short(row.config.get(name, "")) for name in names]
        scores = [_score(row.metrics.get(metric.name), metric.digits) for metric in metrics]
        table.add_row(str(row.number), row.outcome, str(row.units), *shown, *scores, f"{row.device_seconds:.1f}")
    return table


def cost_table(shares: Shares, accelerator: str) -> Table:
    """Make the table of the ledger's parts."""
    title = f"device time ({accelerator}): {shares.device_hours:.4f} device-hours"
    table = Table(title=title, header_style="bold", box=SIMPLE_HEAD, title_justify="left", min_width=len(title))
    table.add_column("part")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for part, seconds in shares.seconds.items():
        table.add_row(part, f"{seconds:.1f}", f"{seconds / (shares.reserved_seconds or 1):.1%}")
    return table


def print_report(
    console: Console, study: Study, books: Books, shares: Shares, accelerator: str, best: dict[str, Any] | None
) -> None:
    """Print the end of a study: results, cost, best trial as JSON, next commands."""
    console.print(results_table(study, books.rows))
    for row in books.rows:
        if row.outcome in ("failed", "diverged"):
            print_line(console, f"trial {row.number} {row.outcome}: {row.reason}")
        if row.micro_batch is not None:
            print_line(console, f"trial {row.number} was rescued from running out of memory: {batches(study, row)}")
    if books.skipped:
        proposals = counted(books.skipped, "proposal was", "proposals were")
        print_line(console, f"{proposals} not trained: they ask for the memory of one that ran out of it, or may")
    console.print(cost_table(shares, accelerator))
    console.print(f"train + evaluate: {shares.utilization:.1%} of the reserved device time", highlight=False)
    if best is not None:
        console.print("best trial:", highlight=False)
        print_line(console, json.dumps(best, indent=2))


def batches(study: Study, row: TrialRow) -> str:
    """Describe the micro-batches of a trial that was rescued, of the same effective batch as its configuration's."""
    hp = study.benchmark.hyperparameters(row.last_config)
    assert row.micro_batch is not None
    steps = hp.gradient_accumulation_steps * hp.batch_size_per_device // row.micro_batch
    before = f"{hp.batch_size_per_device} x {hp.gradient_accumulation_steps}"
    return f"micro-batch {row.micro_batch} x {steps} accumulation steps in place of {before}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _score(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
