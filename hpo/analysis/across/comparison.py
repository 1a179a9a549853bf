"""Comparison of methods over several tasks: a pure function of their scores.

A verdict on one benchmark holds there alone, however many seeds it rests on. Over tasks, the tasks are the sample:
ranks take them as blocks, and the hierarchical model predicts a further one. Fewer than three are no sample, and their
regrets are told without any statement.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Literal

from benchmarks.spec import BenchmarkError
from hpo.analysis.across.common import Common, common_ground, has_mixed_budgets
from hpo.analysis.across.task_scores import TaskScores
from hpo.analysis.conditions.planned import EVERY_PAIR, default_reference
from hpo.analysis.statistics.aggregates import Aggregate, aggregate
from hpo.analysis.statistics.hierarchical import MIN_TASKS, FurtherTask, further_task
from hpo.analysis.statistics.paired_tests import ALPHA, holm
from hpo.analysis.statistics.ranks import Ranking, rank_methods

CREDIBLE = 1 - ALPHA
"""Probability from which a statement about a further task is made, that of all statements together."""
MOST_REPEATS = 32
"""Repetitions of the tasks at most, to find the number of tasks that a statement takes."""
Outcome = Literal["better", "practically equal", "worse"]
Statement = Outcome | Literal["not resolved"]


@dataclass(frozen=True)
class TaskPair:
    """A method beside another, over all tasks.

    Attributes:
        a: the method.
        b: the other.
        further: probabilities for a further task.
        doubt: probability that the likeliest outcome does not hold there, corrected for all pairs; see `doubts`.
        tasks_needed: see `tasks_needed`; None where the pair is resolved.
    """

    a: str
    b: str
    further: FurtherTask
    doubt: float
    tasks_needed: int | None = None

    @property
    def chances(self) -> dict[Outcome, float]:
        """The probability of each outcome on a further task, for a beside b."""
        return chances_of(self.further)

    @property
    def statement(self) -> Statement:
        """The likeliest outcome, for a beside b, if little doubt is left."""
        return likeliest(self.further) if self.doubt <= ALPHA else "not resolved"


def chances_of(further: FurtherTask) -> dict[Outcome, float]:
    """Return the probability of each outcome on a further task."""
    return {"better": further.better, "practically equal": further.equal, "worse": further.worse}


def likeliest(further: FurtherTask) -> Outcome:
    """Return the outcome with the highest probability."""
    chances = chances_of(further)
    return max(chances, key=chances.__getitem__)


def doubts(family: Sequence[FurtherTask]) -> list[float]:
    """Return for each pair the probability that its likeliest outcome does not hold, corrected for the whole family.

    By Holm's steps, as p values are: without them, one of many pairs is soon sure of what holds for none
    (`hpo.planning.task_rates`).
    """
    return holm([max(0.0, 1 - max(chances_of(one).values())) for one in family])


def tasks_needed(differences: Sequence[Sequence[float]], pairs: int) -> int | None:
    """Return the number of tasks from which a statement can be expected, if further ones turn out as these did.

    It is a plan and no promise: the tasks' own differences are uncertain, and the more so the fewer there are.

    Args:
        differences: of the tasks, see `further_task`.
        pairs: of the comparison, for which a statement is corrected.

    Returns:
        A multiple of the number of tasks; None if `MOST_REPEATS` times as many resolve nothing, since the outcome
        differs from task to task.
    """

    def is_open(repeats: int) -> bool:
        further = further_task(differences, repeats)
        return further is None or pairs * (1 - max(chances_of(further).values())) > ALPHA

    if is_open(MOST_REPEATS):
        return None
    tried = range(1, MOST_REPEATS)
    fewest = 1 + bisect_left(tried, True, key=lambda repeats: not is_open(repeats))
    return fewest * len(differences)


@dataclass(frozen=True)
class AcrossTasks:
    """A comparison over tasks.

    Attributes:
        tasks: the tasks.
        blocks: by task, the seeds that count there: those that all methods here have.
        regrets: normalised, by method, task and block; the method with the lowest mean over tasks first.
        untuned: methods among them that search for nothing.
        reference: the method that the others are compared with; "all" for every pair.
        notes: sentences that a reader must know.
        aggregates: over tasks, by method; none for too few tasks.
        ranking: of mean regrets, with the tasks as blocks; None for too few tasks or methods.
        pairs: statements about a further task; none for too few tasks.
    """

    tasks: list[TaskScores]
    blocks: Mapping[str, tuple[int, ...]]
    regrets: Mapping[str, Mapping[str, Mapping[int, float]]]
    untuned: frozenset[str]
    reference: str
    notes: list[str]
    aggregates: Mapping[str, Aggregate]
    ranking: Ranking | None = None
    pairs: Sequence[TaskPair] = ()

    @property
    def has_statement(self) -> bool:
        """Tell whether there are tasks enough for a statement across them."""
        return len(self.tasks) >= MIN_TASKS

    @property
    def has_mixed_budgets(self) -> bool:
        """Tell whether studies of different budgets were compared."""
        return has_mixed_budgets(self.tasks)

    def runs(self, method: str) -> list[list[float]]:
        """Return a method's regrets, a list for each task."""
        return [list(self.regrets[method][task.name].values()) for task in self.tasks]


