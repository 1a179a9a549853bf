"""The live view of a study while it runs, and its report at the end.

On a terminal one panel is redrawn in place. Elsewhere (a log file, a pipe) a line is printed when a trial ends (at most
one line every five seconds), or when half a minute has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks.clock import REAL
from hpo.core.books import Books
from hpo.core.results import counts
from hpo.core.study import Study
from hpo.terminal.console import print_line
from hpo.terminal.tables import clock, describe_incumbent, tokens_table

if TYPE_CHECKING:  # it imports Ray, which tables of stored studies do without
    from hpo.core.budget import Budget

LINE_SECONDS, QUIET_SECONDS = 5.0, 30.0
REDRAW_SECONDS = 0.5


@dataclass(frozen=True)
class SuitePosition:
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
        study: the study that runs.
        books: its trials and device time, as they come.
        budget: units spent.
        console: where to print.
        place: the place of the study in a suite.
    """

    def __init__(
        self,
        study: Study,
        books: Books,
        budget: Budget,
        console: Console,
        place: SuitePosition | None = None,
    ) -> None:
        self._place = place
        self._study, self._books, self._budget, self._console = study, books, budget, console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_shown, self._ended, self._paused = REAL.now(), 0, 0
        self._has_shown_tokens = False
        self._warned: set[str] = set()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live:
            self._live.stop()

    @property
    def is_due(self) -> bool:
        """Tell whether it may be time to redraw, or to print a line, without a look at the trials."""
        shows_tokens = self._books.tokens and not self._has_shown_tokens
        seconds = REDRAW_SECONDS if self._live else LINE_SECONDS
        return bool(shows_tokens) or REAL.now() - self._last_shown >= seconds

    def show(self, now: float, paused: int = 0) -> None:
        """Redraw, or print a line if one is due; before the first one, print the statistics of the data.

        Args:
            now: seconds since the study began.
            paused: how many of the running trials wait with a checkpoint.
        """
        self._paused = paused
        self._show_tokens()
        quiet = REAL.now() - self._last_shown
        ended = sum(row.outcome != "running" for row in self._books.rows)
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
        self._last_shown, self._ended = REAL.now(), ended

    def warn(self, of: str, fault: str) -> None:
        """Print once that a part does not work, and once that it works again; the study continues meanwhile.

        Args:
            of: the part.
            fault: its fault; empty if it works.
        """
        if bool(fault) == (of in self._warned):
            return
        self._warned ^= {of}
        print_line(self._console, f"warning: {fault}" if fault else f"the {of} works again")

    def _show_tokens(self) -> None:
        """Print the tokens once they are known, except in a suite, which has shown them before its studies."""
        if self._books.tokens and not self._has_shown_tokens and self._place is None:
            self._has_shown_tokens = True
            self._console.print(tokens_table(self._books.tokens, self._study.benchmark.task))

    def _facts(self, now: float) -> list[str]:
        outcomes = counts(self._books.rows)
        live = outcomes.pop("running", 0)
        paused = min(self._paused, live)
        shown = {"running": live - paused, "paused": paused, **outcomes}
        states = ", ".join(f"{number} {name}" for name, number in shown.items() if number) or "starting"
        return [
            *([f"study {self._place.number} of {self._place.studies}"] if self._place else []),
            f"[{clock(now)}] {self._study.name}: {self._budget.spent}/{self._budget.units} units",
            f"left {self._time_left(now)}",
            f"best {describe_incumbent(self._study, self._books)}",
            f"trials: {states}",
            f"useful {self._books.shares(now).utilization:.0%} of device time",
        ]

    def _time_left(self, now: float) -> str:
        if not self._budget.spent:
            return "?"
        seconds_per_unit, units = now / self._budget.spent, self._budget.units - self._budget.spent
        text = f"about {clock(seconds_per_unit * units)}"
        if self._place and self._place.units_after:
            text += f", {clock(seconds_per_unit * (units + self._place.units_after))} for all studies"
        return text
