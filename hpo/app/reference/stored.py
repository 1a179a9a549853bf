"""The page of everything that a study stores: metrics, tags, and the columns of its CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from benchmarks import spec, tasks
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import LOSS, Metric, TokenStatistics
from hpo.analysis.replayed import table
from hpo.analysis.replayed.records import FILE as REPLAYED
from hpo.analysis.replayed.study import OUTCOMES, FreshTraining, Improvement, ReplayedStudy
from hpo.app.reference import tables_across, tables_of_files
from hpo.app.reference.keys import meanings
from hpo.core import metrics as unit_metrics
from hpo.core.ledger import PARTS
from hpo.core.results import TrialRow, UnitRow
from hpo.core.text_tables import markdown_cell, markdown_table
from hpo.store import files

HEADER = """\
# Metrics, tags and columns

Made by `python -m hpo reference --output docs`. A study is a run in MLflow with its trials as runs below it. Its CSV
files are artifacts of the study's run. [Exit statuses](../troubleshooting.md#exit-statuses) are on another page.
"""
UNIT_METRICS = {
    "perplexity": "exponential of `eval_loss`",
    "train_loss": "mean loss of the unit's training steps",
    "samples_per_second": "training only",
    "peak_memory_mb": "allocated on the GPU, or resident in the process; the largest of the trial's ranks",
    "skipped_steps": "optimizer steps of the unit that DeepSpeed skipped, since gradients were not finite",
}
"""Meanings of a unit's metrics that no task names."""
STUDY_METRICS = {
    "num_trials": "trials that began",
    "units": "resource units that were trained",
    "device_hours": "reserved devices x time, idle devices included",
    "gpu_hours": "the same on GPUs; 0 without",
    "wall_seconds": "time from the study's begin to its end, without interruptions",
    "utilization": "share of the device time that trained or evaluated",
    "skipped_proposals": "proposals that were not trained, since they would have run out of memory",
    **{f"device_hours_{part}": f"device-hours of the ledger's part `{part}`" for part in PARTS},
    "best_<metric>": "each metric of the incumbent: the best trial at the full resource",
    "<split>_mean_tokens": "mean length of the split's prompts with their answers",
    "<split>_truncated_share": "share of the split's contexts that were cut to `max_length`",
}
"""Metrics of a study's run, with their meanings."""
STUDY_TAGS = {
    "hpo.kind": "`study`; runs of other commands have their own, such as `confirmation` or `training`",
    "hpo.method": "its method",
    "hpo.variant": "its method's arguments that are not the defaults",
    "hpo.benchmark": "name of the benchmark",
    "hpo.seed": "its seed",
    "hpo.budget": "its budget in full trainings",
    "hpo.gpu_hours": "its cap in device-hours; empty without",
    "hpo.accelerator": "its device, such as `cpu` or `NVIDIA A100`",
    "hpo.precision": "arithmetic of its trials",
    "hpo.protocol": "version of the [protocol](../protocol.md)",
    "hpo.benchmark_digest": "checksum of model, data, resource and metric",
    "hpo.space_digest": "checksum of the search space",
    "hpo.fingerprint": "checksum of the whole request; a suite skips a study that is stored already",
    "hpo.plan": "checksum of the plan of the comparison that it was run for (`plan.json`)",
    "hpo.command": "the command that ran it",
    "hpo.slurm_job": "SLURM's id of the job that ran it, if there was one",
    "hpo.version.<package>": "versions of the packages that results depend on",
}
"""Tags of a study's run, with their meanings."""
TRIAL_TAGS = {
    "hpo.kind": "`trial`",
    "hpo.trial": "its number, from 0 in order of creation",
    "hpo.seed": "seed of its model initialisation, dropout and data order",
    "hpo.method": "its study's, as `hpo.variant`, `hpo.benchmark` and `hpo.budget` are",
    "hpo.outcome": "`completed`, `stopped`, `diverged`, `failed` or `interrupted`",
    "hpo.reason": "cause of its end, in a sentence",
    "hpo.exploits": "in populations: number of times that it took over another trial",
    "hpo.failures": "reasons of failed attempts after which it was tried again",
    "hpo.micro_batch": "of a trial that was rescued from running out of memory: samples of a forward pass",
}
"""Tags of a trial's run, with their meanings."""
TRIAL_METRICS = {
    "device_seconds": "all device time of the trial so far, its checkpoints included",
    "units": "resource units reached",
    "hp.<name>": "each hyperparameter that is a number; in populations, its value in the unit",
}
"""Metrics of a trial's run beside those of its units, with their meanings."""
TIMES = {
    "trial": "the trial's number, from 0",
    "ended_seconds": "seconds since the study began at which the row's trial or unit ended",
    **{f"{part}_seconds": f"seconds of the ledger's part `{part}` since the trial's event before" for part in PARTS},
}
"""Meanings of columns that are no field's name."""
LEDGER = {
    "part": f"{', '.join(PARTS)}, and their sum `reserved`",
    "device_seconds": "device time of this part",
    "share": "share of the reserved device time",
}
"""Meanings of the columns of `ledger.csv`."""


DEVICES = {
    "since_seconds": "seconds since the study began from which there were so many",
    "devices": "number of reserved devices",
}
"""Meanings of the columns of `devices.csv`."""


