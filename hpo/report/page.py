"""Report of a comparison, one HTML file that needs nothing else: verdict, sortable tables, all figures. Pure.

Path("report.html").write_text(files(compare.compare(records.read("nano")))[REPORT])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpo.analysis.compare import Result
from hpo.analysis.statistics.verdicts import Comparison
from hpo.core.wording import counted
from hpo.report import sentences
from hpo.report.columns import HOW_TO_READ, Cell, colored, columns, digits_of, estimate_cell, number_cell
from hpo.report.figures import catalogue
from hpo.report.figures.plots import Figure, LeftOut, styles
from hpo.report.html import REPORT as REPORT
from hpo.report.html import Extent, Table, data_files, render

MAX_LISTED_SEEDS = 20
"""Seeds that are listed one by one, where more follow each other."""


def files(result: Result, figures: Sequence[Figure | LeftOut] | None = None) -> dict[str, str]:
    """Write the report and the data of each figure: `report.html`, and `figure_<name>.csv` for those that have data.

    Args:
        result: the comparison.
        figures: its figures; by default all but the importance of hyperparameters, see `catalogue.all_of`.
    """
    drawn = catalogue.all_of(result) if figures is None else figures
    return {REPORT: _page(result, drawn), **data_files(drawn)}


def smaller(result: Result, figures: Sequence[Figure | LeftOut] | None = None) -> Iterator[str]:
    """Write the report for a store that refuses it for its size: without plots, then without their data.

    Args:
        result: the comparison.
        figures: see `files`.
    """
    drawn = catalogue.all_of(result) if figures is None else figures
    yield _page(result, drawn, Extent.DATA)
    yield _page(result, drawn, Extent.TABLES)


# ---- facts


def facts(result: Result) -> dict[str, str]:
    """List the benchmark, budgets, seeds and numbers of the comparison."""
    studies = [study for contestant in result.contestants for study in contestant.studies.values()]
    seeds = sorted({study.seed for study in studies})
    caps = sorted({study.allowance[1] for study in studies if study.allowance[1]})
    budgets = sorted({study.budget for study in studies if not study.traits.is_single_config}) or [0]
    shown = " or ".join(map(str, budgets)) if result.is_marked else str(budgets[0])
    doubled = ", and random search also with twice that" if not result.is_marked and len(budgets) > 1 else ""
    cap = f", within {' or '.join(caps)} device-hours" if caps else ""
    benchmark = result.benchmark
    return {
        "benchmark": f"{benchmark.name}: {benchmark.description}",
        "version": result.digest,
        "accelerator": result.accelerator,
        "budget of a study": f"{shown} full trainings{cap}{doubled}",
        "full training": f"{benchmark.resource.max_units} units of {benchmark.resource.unit_samples} samples",
        "seeds": _listed(seeds),
        "studies": str(len(studies)),
        "trials are chosen by": f"validation {benchmark.metric.replace('_', ' ')} ({benchmark.mode})",
        "confirmations": f"{counted(sum(one.confirmed.trainings for one in result.standings), 'training')}, "
        f"{result.confirmation_hours:.4g} device-hours of their own",
    }


def _listed(seeds: Sequence[int]) -> str:
    """List seeds; many that follow each other by the first and the last."""
    if len(seeds) > MAX_LISTED_SEEDS and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds)) or "none"


# ---- tables


def methods_table(result: Result) -> Table:
    """Lay out one row per contestant."""
    looks, shown = styles(result), columns(result.benchmark)
    first, *others = shown
    return Table(
        "methods",
        f"{HOW_TO_READ} x grid: device-hours divided by those of the manual grid. Reached grid: studies that found "
        "a trial as good as the grid's of the same seed, and the device-hours until half of all studies had.",
        [column.heading for column in shown],
        [
            [colored(first.cell(one), looks[one.name].color), *(column.cell(one) for column in others)]
            for one in result.standings
        ],
        frozenset(column.heading for column in shown if column.is_text),
    )


def others_table(result: Result) -> Table:
    """Lay out one row per pair and metric that is not the verdict's."""
    titles = {metric.on_test: metric.words_on_test for metric in result.benchmark.test_metrics}
    rows = [(titles[name], pair) for name, pairs in result.verdicts.others.items() for pair in pairs]
    return Table(
        "others",
        "The same pairs by the other metrics of the test split. p (Holm) is corrected over all metrics together, the "
        "metric of the verdicts included.",
        ("metric", "a", "b", "verdict", "blocks", "a - b", "P(a > b)", "p", "p (Holm)"),
        [[Cell(title, title), *_pair_row(pair)[:-1]] for title, pair in rows],
        frozenset({"metric", "a", "b", "verdict"}),
    )


