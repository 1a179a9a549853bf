"""Names of the figures that are stored of a unit and of a confirmation, in the order of tables and files. Pure."""

from __future__ import annotations

from benchmarks.spec import Benchmark
from benchmarks.tasks.task import LOSS, PERPLEXITY, TRAIN_LOSS

RESOURCES = ("samples_per_second", "peak_memory_mb", "skipped_steps")
"""Figures of a unit that are no scores."""


def of_unit(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the names of a unit's figures: loss and perplexity, the task's metrics, the train loss, resources."""
    return (LOSS.name, PERPLEXITY, *(metric.name for metric in benchmark.task.metrics), TRAIN_LOSS, *RESOURCES)


def of_test(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the names of the metrics that a confirmation adds to the last unit of a training."""
    return tuple(metric.on_test for metric in (LOSS, *benchmark.task.metrics))
