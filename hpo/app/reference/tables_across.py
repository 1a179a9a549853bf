"""Columns of the files that `compare` writes over several benchmarks, for the page of stored names."""

from __future__ import annotations

import csv

from benchmarks.spec import Benchmark
from hpo.analysis.across.comparison import AcrossTasks, TaskPair
from hpo.analysis.across.task_scores import RegretScale, TaskScores, conditions_of
from hpo.analysis.statistics.estimates import Estimate
from hpo.analysis.statistics.hierarchical import FurtherTask
from hpo.analysis.studies import StudyRecord
from hpo.app.reference.tables_of_files import with_meanings
from hpo.report.across import tables

TASKS = {
    "task": "name of the benchmark",
    "identity": "checksum of model, data, resource and metric; a replay has that of the benchmark that it replays",
    "metric": "the metric that was tuned, on test",
    "best_known": "the best confirmed score of any block: a regret of 0",
    "best_by": "the method that has it",
    "random_median": "the median of random search's blocks: a regret of 1",
    "margin": "the difference of the metric that does not matter",
    "seeds": "seeds that all methods here have",
    "budget": "full trainings of a study; 0 for several budgets",
    "accelerator": "device of the studies",
    "devices": "number of devices of a study",
    "protocol": "version of the [protocol](../protocol.md)",
    "replayed": "`True` for replayed studies",
}
"""Meanings of the columns of `tasks.csv`."""
REGRETS = {
    "method": "the method, with its arguments other than the defaults",
    "task": "name of the benchmark",
    "seed": "the study's seed: the block",
    "score": "the confirmed score on test, in the metric's unit",
    "regret": "[normalised regret](../comparing.md#several-benchmarks) of the score",
}
"""Meanings of the columns of `regrets.csv`."""
_OVER_TASKS = "of an interval over other tasks too; empty below 5 tasks"
METHODS = {
    "method": REGRETS["method"],
    "tasks": "number of tasks, all of them",
    "runs": "number of its studies that count",
    "mean_regret": "mean normalised regret, tasks counted alike; this and the next columns are empty below 3 tasks",
    "mean_regret_low": "lower end of its 95 % interval over other seeds on these tasks; empty below 5 seeds",
    "mean_regret_over_tasks_low": f"lower end {_OVER_TASKS}",
    "mean_regret_over_tasks_high": f"upper end {_OVER_TASKS}",
    "iqm_regret": "interquartile mean of regrets, tasks counted alike",
    "iqm_regret_low": "as for the mean",
    "iqm_regret_over_tasks_low": f"lower end {_OVER_TASKS}",
    "iqm_regret_over_tasks_high": f"upper end {_OVER_TASKS}",
    "mean_rank": "mean rank over tasks, 1 is the best; empty below 3 methods too",
    "regret_<task>": "mean normalised regret on the task",
}
"""Meanings of the columns of `comparison.csv` over several benchmarks."""
PAIRS = {
    "a": "a method",
    "b": "the method that it is compared with",
    "p_better": "probability that `a` is better by more than the metric's margin on a further task",
    "p_equal": "probability that both are within the margin there",
    "p_worse": "probability that `a` is worse by more than the margin there",
    "doubt_holm": "probability that the likeliest of the three does not hold, corrected for all pairs; a statement "
    "takes 0.05 or less",
    "typical_margins": "centre of the tasks' mean differences in margins, above 0 where `a` is better",
    "typical_margins_low": "lower end of its 95 % credible interval",
    "statement": "`better`, `practically equal`, `worse` or `not resolved`: of `a`, against `b`",
    "tasks_needed": "number of tasks that would resolve the pair, if further ones turned out as these did; empty where "
    "it is resolved, or would not be with 32 times as many",
}
"""Meanings of the columns of `pairs.csv` over several benchmarks."""
FILES = {
    "tasks.csv": (
        "tasks.csv",
        TASKS,
        "One row per task. `compare` over several benchmarks writes it and the next three.",
    ),
    "regrets.csv": ("regrets.csv", REGRETS, "One row per method, task and seed."),
    "comparison.csv": ("comparison.csv over several benchmarks", METHODS, "One row per method."),
    "pairs.csv": ("pairs.csv over several benchmarks", PAIRS, "One row per pair."),
}
"""Title of each file, meanings of its columns, and of its rows."""


def columns(file: str, benchmark: Benchmark) -> dict[str, str]:
    """Return the columns of a file with their meanings, as `hpo.report.across.tables` writes it."""
    [header, *_] = csv.reader(tables.files(_nothing(benchmark))[file].splitlines())
    _, meanings, _ = FILES[file]
    return with_meanings(dict.fromkeys(header), meanings, benchmark)


def _nothing(benchmark: Benchmark) -> AcrossTasks:
    """Make a comparison whose files have a row each."""
    task = TaskScores(
        benchmark=benchmark.model_copy(update={"name": "<task>"}),
        identity="",
        scores={"": {0: 0.0}},
        untuned=frozenset(),
        scale=RegretScale(benchmark.verdict_metric, 1.0, "", 0.0),
        budget=0,
        conditions=conditions_of(StudyRecord("", "", "", 0, 0, {}, {}, 0, {})),
        replay="",
        notes=(),
    )
    pair = TaskPair("", "", FurtherTask(0.0, 1.0, 0.0, Estimate(0.0, None)), 0.0)
    regrets = {"": {task.name: {0: 0.0}}}
    return AcrossTasks([task], {task.name: (0,)}, regrets, frozenset(), "", [], aggregates={}, pairs=[pair])