def pairs_table(result: Result) -> Table:
    """Lay out one row per pair; a reason that all share is said once."""
    pairs, score = result.pairs, sentences.test_score(result)
    reasons = {pair.reason for pair in pairs}
    is_shared = len(reasons) == 1 < len(pairs)
    shared = f" The same of all pairs: {reasons.pop()}." if is_shared else ""
    headings = ("a", "b", "verdict", "blocks", "a - b", "P(a > b)", "p", "p (Holm)", *(() if is_shared else ("why",)))
    split = result.verdicts.split
    records = () if split is None else ("a - b, other records",)
    sampled = (
        " Other records: the same difference over resampled records of the test split and blocks."
        if split is not None
        else ""
    )
    return Table(
        "pairs",
        f"{score[0].upper()}{score[1:]} of a less that of b on the blocks (seeds) that both have. p: exact Wilcoxon "
        "signed-rank test, Holm-corrected for all pairs of this table. Equivalent: an exact test, corrected alike, "
        f"shows that most blocks differ by less than {result.benchmark.verdict_metric.margin:g}; it says nothing of "
        "rare blocks. A pair that is not resolved is not shown to be equal either."
        f"{sampled}{shared}",
        (*headings, *records),
        [[*_pair_row(pair)[: len(headings)], *_with_records(pair, result)] for pair in pairs],
        frozenset({"a", "b", "verdict", "why"}),
    )


def _with_records(pair: Comparison, result: Result) -> list[Cell]:
    split = result.verdicts.split
    if split is None:
        return []
    ends = split.intervals.get((pair.a, pair.b))
    return [Cell(f"[{ends.low:+z.3f}, {ends.high:+z.3f}]", ends.low) if ends else Cell("-", None)]


def _pair_row(pair: Comparison) -> list[Cell]:
    interval = f"[{pair.interval.low:+z.3f}, {pair.interval.high:+z.3f}]" if pair.interval else ""
    difference = pair.mean_difference
    words = {"better": "a is better", "worse": "a is worse"}
    said = words.get(pair.verdict, pair.verdict)
    return [
        Cell(pair.a, pair.a),
        Cell(pair.b, pair.b),
        Cell(said, said),
        Cell(str(pair.num_blocks), pair.num_blocks),
        Cell("-" if difference is None else f"{difference:+z.3f}", difference, interval),
        estimate_cell(pair.probability_of_improvement, 2),
        number_cell(pair.p_value, ".3g"),
        number_cell(pair.p_holm, ".3g"),
        Cell("", pair.reason, pair.reason),
    ]


def shrinkage_table(result: Result) -> Table:
    """Lay out one row per confirmed study."""
    looks, metric = styles(result), result.benchmark.verdict_metric
    less, form = "chosen less test" if metric.higher_is_better else "test less chosen", f".{digits_of(metric)}f"
    return Table(
        "shrinkage",
        f"{metric.title} of each incumbent: as it was chosen, and the mean when it was trained again with fresh seeds. "
        f"Worse by: {less}.",
        ("method", "seed", "chosen by", "again, validation", "again, test", "worse by", "trainings"),
        [
            [
                Cell(one.name, one.name, color=looks[one.name].color),
                Cell(str(one.seed), one.seed),
                *(number_cell(value, form) for value in (one.selected, one.validation, one.test)),
                number_cell(metric.gain(one.selected, one.test), f"+{form}"),
                Cell(str(one.trainings), one.trainings),
            ]
            for one in result.shrinkage
        ],
        frozenset({"method"}),
    )


# ---- the page


def _page(result: Result, drawn: Sequence[Figure | LeftOut], extent: Extent = Extent.WHOLE) -> str:
    return render(
        "report.html.jinja",
        f"Hyperparameter optimisation on {result.benchmark.name}",
        (methods_table(result), pairs_table(result), others_table(result), shrinkage_table(result)),
        drawn,
        extent,
        verdict=sentences.verdict(result),
        plan=result.plan.sentence,
        beside=sentences.beside(result),
        facts=facts(result),
        notes=result.notes,
        is_marked=result.is_marked,
        replays=[told] if (told := sentences.replayed(result)) else [],
    )