def compare_tasks(
    tasks: Sequence[TaskScores], left_out: Sequence[str] = (), reference: str = "", mixed_budgets: bool = False
) -> AcrossTasks:
    """Compare the methods that have results on all tasks.

    Args:
        tasks: the tasks.
        left_out: sentences about benchmarks that are none of them.
        reference: the method that the others are compared with; "all" for every pair. By default random search.
        mixed_budgets: take tasks with different budgets.

    Raises:
        BenchmarkError: tasks with different budgets, none at all, no method that all have, or no such reference.
    """
    common = common_ground(tasks, mixed_budgets)
    regrets = {method: _regrets(common, method) for method in common.methods}
    mean = {method: fmean(fmean(own.values()) for own in by_task.values()) for method, by_task in regrets.items()}
    chosen, notes = _reference(reference, common.methods)
    of_tasks = [f"{task.name}: {note}" for task in common.tasks for note in task.notes]
    found = AcrossTasks(
        tasks=common.tasks,
        blocks=common.blocks,
        regrets={method: regrets[method] for method in sorted(regrets, key=lambda method: mean[method])},
        untuned=frozenset.union(*(task.untuned for task in common.tasks)) & set(common.methods),
        reference=chosen,
        notes=[*left_out, *common.notes, *notes, *_narrow(common.tasks), *of_tasks],
        aggregates={},
    )
    return _with_statements(found) if found.has_statement else found


def _with_statements(found: AcrossTasks) -> AcrossTasks:
    means = {method: dict(enumerate(map(fmean, found.runs(method)))) for method in found.regrets}
    rivals = [method for method in found.regrets if method not in found.untuned or method == found.reference]
    others = [method for method in rivals if method != found.reference]
    pairs = [*combinations(rivals, 2)] if found.reference == EVERY_PAIR else [(a, found.reference) for a in others]
    differences = {pair: _in_margins(found, *pair) for pair in pairs}
    predicted = {pair: further_task(own) for pair, own in differences.items()}
    known = {pair: further for pair, further in predicted.items() if further is not None}
    return replace(
        found,
        aggregates={method: aggregate(found.runs(method)) for method in found.regrets},
        ranking=rank_methods(means, higher_is_better=False),
        pairs=[
            TaskPair(*pair, further, doubt, tasks_needed(differences[pair], len(known)) if doubt > ALPHA else None)
            for (pair, further), doubt in zip(known.items(), doubts([*known.values()]), strict=True)
        ],
    )


def _regrets(common: Common, method: str) -> dict[str, dict[int, float]]:
    return {
        task.name: {block: task.scale.regret(task.scores[method][block]) for block in common.blocks[task.name]}
        for task in common.tasks
    }


def _in_margins(found: AcrossTasks, a: str, b: str) -> list[list[float]]:
    """Return by how many margins of its task's metric a is better than b in each block, a list for each task."""
    return [
        [
            task.scale.metric.gain(task.scores[a][block], task.scores[b][block]) / task.scale.metric.margin
            for block in found.blocks[task.name]
        ]
        for task in found.tasks
    ]


def _reference(asked: str, methods: Sequence[str]) -> tuple[str, list[str]]:
    """Return the method that the others are compared with, or "all", and a note if it is not the usual one.

    Raises:
        BenchmarkError: the one that was asked for is not among the methods.
    """
    if asked and asked != EVERY_PAIR and asked not in methods:
        raise BenchmarkError(
            f"reference is {asked!r}, but must be {EVERY_PAIR!r} or a method with scores on all tasks: "
            f"{', '.join(methods)}"
        )
    wanted = asked or default_reference()
    if wanted == EVERY_PAIR or wanted in methods:
        return wanted, []
    return EVERY_PAIR, [f"{wanted}, with which the others are to be compared, is left out: every pair is compared"]


def _narrow(tasks: Sequence[TaskScores]) -> list[str]:
    """Name the tasks on which a whole unit of regret is less than the margin."""
    return [
        f"{task.name}: random search's median lies within the margin ({task.scale.metric.margin:g}) of the best known "
        "score, so regrets there tell of differences that do not matter"
        for task in tasks
        if task.scale.width < task.scale.metric.margin
    ]
