"""Contestants: stored studies by method, arguments and budget, with the confirmations of their incumbents. Pure.

A contestant is a method with its arguments and budget, a block is one seed by which contestants were run. A block's
score is the mean over the fresh trainings of that study's incumbent, on the test split (see `hpo.workflows.confirm`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.spec import Benchmark
from hpo.analysis.records import Records
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.baselines import DEFAULT
from hpo.core.study import default_schedule

SCORE = "test_f1"
"""The metric of verdicts; `paired_tests.MARGIN` is half a point of it."""
TEST_SCORES = ("test_f1", "test_exact_match", "test_eval_loss")


@dataclass(frozen=True)
class Contestant:
    """A method with its arguments and budget.

    Attributes:
        name: for people; with the budget where it is not the comparison's.
        method: the method's name.
        studies: the newest one of each seed.
        confirmations: of the incumbent of each block.
    """

    name: str
    method: str
    studies: Mapping[int, StudyRecord]
    confirmations: Mapping[int, Sequence[Confirmation]]

    def scores(self, metric: str, benchmark: Benchmark) -> dict[int, float]:
        """Return the mean confirmed score of each block that has one, in the metric's unit.

        A training that diverged counts as the worst score there is, and so does a study without a sound trial.
        """
        found = {
            block: fmean(score(confirmation, metric, benchmark) for confirmation in confirmations)
            for block, confirmations in self.confirmations.items()
            if confirmations
        }
        lost = {block: worst(metric, benchmark) for block, study in self.studies.items() if study.best is None}
        return {**found, **lost}


def contestants(records: Records, studies: Sequence[StudyRecord]) -> list[Contestant]:
    """Group studies by contestant: the newest one of each seed, and the default configuration if it was confirmed."""
    usual = Counter(study.budget for study in studies if study.method != DEFAULT).most_common(1)
    groups: dict[tuple[str, int], dict[int, StudyRecord]] = {}
    for study in studies:
        by_seed = groups.setdefault((study.label, study.budget), {})
        if study.seed not in by_seed or study.started > by_seed[study.seed].started:
            by_seed[study.seed] = study
    found = [
        Contestant(
            label if not usual or budget == usual[0][0] or label == DEFAULT else f"{label} budget={budget}",
            next(iter(by_seed.values())).method,
            by_seed,
            {seed: records.confirmations_of(study) for seed, study in by_seed.items()},
        )
        for (label, budget), by_seed in groups.items()
    ]
    if not any(contestant.method == DEFAULT for contestant in found):
        found += _confirmed_default(records, sorted({study.seed for study in studies}))
    return found


def _confirmed_default(records: Records, blocks: Sequence[int]) -> list[Contestant]:
    """Return the default configuration as a contestant without studies; nothing if it was not confirmed."""
    schedule = default_schedule(records.benchmark)
    confirmations = {block: records.confirmations_with(schedule, block) for block in blocks}
    return [Contestant(DEFAULT, DEFAULT, {}, confirmations)] * any(confirmations.values())


def score(confirmation: Confirmation, metric: str, benchmark: Benchmark) -> float:
    """Return a confirmation's score, or the worst there is if it diverged."""
    return worst(metric, benchmark) if confirmation.diverged else confirmation.metrics[metric]


def worst(metric: str, benchmark: Benchmark) -> float:
    """Return the worst value of a metric: leaving out what diverged would favour methods that diverge."""
    return benchmark.diverged_above if metric.endswith("eval_loss") else 0.0
