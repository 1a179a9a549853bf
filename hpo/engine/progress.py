"""What a study shows while it runs and at its end.

On a terminal one panel is redrawn in place; elsewhere (a log file, a pipe) a line is printed when something
worth a line happened: a trial ended (a line every five seconds at most), or half a minute passed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks.tasks.question_answering import TokenStatistics
from hpo.core.ledger import Ledger, Shares
from hpo.core.results import Results, TrialRow, counts
from hpo.core.study import Study
from hpo.terminal.console import print_line

if TYPE_CHECKING:  # it imports Ray, which tables of stored studies do without
    from hpo.core.budget import Budget

LINE_SECONDS, QUIET_SECONDS = 5.0, 30.0
REDRAW_SECONDS = 0.5


@dataclass(frozen=True)
class Place:
    """A study's place in a suite.

    Attributes:
        number: counted from 1.
        studies: how many there are.
        units_after: units that the studies after it may spend.
    """

    number: int
    studies: int
    units_after: int


class Progress:
    """The live view of a study.

    Args:
        study: what is run.
        results: its trials, as they come.
        budget: units spent.
        ledger: device time.
        console: where to print.
        place: the place of the study in a suite.
    """

    def __init__(
        self,
        study: Study,
        results: Results,
        budget: Budget,
        ledger: Ledger,
        console: Console,
        place: Place | None = None,
    ) -> None:
        self._place = place
        self._study, self._results, self._budget, self._ledger, self._console = study, results, budget, ledger, console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_shown, self._ended, self._paused = time.monotonic(), 0, 0
        self._has_shown_tokens = False
        self._warned: set[str] = set()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live:
            self._live.stop()

    def show(self, now: float, paused: int = 0) -> None:
        """Redraw, or print a line if one is due; once before that, what the data are like.

        Args:
            now: seconds since the study began.
            paused: how many of the running trials wait with a checkpoint.
        """
        self._paused = paused
        self._show_tokens()
        quiet = time.monotonic() - self._last_shown
        ended = sum(row.outcome != "running" for row in self._results.rows)
        if self._live and quiet >= REDRAW_SECONDS:
            panel = Table.grid()
            panel.add_row(ProgressBar(total=self._budget.units, completed=self._budget.spent, width=60))
            for fact in self._facts(now):
                panel.add_row(Text(fact))
            self._live.update(panel, refresh=True)
        elif not self._live and quiet >= (LINE_SECONDS if ended > self._ended else QUIET_SECONDS):
            print_line(self._console, " | ".join(self._facts(now)))
        else:
            return
        self._last_shown, self._ended = time.monotonic(), ended

    def warn(self, of: str, fault: str) -> None:
        """Say that something does not work, once, and that it works again; the study goes on meanwhile.

        Args:
            of: what it is.
            fault: what is wrong with it; empty if nothing is.
        """
        if bool(fault) == (of in self._warned):
            return
        self._warned ^= {of}
        print_line(self._console, f"warning: {fault}" if fault else f"the {of} works again")

    def _show_tokens(self) -> None:
        """As soon as they are known, alone: a suite has shown them before its first study."""
        if self._results.tokens and not self._has_shown_tokens and self._place is None:
            self._has_shown_tokens = True
            self._console.print(tokens_table(self._results.tokens))

    def _facts(self, now: float) -> list[str]:
        outcomes = counts(self._results.rows)
        live = outcomes.pop("running", 0)
        paused = min(self._paused, live)
        shown = {"running": live - paused, "paused": paused, **outcomes}
        states = ", ".join(f"{number} {name}" for name, number in shown.items() if number) or "starting"
        return [
            *([f"study {self._place.number} of {self._place.studies}"] if self._place else []),
            f"[{clock(now)}] {self._study.name}: {self._budget.spent}/{self._budget.units} units",
            f"left {self._time_left(now)}",
            f"best {describe_incumbent(self._study, self._results)}",
            f"trials: {states}",
            f"useful {self._ledger.shares(now).utilization:.0%} of device time",
        ]

    def _time_left(self, now: float) -> str:
        if not self._budget.spent:
            return "?"
        seconds_per_unit, units = now / self._budget.spent, self._budget.units - self._budget.spent
        text = f"about {clock(seconds_per_unit * units)}"
        if self._place and self._place.units_after:
            text += f", {clock(seconds_per_unit * (units + self._place.units_after))} for all studies"
        return text


def describe_incumbent(study: Study, results: Results) -> str:
    """E.g. "eval_loss 0.3481 EM 0.713 (trial 7)"; says so where it is not at the full resource."""
    row = results.incumbent()
    if row is None:
        return "none yet"
    where = f"trial {row.number}" + ("" if row.units >= study.max_units else f", unit {row.units} of {study.max_units}")
    return f"eval_loss {row.metrics['eval_loss']:.4f} EM {row.metrics['exact_match']:.3f} ({where})"


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. "3:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def tokens_table(tokens: Sequence[TokenStatistics]) -> Table:
    """What the splits are like, in tokens of prompt and answer."""
    title = f"tokens of prompt and answer, at most {tokens[0].max_length}"
    table = Table(title=title, header_style="bold", box=SIMPLE_HEAD, title_justify="left", min_width=len(title))
    for heading in ("split", "questions", "mean", "median", "95 %", "longest", "contexts\ncut", "answers\ncut"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in tokens:
        counted = (split.questions, f"{split.mean:.1f}", f"{split.median:g}", split.p95, split.longest)
        cut = (f"{split.truncated_share:.1%}", f"{split.cut_answers_share:.1%}")
        table.add_row(split.split, *map(str, counted), *cut)
    return table


def results_table(study: Study, rows: list[TrialRow]) -> Table:
    """All trials, the best first: those that got further before those that did not.

    Of the hyperparameters it shows those that were searched; headings are stacked and values never cut.
    """
    sign = 1.0 if study.benchmark.mode == "min" else -1.0
    names = [name for name in study.benchmark.space if any(name in row.config for row in rows)]
    title = f"{study.method} on {study.benchmark.name}, seed {study.seed}"
    layout: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 0), "pad_edge": False}
    table = Table(title=title, header_style="bold", title_justify="left", **layout)
    headings = ("trial", "outcome", "units", *names, "eval_loss", "EM", "F1", "seconds")
    for heading in headings:
        side: JustifyMethod = "left" if heading == "outcome" else "right"
        table.add_column(heading.replace("_", "\n"), justify=side, overflow="fold")
    ranked = sorted(rows, key=lambda r: (r.outcome in ("diverged", "failed"), -r.units, sign * (r.objective or 0.0)))
    for row in ranked:
        shown = [_short(row.config.get(name, "")) for name in names]
        scores = [
            _score(row.metrics.get(key), digits) for key, digits in (("eval_loss", 4), ("exact_match", 3), ("f1", 3))
        ]
        table.add_row(str(row.number), row.outcome, str(row.units), *shown, *scores, f"{row.device_seconds:.1f}")
    return table


def cost_table(shares: Shares, accelerator: str) -> Table:
    """The ledger's parts."""
    title = f"device time ({accelerator}): {shares.device_hours:.4f} device-hours"
    table = Table(title=title, header_style="bold", box=SIMPLE_HEAD, title_justify="left", min_width=len(title))
    table.add_column("part")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for part, seconds in shares.seconds.items():
        table.add_row(part, f"{seconds:.1f}", f"{seconds / (shares.reserved_seconds or 1):.1%}")
    return table


def print_report(
    console: Console, study: Study, results: Results, shares: Shares, accelerator: str, best: dict[str, Any] | None
) -> None:
    """The end of a study: results, cost, best trial as JSON, next commands."""
    console.print(results_table(study, results.rows))
    for row in results.rows:
        if row.outcome in ("failed", "diverged"):
            print_line(console, f"trial {row.number} {row.outcome}: {row.reason}")
    console.print(cost_table(shares, accelerator))
    console.print(f"train + evaluate: {shares.utilization:.1%} of the reserved device time", highlight=False)
    if best is not None:
        console.print("best trial:", highlight=False)
        print_line(console, json.dumps(best, indent=2))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _score(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
