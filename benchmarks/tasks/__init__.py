"""Tasks: how a record becomes tokens, and how an answer is scored. A file or folder here is a task.

A task is found by its name, which is the file's; nothing is registered elsewhere. Its module has `TASK`, an instance of
`task.Task`. A benchmark chooses it with the key `task` of its `finetune` block.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from benchmarks.files import BenchmarkError
from benchmarks.tasks.task import RESERVED_NAMES, Task

NOT_TASKS = frozenset(("task", "record_scores", "sources", "sequences"))
"""The modules here that are no tasks: the contract, and what tasks have in common."""
DEFAULT = "question_answering"
"""Task of a benchmark that names none."""


def names() -> list[str]:
    """Return the names of all tasks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in NOT_TASKS)


@cache
def get(name: str) -> Task[Any]:
    """Return a task.

    Raises:
        BenchmarkError: there is none of this name, or its file does not keep to the contract.
    """
    if name not in names():
        raise BenchmarkError(f"no task named {name!r}; choose one of {', '.join(names())}")
    task = getattr(importlib.import_module(f"{__name__}.{name}"), "TASK", None)
    if not isinstance(task, Task):
        raise BenchmarkError(f"task {name}: its file has no `TASK`, an instance of a subclass of benchmarks.tasks.Task")
    _require_metrics(name, task)
    return task


def _require_metrics(name: str, task: Task[Any]) -> None:
    """Require metrics with usable names of their own."""
    own = [metric.name for metric in task.metrics]
    unfit = [metric for metric in own if not metric.isidentifier()]
    if unfit:
        raise BenchmarkError(f"task {name}: a metric is named {unfit[0]!r}, but must be letters, digits and '_'")
    taken = [metric for metric in own if metric in RESERVED_NAMES or own.count(metric) > 1]
    if taken:
        raise BenchmarkError(f"task {name}: a metric is named {taken[0]!r}, which is taken; give it another name")
