"""Sentences of a comparison over tasks, for the terminal and for the page alike. Pure."""

from __future__ import annotations

from hpo.analysis.across.comparison import CREDIBLE, AcrossTasks, TaskPair
from hpo.analysis.statistics.estimates import MIN_BLOCKS
from hpo.analysis.statistics.hierarchical import MIN_TASKS
from hpo.core.wording import counted

MAX_SHOWN = 0.999
"""Largest probability that is told by itself: a model of few tasks is no surer."""
SCALE = (
    "Normalised regret: 0 is the best confirmed score of any block on the task, 1 the median of random search's blocks "
    "there. Both are scores on test of the metric that was tuned. Less is better, and above 1 is worse than random "
    "search."
)


def statement(found: AcrossTasks) -> str:
    """Write the answer across tasks, or that there are too few of them."""
    number = len(found.tasks)
    if not found.has_statement:
        return (
            f"{counted(number, 'task')}: too few for a statement across tasks, which takes {MIN_TASKS}. Seeds are not "
            "benchmarks: more of them do not make up for tasks. Each regret holds on its own task alone."
        )
    if not found.pairs:
        return f"No statement across {number} tasks: it takes two methods with scores on all of them."
    stated = [in_words(pair) for pair in found.pairs if pair.statement != "not resolved"]
    others = [pair for pair in found.pairs if pair.statement == "not resolved"]
    told = f"On a further task like these {number}: {'; '.join(stated)}. " if stated else ""
    if not others:
        return told.strip()
    rest = ", ".join(f"{pair.a} against {pair.b}" for pair in others[:4]) + ", ..." * (len(others) > 4)
    corrected = f", corrected for {len(found.pairs)} pairs" if len(found.pairs) > 1 else ""
    return (
        f"{told}Not resolved across {number} tasks: {rest}; no outcome on a further task has a probability of "
        f"{CREDIBLE:g}{corrected}. {_outlook(others)}"
    )


def _outlook(others: list[TaskPair]) -> str:
    """Say how many tasks would resolve the pairs that are open, if further ones turned out as these did."""
    known = sorted((pair.tasks_needed, pair.a, pair.b) for pair in others if pair.tasks_needed is not None)
    if not known:
        return "More tasks like these would not resolve them either: the outcome changes from task to task."
    first, a, b = known[0]
    rest = f", and for {counted(len(known), 'pair')} up to {known[-1][0]}" if len(known) > 1 else ""
    return f"If further tasks turned out as these did, {a} against {b} would take {first} tasks{rest}."


def needed(pair: TaskPair) -> str:
    """Write the number of tasks that would resolve a pair."""
    if pair.statement != "not resolved":
        return "-"
    return "no number" if pair.tasks_needed is None else str(pair.tasks_needed)


def in_words(pair: TaskPair) -> str:
    """Write a statement with its probability."""
    joined = {"better": "better than", "practically equal": "practically equal to", "worse": "worse than"}
    if pair.statement == "not resolved":
        return f"{pair.a} and {pair.b}: not resolved"
    chance = pair.chances[pair.statement]
    shown = f"{chance:.3f}" if chance < MAX_SHOWN else f"more than {MAX_SHOWN:g}"
    return f"{pair.a} is {joined[pair.statement]} {pair.b} with a probability of {shown}"


def intervals(found: AcrossTasks) -> str:
    """Tell the meaning of the intervals, or the reason why there are none; empty without aggregates."""
    if not found.aggregates:
        return ""
    fewest = min(map(len, found.blocks.values()))
    seeds = "other seeds on these tasks" if fewest >= MIN_BLOCKS else ""
    tasks = "other tasks like these, and other seeds on them" if len(found.tasks) >= MIN_BLOCKS else ""
    there = [told for told in (seeds, tasks) if told]
    lacking = [
        *([f"over seeds below {MIN_BLOCKS} on each task"] * (not seeds)),
        *([f"over tasks below {MIN_BLOCKS} of them"] * (not tasks)),
    ]
    told = f"95 % intervals of a stratified bootstrap: {'; '.join(there)}." if there else ""
    return f"{told} No interval {' or '.join(lacking)}.".strip() if lacking else told


def replays(found: AcrossTasks) -> list[str]:
    """Say of each replayed task that its studies were replayed, and how far that may be trusted."""
    return [f"{task.name}: {task.replay}." for task in found.tasks if task.replay]
