"""Columns of the files that `compare` writes and of a bank, for the page of stored names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import get_args

from benchmarks.banks import bank
from benchmarks.banks.bank import EACH, TEST, Header
from benchmarks.banks.training import BankOutcome, BankTraining, BankUnit, Source
from benchmarks.spec import Benchmark
from hpo.analysis.standings import ConfirmedScores, Costs, GridRace, Shrinkage, Standing
from hpo.analysis.statistics.paired_tests import Equivalence
from hpo.analysis.statistics.verdicts import Comparison
from hpo.app.reference.keys import meanings
from hpo.core.ledger import PARTS
from hpo.report import tables

INTERVAL = {"_low": "lower end of its 95 % interval; empty below 5 blocks", "_high": "upper end of it"}
CONTESTANT = {
    "method": "the method, with its arguments other than the defaults",
    "studies": "number of its studies that have ended",
    "seeds": "their seeds",
    "budget": "full trainings of each; 0 for a contestant without studies",
    "trials": "number of trials of all its studies",
    "completed": "of these: reached the full resource",
    "stopped": "of these: stopped early",
    "diverged": "of these: lost their loss",
    "failed": "of these: ended by an error",
    "validation_<metric>": "the benchmark's metric of its incumbents, which chose them; mean over seeds",
    "test_<metric>": "each metric of the incumbents on test, trained again with fresh seeds; mean over seeds",
    "trainings": "number of fresh trainings",
    "diverged_trainings": "number of them that diverged",
    "blocks": "number of seeds with a score on test",
    "failed_blocks": "number of these that count as the worst: no incumbent, or a fresh training diverged",
    "failed_studies": "number of studies that ended with an error, without a score",
    "model_share": "share of a study's trials that a model proposed, the mean; empty for methods without a model",
    "device_hours": "of a study, mean; reserved devices x time",
    "gpu_hours": "of a study, mean; 0 on CPUs",
    **{f"device_hours_{part}": f"device-hours of the ledger's part `{part}`, mean of a study" for part in PARTS},
    "wall_seconds": "of a study, mean",
    "units": "resource units of a study, mean, those of failed attempts included",
    "cost_of_grid": "its device-hours divided by the manual grid's; empty without a grid",
    "reached_grid": "number of its studies whose incumbent was as good as the grid's of the same seed",
    "with_grid": "number of its studies that have a grid of the same seed",
    "device_hours_to_grid": "device-hours until half of all studies are there (Kaplan and Meier); empty if fewer are",
    "expected_hours_to_grid": "device-hours of all studies, divided by the number of those that got there",
    "over_random": "probability that one of its studies beats one of random search",
}
"""Meanings of the columns of `comparison.csv`."""
PAIR = {
    "a": "a method",
    "b": "the method that it is compared with",
    "metric": "the metric on test; the metric of verdicts has the first rows",
    "blocks": "number of seeds with a score of both",
    "mean_difference": "mean of `a` - `b` in the metric's unit",
    "low": "lower end of its 95 % interval, over seeds; empty below 5 blocks",
    "high": "upper end of it",
    "low_over_records": "the same end of an interval over seeds and the test split's records",
    "high_over_records": "its upper end",
    "a_over_b": "probability that a study of `a` beats one of `b`",
    "p": "of the exact two-sided signed-rank test",
    "p_holm": "the same, corrected for all comparisons made together",
    "within_margin": "number of blocks whose difference is within the metric's margin",
    "beyond_margin_at_most": "upper bound of the share of blocks beyond the margin (Clopper-Pearson)",
    "p_equivalence_holm": "p of a typical difference within the margin, corrected likewise",
    "verdict": "`better`, `worse`, `equivalent` or `not resolved`: of `a`, against `b`",
    "reason": "evidence of the verdict, in a sentence",
}
"""Meanings of the columns of `pairs.csv`."""
BANK = {
    "configuration": "number of the configuration, from 0: the same for all its seeds",
    "source": f"origin of the configuration: {'`, `'.join(get_args(Source)).join('``')}",
    "outcome": f"{'`, `'.join(get_args(BankOutcome)).join('``')}; `stopped` in collected studies alone",
    "<hyperparameter>": "each hyperparameter in a column of its name",
    "unit": "resource units trained with it, from 1; 0 in the one row of a training without a unit",
    "<metric>": "`eval_loss` and the task's metrics on validation, after the unit",
    "test_<metric>": "the same on the test split, at the end; in the last row",
    "each_<figure>": "figures of each record of the test split, in the order of its file; in the last row. "
    "`each_answer_tokens` weights `each_eval_loss`",
}
"""Meanings of a bank's columns that no field of a training names."""


def comparison(benchmark: Benchmark) -> dict[str, str]:
    """Return the columns of `comparison.csv` with their meanings."""
    unknown = ConfirmedScores(None, {metric.on_test: None for metric in benchmark.test_metrics}, 0, 0, 0, 0)
    costs, grid = Costs(None, None, {}, True, None, None), GridRace(None, 0, 0, None)
    nothing = Standing("", (), 0, {}, None, unknown, costs, grid, None)
    return with_meanings(tables.standing_row(nothing, benchmark), CONTESTANT, benchmark)


def pairs(benchmark: Benchmark) -> dict[str, str]:
    """Return the columns of `pairs.csv` with their meanings."""
    same = Equivalence(1.0, 0, 0, 1.0, 1.0)
    nothing = Comparison("", "", 0, None, None, None, 1.0, 1.0, same, 1.0, "not resolved", "")
    return with_meanings(tables.pair_row(nothing, benchmark.verdict_metric.on_test, None), PAIR, benchmark)


def shrinkage() -> dict[str, str]:
    """Return the columns of `shrinkage.csv` with their meanings."""
    known = meanings(Shrinkage)
    return {field.name: known[field.name] for field in fields(Shrinkage)}


def of_bank(benchmark: Benchmark) -> dict[str, str]:
    """Return the columns of a bank with their meanings, with one name for all hyperparameters, and for all metrics."""
    names, modes = zip(*((metric.name, metric.mode) for metric in benchmark.metrics), strict=True)
    header = Header(
        name="", max_units=1, metric=benchmark.metric, hyperparameters=("<hyperparameter>",), metrics=names, modes=modes
    )
    known = {**meanings(BankUnit), **meanings(BankTraining), **BANK}
    columns = bank.column_names(header, ["<figure>"])
    general = (_general(name, benchmark) if not name.startswith(EACH) else name for name in columns)
    return {name: known[name] for name in dict.fromkeys(general)}


def with_meanings(row: Mapping[str, object], known: dict[str, str], benchmark: Benchmark) -> dict[str, str]:
    """Return a row's columns with their meanings: a column without one is an error.

    Args:
        row: a row as the code that writes the file makes it.
        known: meanings by column, with placeholders for metrics; the ends of an interval need none.
        benchmark: the benchmark whose metrics have placeholders.
    """
    found = {}
    for name in row:
        end = next((end for end in INTERVAL if name.endswith(end) and name.removesuffix(end) in row), "")
        general = _general(name.removesuffix(end), benchmark)
        found[general + end] = known.get(general + end) or (INTERVAL[end] if end else known[general])
    return found


def _general(name: str, benchmark: Benchmark) -> str:
    """Return a column's name with a placeholder for a metric."""
    metrics = [metric.name for metric in benchmark.metrics]
    for before in ("validation_", TEST, ""):
        if name.startswith(before) and name.removeprefix(before) in metrics:
            return f"{before}<metric>"
    return name
