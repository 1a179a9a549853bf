"""Report of a comparison over tasks, one HTML file as that of a single benchmark is. Pure.

Path("report.html").write_text(files(compare_tasks(tasks))[REPORT])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpo.analysis.across.comparison import AcrossTasks
from hpo.analysis.conditions.planned import EVERY_PAIR
from hpo.report.across import figures, sentences, tables
from hpo.report.figures.plots import Figure, LeftOut
from hpo.report.html import REPORT as REPORT
from hpo.report.html import Extent, data_files, render


def files(found: AcrossTasks) -> dict[str, str]:
    """Write the report and the data of each figure: `report.html`, and `figure_<name>.csv` for those that have data."""
    drawn = figures.all_of(found)
    return {REPORT: _page(found, drawn), **data_files(drawn)}


def smaller(found: AcrossTasks) -> Iterator[str]:
    """Write the report for a store that refuses it for its size: without plots, then without their data."""
    drawn = figures.all_of(found)
    yield _page(found, drawn, Extent.DATA)
    yield _page(found, drawn, Extent.TABLES)


def facts(found: AcrossTasks) -> dict[str, str]:
    """List the numbers of the comparison."""
    seeds = sorted({len(blocks) for blocks in found.blocks.values()})
    budgets = sorted({task.budget for task in found.tasks})
    replayed = sum(bool(task.replay) for task in found.tasks)
    return {
        "tasks": f"{len(found.tasks)}" + f", {replayed} of them replayed" * bool(replayed),
        "methods with scores on all of them": str(len(found.regrets)),
        "seeds on a task": " to ".join(dict.fromkeys((str(seeds[0]), str(seeds[-1])))),
        "budget of a study": f"{' or '.join(str(budget or 'several') for budget in budgets)} full trainings",
        "methods are compared with": "every other" if found.reference == EVERY_PAIR else found.reference,
    }


def _page(found: AcrossTasks, drawn: Sequence[Figure | LeftOut], extent: Extent = Extent.WHOLE) -> str:
    beside = [text for text in (sentences.SCALE, sentences.intervals(found)) if text]
    return render(
        "tasks.html.jinja",
        f"Hyperparameter optimisation on {len(found.tasks)} tasks",
        (tables.tasks_table(found), tables.regrets_table(found), tables.pairs_table(found)),
        drawn,
        extent,
        verdict=sentences.statement(found),
        plan="",
        beside=beside,
        facts=facts(found),
        notes=found.notes,
        is_marked=found.has_mixed_budgets,
        replays=sentences.replays(found),
    )