def text() -> str:
    """Write the page."""
    nano = spec.load("nano")
    trial = {**meanings(UnitRow), **meanings(TrialRow), **TIMES}
    parts = [
        HEADER,
        "## Metrics of a task\n",
        *(_task(name) for name in tasks.names()),
        _named(
            "Metrics of a trial",
            ("metric", "meaning"),
            {**_unit_meanings(nano), **TRIAL_METRICS},
            "Each has a value at every unit; the step in MLflow is the unit.",
        ),
        _named("Metrics of a study", ("metric", "meaning"), STUDY_METRICS),
        _named("Tags of a study", ("tag", "meaning"), STUDY_TAGS),
        _named("Tags of a trial", ("tag", "meaning"), TRIAL_TAGS),
        _file(
            "trials.csv",
            files.trials_csv(nano, []),
            trial,
            nano,
            "One row per trial. The hyperparameters are columns "
            "of their own names, between `schedule` and the metrics. Methods with a model have a column "
            "`by_model` too, before `reason`: whether the model proposed the trial.",
        ),
        _file(
            "units.csv",
            files.units_csv(nano, []),
            {**trial, **meanings(UnitRow), **TIMES},
            nano,
            "One row per resource unit, in order of arrival.",
        ),
        _columns("ledger.csv", LEDGER, "One row per part of the [device time](../results.md#device-time)."),
        _file("devices.csv", files.devices_csv([]), DEVICES, nano, "One row per number of reserved devices."),
        _columns(REPLAYED, _replayed(nano), "One row per study of a [replay](../replay.md)."),
        _columns("tokens.csv", meanings(TokenStatistics), "One row per split of the data."),
        _columns(
            "comparison.csv",
            tables_of_files.comparison(nano),
            "One row per contestant, written by `compare` into its output folder, as the next two files are.",
        ),
        _columns("pairs.csv", tables_of_files.pairs(nano), "One row per pair and metric."),
        _columns("shrinkage.csv", tables_of_files.shrinkage(), "One row per incumbent that was trained again."),
        *(
            _columns(title, tables_across.columns(file, nano), about)
            for file, (title, _, about) in tables_across.FILES.items()
        ),
        _columns(
            "A bank's Parquet file",
            tables_of_files.of_bank(nano),
            "One row per unit of a training ([banks](../banks.md#columns)).",
        ),
    ]
    return "\n".join(parts)


def _replayed(benchmark: Benchmark) -> dict[str, str]:
    """Return the columns of replayed studies, with one name for all hyperparameters, and for all metrics."""
    studies, fresh, improved = meanings(ReplayedStudy), meanings(FreshTraining), meanings(Improvement)
    known = {
        **{name: studies[name] for name in (*table.REQUEST, *table.FIGURES)},
        **{outcome: f"number of trials with the outcome `{outcome}`" for outcome in OUTCOMES},
        **{f"{part}_seconds": f"device-seconds of the ledger's part `{part}`" for part in PARTS},
        "config_<name>": studies["config"],
        "best_<metric>": studies["best"],
        "test_<metric>": studies["test"],
        "fresh_seed": f"{studies['fresh']}: their seeds, a list",
        "fresh_device_seconds": f"a list: {fresh['device_seconds']}",
        "fresh_<metric>": "a list: their metrics on validation; empty entries of those that diverged",
        "fresh_test_<metric>": "a list: the same on test",
        **{column: f"a list, per improvement: {improved[name]}" for name, column in table.IMPROVEMENT_COLUMNS.items()},
    }
    names = dict.fromkeys(_general(column, benchmark) for column in table.column_names(benchmark))
    return {name: known[name] for name in names}


def _general(column: str, benchmark: Benchmark) -> str:
    """Return a column's name with a placeholder for a hyperparameter or a metric."""
    if column.startswith("config_"):
        return "config_<name>"
    ends = [metric.name for metric in benchmark.metrics if column.endswith(f"_{metric.name}")]
    return column.removesuffix(ends[0]) + "<metric>" if ends else column


def _task(name: str) -> str:
    rows = [_metric(metric) for metric in (LOSS, *tasks.get(name).metrics)]
    headings = ("metric", "title", "better", "best", "worst", "margin of a verdict")
    return f"### {name}\n\n{markdown_table(headings, rows)}\n"


def _metric(metric: Metric) -> list[str]:
    worst = "`diverged_above`" if metric == LOSS else f"{metric.worst:g}"
    better = "higher" if metric.higher_is_better else "lower"
    return [f"`{metric.name}`", metric.title, better, f"{metric.best_value:g}", worst, f"{metric.margin:g}"]


def _unit_meanings(benchmark: Benchmark) -> dict[str, str]:
    titles = {metric.name: metric.title for metric in benchmark.metrics}
    return {name: titles.get(name) or UNIT_METRICS[name] for name in unit_metrics.of_unit(benchmark)}


def _file(name: str, header: str, known: dict[str, str], benchmark: Benchmark, about: str) -> str:
    """Describe a file by the heading that the code writes: a column without a meaning is an error."""
    [columns] = csv.reader(header.splitlines())
    known = {**known, **_unit_meanings(benchmark)}
    return _columns(name, {column: known[column] for column in columns}, about)


def _columns(name: str, columns: dict[str, str], about: str) -> str:
    return _named(name, ("column", "meaning"), columns, about)


def _named(title: str, headings: tuple[str, str], rows: dict[str, str], about: str = "") -> str:
    cells: Iterable[list[str]] = ([f"`{name}`", markdown_cell(meaning)] for name, meaning in rows.items())
    return "\n\n".join(filter(None, [f"## {title}", about, markdown_table(headings, cells)])) + "\n"
