"""The table that a replay prints: by method and budget, results and what a study costs, virtual and real. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.spec import Benchmark
from hpo.analysis.replayed.study import ReplayedStudy
from hpo.terminal.tables import clock

CAPTION = (
    "Means over seeds. wall is the virtual clock's: the time that such a study would take. computing is the time that "
    "its replay took one core."
)


def table(studies: Sequence[ReplayedStudy], benchmark: Benchmark) -> Table:
    """Lay out one row per method and budget."""
    found = Table(title=f"replay on {benchmark.name}", caption=CAPTION, box=SIMPLE_HEAD, title_justify="left")
    ranking, verdict = benchmark.ranking_metric, benchmark.verdict_metric
    headings = ("budget", "studies", ranking.words, verdict.words_on_test, "units", "trials", "device-hours", "wall")
    found.add_column("method")
    for heading in (*headings, "computing"):
        found.add_column(heading, justify="right")
    for label, budget in sorted({(study.label, study.budget) for study in studies}, key=lambda pair: pair[::-1]):
        own = [study for study in studies if (study.label, study.budget) == (label, budget)]
        best = [study.best[ranking.name] for study in own if ranking.name in study.best]
        fresh = [one.metrics.get(verdict.on_test, verdict.worst) for study in own for one in study.fresh]
        found.add_row(
            label,
            str(budget),
            str(len(own)),
            _mean(best, ranking.digits),
            _mean(fresh, verdict.digits),
            f"{fmean(study.units for study in own):.0f}",
            f"{fmean(study.num_trials for study in own):.0f}",
            f"{fmean(study.device_seconds for study in own) / 3600:.4f}",
            clock(fmean(study.wall_seconds for study in own)),
            f"{fmean(study.cpu_seconds for study in own):.3f} s",
        )
    return found


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{fmean(values):.{digits}f}" if values else "-"
