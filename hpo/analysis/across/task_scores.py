"""Confirmed scores of one task, a benchmark, and the scale on which its regrets stand beside those of others.

Normalised regret is 0 for the best confirmed score of any block of the task, whichever contestant has it, and 1 for the
median of random search's blocks at the budget of the comparison. Both ends are scores on test of the tuned metric, each
a mean over the fresh trainings of one incumbent. Worse than random search is above 1, without a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from hpo.analysis.compare import of_equal_budget
from hpo.analysis.conditions import origins
from hpo.analysis.contestants import Contestant, contestants
from hpo.analysis.records import Records
from hpo.analysis.replayed import records as stored
from hpo.analysis.studies import StudyRecord
from hpo.core.wording import counted
from hpo.store.queries import benchmarks_with_results

ALL = "all"
"""Stands for every benchmark that has results."""


@dataclass(frozen=True)
class RegretScale:
    """The ends of a task's normalised regret, in the unit of its metric.

    Attributes:
        metric: the metric that was tuned.
        best: the best confirmed score of a block: regret 0.
        best_by: the contestant that has it.
        random: the median of random search's blocks: regret 1.
    """

    metric: Metric
    best: float
    best_by: str
    random: float

    @property
    def width(self) -> float:
        """The unit of regret in that of the metric, above 0."""
        return self.metric.gain(self.best, self.random)

    def regret(self, score: float) -> float:
        """Return the normalised regret of a score."""
        return self.metric.gain(self.best, score) / self.width


@dataclass(frozen=True)
class TaskScores:
    """The confirmed scores of one task.

    Attributes:
        benchmark: the benchmark.
        identity: digest of the benchmark that was trained, the same for a replay of it.
        scores: by contestant and block, on test; contestants without any are not in it.
        untuned: contestants that search for nothing, such as the default configuration.
        scale: of its regrets.
        budget: full trainings of a study; 0 for mixed budgets.
        conditions: see `conditions_of`.
        replay: for replayed studies, the sentence that says so; else empty.
        notes: sentences about studies that are left out or lack a score.
    """

    benchmark: Benchmark
    identity: str
    scores: Mapping[str, Mapping[int, float]]
    untuned: frozenset[str]
    scale: RegretScale
    budget: int
    conditions: Mapping[str, str]
    replay: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name


def read_tasks(
    names: Mapping[str, str], budget: int | None = None, mixed_budgets: bool = False
) -> tuple[list[TaskScores], list[str]]:
    """Read the tasks of a comparison.

    Args:
        names: names of benchmarks, each with the text by which the user gave it; none for all that have results.
        budget: studies of this budget alone; see `hpo.analysis.compare.compare`.
        mixed_budgets: take studies of all budgets.

    Returns:
        The tasks, and a sentence for each benchmark that is left out of all that have results.

    Raises:
        BenchmarkError: a benchmark that was named has no studies, or none that can stand beside others.
    """
    found, left_out = [], []
    for name, given in (names or {one: one for one in benchmarks_with_results()}).items():
        try:
            found.append(task_of(stored.read(name, given), budget, mixed_budgets))
        except BenchmarkError as error:
            if names:
                raise
            left_out.append(f"left out: {name}: {error}")
    return found, left_out


def task_of(records: Records, budget: int | None = None, mixed_budgets: bool = False) -> TaskScores:
    """Return the scores of a task.

    Args:
        records: all that is stored of its benchmark.
        budget: see `hpo.analysis.compare.compare`.
        mixed_budgets: take studies of all budgets.

    Raises:
        BenchmarkError: studies of different budgets, or scores that have no scale.
    """
    chosen = of_equal_budget(records.studies, budget, mixed_budgets)
    found, benchmark = contestants(records, chosen.studies), records.benchmark
    scores = {one.name: own for one in found if (own := one.scores(benchmark.verdict_metric))}
    unconfirmed = [one.name for one in found if one.name not in scores and one.studies]
    differing = [f"studies did not run alike: {clause}" for clause in origins.differences(chosen.studies)]
    notes = [
        *(f"left out: {text}" for text in records.left_out),
        *chosen.notes,
        *differing,
        *(_lost(one) for one in found if one.failed),
        *([f"not confirmed: {', '.join(unconfirmed)}; confirm with: {records.confirm_command}"] * bool(unconfirmed)),
    ]
    first = chosen.studies[0]
    recorded = benchmark.recorded.digest if benchmark.recorded else ""
    return TaskScores(
        benchmark=benchmark,
        identity=recorded or records.digest,
        scores=scores,
        untuned=frozenset(one.name for one in found if one.traits.is_single_config),
        scale=_scale(found, scores, records),
        budget=chosen.budget,
        conditions=conditions_of(first),
        replay=records.replay,
        notes=tuple(notes),
    )


def conditions_of(study: StudyRecord) -> dict[str, str]:
    """Return the conditions of a study in which tasks may differ, in words."""
    return {
        "accelerator": study.accelerator,
        "devices": origins.devices_of(study),
        "protocol": study.tags.get("hpo.protocol", origins.UNKNOWN),
    }


def _lost(contestant: Contestant) -> str:
    return f"{contestant.name}: {counted(len(contestant.failed), 'study', 'studies')} failed, without a score"


def _scale(found: Sequence[Contestant], scores: Mapping[str, Mapping[int, float]], records: Records) -> RegretScale:
    """Find both ends of the scale.

    Raises:
        BenchmarkError: random search has no score, or its median is the best score there is.
    """
    name, metric = records.benchmark.name, records.benchmark.verdict_metric
    random = next((one for one in found if one.traits.is_reference and one.name == one.method), None)
    if random is None or random.name not in scores:
        step = records.confirm_command if random else records.command("suite", methods="random")
        raise BenchmarkError(
            f"{name} has no confirmed random search, whose median is 1 on the scale of regret; get it with: {step}"
        )
    blocks = [(metric.gain(score, metric.worst), one, score) for one, own in scores.items() for score in own.values()]
    _, best_by, best = max(blocks, key=lambda block: block[0])
    middle = median(scores[random.name].values())
    if metric.gain(best, middle) <= 0:
        raise BenchmarkError(
            f"{name} has no confirmed score better than the median of random search ({middle:.4g}), so its regrets "
            "have no scale; add methods or seeds"
        )
    return RegretScale(metric, best, best_by, middle)
