"""Contestants of a comparison: their studies, confirmations and scores. Pure.

A contestant is a method with its arguments and budget. A block is one seed, with which contestants were run. A block's
score is the mean over the fresh trainings of that study's incumbent, on the test split (see `hpo.workflows.confirm`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from statistics import fmean

from benchmarks.tasks.task import Metric
from hpo.analysis.over_cost.along import SHARES, schedule_at
from hpo.analysis.records import Records
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import default_schedule
from hpo.core.traits import Traits, large_reference_budget
from hpo.search import registry


@dataclass(frozen=True)
class Contestant:
    """A method with its arguments and budget.

    Attributes:
        name: for people; with the budget where it is not the comparison's.
        method: the method's name.
        studies: the newest one of each seed.
        confirmations: of the incumbent of each block.
        runs: number of runs of each seed, failed ones included: only the newest finished one is among the studies.
        failed: seeds whose studies ended with an error, and no other study of them finished.
        along: the confirmations of incumbents at a share of the budget, by that share and block; see `over_cost.along`.
            None of a block without such an incumbent, and an empty list of one that is not confirmed.
    """

    name: str
    method: str
    studies: Mapping[int, StudyRecord]
    confirmations: Mapping[int, Sequence[Confirmation]]
    runs: Mapping[int, int] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    along: Mapping[float, Mapping[int, Sequence[Confirmation]]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The method with its arguments."""
        return next((study.label for study in self.studies.values()), self.method)

    @property
    def traits(self) -> Traits:
        """Traits of its method."""
        return registry.traits_of(self.method)

    @property
    def budget(self) -> int:
        """Full trainings of each of its studies; 0 without studies."""
        return next((study.budget for study in self.studies.values()), 0)

    @property
    def device_hours(self) -> float:
        """Mean device-hours of a study; infinite where none is known."""
        hours = mean_metric(list(self.studies.values()), "device_hours")
        return math.inf if hours is None else hours

    def scores(self, metric: Metric) -> dict[int, float]:
        """Return the mean confirmed score on test of each block that has one, in the metric's unit.

        A training that diverged counts as the worst score there is, and so does a study without a sound trial.
        """
        found = {
            block: fmean(score(confirmation, metric, metric.on_test) for confirmation in confirmations)
            for block, confirmations in self.confirmations.items()
            if confirmations
        }
        lost = {block: metric.worst for block, study in self.studies.items() if study.best is None}
        return {**found, **lost}

    def scores_with_failed(self, metric: Metric) -> dict[int, float]:
        """Return the same, with a study that ended with an error as the worst there is."""
        return {**dict.fromkeys(self.failed, metric.worst), **self.scores(metric)}

    @property
    def failed_blocks(self) -> set[int]:
        """Blocks whose study found nothing, or in which a fresh training of its incumbent diverged."""
        lost = {block for block, study in self.studies.items() if study.best is None}
        diverged = {block for block, them in self.confirmations.items() if any(one.diverged for one in them)}
        return lost | diverged


def contestants(records: Records, studies: Sequence[StudyRecord]) -> list[Contestant]:
    """Group studies by contestant: the newest one of each seed, and the default configuration if it was confirmed.

    Args:
        records: all that is stored, with the studies that failed.
        studies: the finished ones to group. A method all of whose studies failed is a contestant too, if its budget is
            one that theirs are compared at.
    """
    usual = Counter(study.budget for study in studies if not study.traits.is_single_config).most_common(1)
    allowed = allowances(studies)
    lost = [study for study in records.failed if any(is_allowed(study, one) for one in allowed)]
    groups: dict[tuple[str, int], list[StudyRecord]] = {}
    for study in (*studies, *lost):
        groups.setdefault((study.label, 0 if study.traits.is_single_config else study.budget), []).append(study)
    finished = {study.run_id for study in studies}
    found = [_contestant(records, own, finished, usual[0][0] if usual else own[0].budget) for own in groups.values()]
    if not any(contestant.traits.is_single_config for contestant in found):
        found += _confirmed_default(records, sorted({study.seed for study in studies}))
    return found


