"""Tasks that can stand side by side, and the methods and blocks that all of them have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.spec import BenchmarkError
from hpo.analysis.across.task_scores import TaskScores
from hpo.analysis.statistics.selection import common_blocks


@dataclass(frozen=True)
class Common:
    """The ground that tasks share.

    Attributes:
        tasks: the tasks.
        methods: with a score in each block.
        blocks: by task, the seeds that count there.
        notes: sentences about tasks and methods that are left out, and conditions that differ.
    """

    tasks: list[TaskScores]
    methods: list[str]
    blocks: Mapping[str, tuple[int, ...]]
    notes: list[str]


def common_ground(tasks: Sequence[TaskScores], mixed_budgets: bool = False) -> Common:
    """Find the methods and blocks that all tasks share.

    Args:
        tasks: the tasks.
        mixed_budgets: take tasks with different budgets, and say so.

    Raises:
        BenchmarkError: no task, tasks with different budgets, or no method with a score on all of them.
    """
    kept, notes = _distinct(tasks)
    notes += _differing(kept, mixed_budgets)
    shared = [method for method in kept[0].scores if all(method in task.scores for task in kept)]
    blocks = {task.name: common_blocks({method: task.scores[method] for method in shared}) for task in kept}
    notes += _partly(kept)
    methods = []
    for method in shared:
        lacking = [task.name for task in kept if not set(blocks[task.name]) <= set(task.scores[method])]
        if lacking:
            notes.append(f"left out: {method} lacks seeds that most methods have, on {', '.join(lacking)}")
        else:
            methods.append(method)
    if not methods:
        there = "; ".join(f"{task.name}: {', '.join(task.scores)}" for task in kept)
        raise BenchmarkError(
            f"no method has confirmed scores on all of {len(kept)} tasks ({there}); run and confirm the same methods "
            "on each"
        )
    return Common(kept, methods, blocks, notes)


def has_mixed_budgets(tasks: Sequence[TaskScores]) -> bool:
    """Tell whether budgets differ between tasks, or within one."""
    budgets = {task.budget for task in tasks}
    return len(budgets) > 1 or 0 in budgets


def _distinct(tasks: Sequence[TaskScores]) -> tuple[list[TaskScores], list[str]]:
    """Keep one of the tasks that are the same, such as a benchmark and its replay."""
    kept: dict[str, TaskScores] = {}
    notes = []
    for task in tasks:
        if task.identity in kept:
            notes.append(f"left out: {task.name} is the task of {kept[task.identity].name}, which counts once")
        else:
            kept[task.identity] = task
    if not kept:
        raise BenchmarkError("there is no task to compare; run, confirm and name benchmarks first")
    return list(kept.values()), notes


def _differing(tasks: Sequence[TaskScores], mixed_budgets: bool) -> list[str]:
    """Name the conditions in which tasks differ.

    Raises:
        BenchmarkError: tasks with different budgets, unless they were asked for.
    """
    notes = []
    if has_mixed_budgets(tasks):
        shown = ", ".join(f"{task.name}: {task.budget or 'several'}" for task in tasks)
        if not mixed_budgets:
            raise BenchmarkError(
                f"tasks have different budgets ({shown}), but methods are compared at equal ones; choose with "
                "--budget, or --mixed-budgets true compares them all and says so"
            )
        notes.append(f"budgets differ ({shown}): these figures do not compare methods at equal cost")
    for condition in tasks[0].conditions:
        values = {task.name: task.conditions[condition] for task in tasks}
        if len(set(values.values())) > 1:
            notes.append(f"tasks differ in {condition}: {', '.join(f'{name} {own}' for name, own in values.items())}")
    return notes


def _partly(tasks: Sequence[TaskScores]) -> list[str]:
    """Name the methods without a score on some of the tasks."""
    lacking = {
        method: [task.name for task in tasks if method not in task.scores]
        for method in dict.fromkeys(name for task in tasks for name in task.scores)
    }
    return [f"left out: {method} has no confirmed score on {', '.join(on)}" for method, on in lacking.items() if on]