def allowances(studies: Sequence[StudyRecord]) -> set[tuple[int, str]]:
    """Return the limits of studies that search, but for those of a larger random search beside the others."""
    searched = [study for study in studies if not study.traits.is_single_config]
    larger = {(large_reference_budget(budget), cap) for budget, cap in (study.allowance for study in searched)}
    return {s.allowance for s in searched if not s.traits.is_reference or s.allowance not in larger}


def is_allowed(study: StudyRecord, allowed: tuple[int, str]) -> bool:
    """Tell whether a study had these limits, or belongs beside studies that had."""
    (own_budget, own_cap), (budget, cap) = study.allowance, allowed
    is_same_cap = own_cap == cap or study.traits.is_single_config
    return is_same_cap and (own_budget == budget or study.traits.belongs_beside(own_budget, budget))


def _contestant(records: Records, studies: Sequence[StudyRecord], finished: Set[str], usual_budget: int) -> Contestant:
    """Make the contestant of these studies, finished and failed."""
    by_seed: dict[int, StudyRecord] = {}
    for study in (study for study in studies if study.run_id in finished):
        if study.seed not in by_seed or study.started > by_seed[study.seed].started:
            by_seed[study.seed] = study
    first = studies[0]
    studies_of = Counter(study.seed for study in studies if study.budget == by_seed.get(study.seed, first).budget)
    return Contestant(
        _name(first.label, first.budget, first, usual_budget),
        first.method,
        by_seed,
        {seed: records.confirmations_of(study) for seed, study in by_seed.items()},
        Counter({seed: number for seed, number in studies_of.items() if seed in by_seed}),
        frozenset(study.seed for study in studies) - set(by_seed),
        _along(records, by_seed) if records.confirmations and not first.traits.is_single_config else {},
    )


def _along(records: Records, studies: Mapping[int, StudyRecord]) -> dict[float, dict[int, list[Confirmation]]]:
    """Return the confirmations of incumbents along the way by share of the budget and block, if there was such."""
    found: dict[float, dict[int, list[Confirmation]]] = {}
    for share in SHARES:
        schedules = {seed: schedule_at(study, records.benchmark, share) for seed, study in studies.items()}
        found[share] = {seed: records.confirmations_with(steps, seed) for seed, steps in schedules.items() if steps}
    return found


def _confirmed_default(records: Records, blocks: Sequence[int]) -> list[Contestant]:
    """Return the default configuration as a contestant without studies; nothing if it was not confirmed."""
    schedule = default_schedule(records.benchmark)
    confirmations = {block: records.confirmations_with(schedule, block) for block in blocks}
    names = registry.with_trait(lambda traits: traits.is_single_config)
    return [Contestant(name, name, {}, confirmations) for name in names if any(confirmations.values())]


def _name(label: str, budget: int, study: StudyRecord, usual_budget: int) -> str:
    """Name a contestant, with its budget where that is its own."""
    is_plain = budget == usual_budget or (study.traits.is_single_config and not study.variant)
    return label if is_plain else f"{label} budget={budget}"


def score(confirmation: Confirmation, metric: Metric, key: str) -> float:
    """Return a confirmation's score, or the worst there is if it diverged.

    To leave diverged trainings out would favour methods that diverge.

    Args:
        confirmation: a fresh training.
        metric: the metric of the score.
        key: the metric's name, on validation or on test.
    """
    return metric.worst if confirmation.diverged else confirmation.metrics[key]


def mean_metric(studies: Sequence[StudyRecord], metric: str) -> float | None:
    """Average a metric of the studies' runs; None if no study has it."""
    values = [study.metrics[metric] for study in studies if metric in study.metrics]
    return fmean(values) if values else None
