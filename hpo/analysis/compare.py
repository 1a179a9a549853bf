"""Comparison of methods by their confirmed scores, at equal budgets: a pure function of the stored records.

The rules of evidence are those of `hpo.analysis.statistics.verdicts`. Without confirmed scores there is no verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from hpo.analysis.conditions import origins
from hpo.analysis.conditions.planned import (
    EVERY_PAIR,
    ComparisonPlan,
    PlanCheck,
    check_plan,
    count_looks,
    default_reference,
    parse_plan,
)
from hpo.analysis.conditions.split_uncertainty import SplitUncertainty, split_uncertainty
from hpo.analysis.contestants import Contestant, allowances, contestants, is_allowed
from hpo.analysis.records import Records
from hpo.analysis.standings import Shrinkage, Standing, shrinkage, standings
from hpo.analysis.statistics.paired_tests import ALPHA, signed_rank_p
from hpo.analysis.statistics.verdicts import Comparison, Scored, compare_others, compare_pairs
from hpo.analysis.studies import StudyRecord
from hpo.core.wording import counted


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of a comparison.

    Attributes:
        reference: the contestant that the others are compared with; "all" for every pair.
        pairs: by the metric of verdicts, corrected together.
        others: the same pairs by each other metric, by its name on test; corrected over all metrics.
        with_failed: the pairs of `pairs` that change if a study that failed counts as the worst there is.
        beats_default: contestants by whether they are shown to be better than the default configuration, each by
            itself and one-sided: a check that is no part of the family.
        split: uncertainty of the same differences with that of the test split; None where records have no scores.
    """

    reference: str
    pairs: list[Comparison]
    others: Mapping[str, list[Comparison]]
    with_failed: list[Comparison]
    beats_default: Mapping[str, bool]
    split: SplitUncertainty | None = None


@dataclass(frozen=True)
class Result:
    """A whole comparison.

    Attributes:
        benchmark: the benchmark that was tuned.
        digest: its version.
        accelerator: the device of the device-hours.
        standings: one per contestant, the best confirmed score first.
        verdicts: of pairs of contestants.
        plan: the comparison beside its plan.
        evidence: checksum of the scores behind the verdicts; empty without any.
        shrinkage: of every confirmed study.
        confirmation_hours: device-hours of all confirmations, which no study pays.
        contestants: the studies and confirmations behind the standings.
        notes: sentences that a reader must know: studies that are left out, reasons why there is no verdict.
        is_marked: studies had different budgets, and were compared because that was asked for.
        confirm_command: the command that confirms the studies.
        replay: for replayed studies, the sentence that says so; else empty.
    """

    benchmark: Benchmark
    digest: str
    accelerator: str
    standings: list[Standing]
    verdicts: Verdicts
    plan: PlanCheck
    evidence: str
    shrinkage: list[Shrinkage]
    confirmation_hours: float
    contestants: list[Contestant]
    notes: list[str]
    is_marked: bool
    confirm_command: str
    replay: str = ""

    @property
    def look(self) -> dict[str, str]:
        """Tags by which later comparisons count this one as a look at the verdicts; none without a verdict."""
        if not self.evidence:
            return {}
        plan = self.plan.plan.checksum if self.plan.plan else ""
        return {"hpo.benchmark_digest": self.digest, "hpo.evidence": self.evidence, "hpo.plan": plan}

    @property
    def pairs(self) -> list[Comparison]:
        """Verdicts on pairs by the metric of verdicts."""
        return self.verdicts.pairs

    @property
    def studies(self) -> list[StudyRecord]:
        """All studies that count, by contestant and seed."""
        return [study for contestant in self.contestants for study in contestant.studies.values()]


@dataclass(frozen=True)
class StudiesOfOneBudget:
    """Studies that were allowed the same, and those that belong beside them.

    Attributes:
        studies: the studies.
        budget: full trainings of a method's study; 0 if budgets are mixed, or no study searched.
        notes: sentences about the others.
        is_marked: budgets are mixed.
    """

    studies: list[StudyRecord]
    budget: int
    notes: tuple[str, ...]
    is_marked: bool = False


def compare(
    records: Records,
    *,
    budget: int | None = None,
    mixed_budgets: bool = False,
    reference: str = "",
    plan: ComparisonPlan | None = None,
) -> Result:
    """Compare all contestants.

    Args:
        records: all stored records of a benchmark.
        budget: compare studies of this budget only, and the contestants that belong beside it (`hpo.core.traits`).
        mixed_budgets: compare studies of all budgets, and mark the result.
        reference: "all" for every pair, or a contestant: fewer comparisons need fewer blocks. By default the plan's, or
            random search; every pair if it is not confirmed.
        plan: the plan to set the comparison beside; by default that of the newest study which has one.

    Raises:
        BenchmarkError: studies of different budgets, or a reference that is not there.
    """
    chosen = of_equal_budget(records.studies, budget, mixed_budgets)
    found, notes = contestants(records, chosen.studies), list(chosen.notes)
    benchmark, plan = records.benchmark, plan or _plan_of(records, chosen.studies)
    scored = {c.name: c for c in found if c.scores(benchmark.verdict_metric)}
    missing = [c.name for c in found if c.name not in scored and c.studies]
    if missing:
        notes.append(
            f"not confirmed, so without a verdict: {', '.join(missing)}; confirm them with: {records.confirm_command}"
        )
    reference = _reference(reference, plan, scored, notes)
    evidence = _evidence(list(scored.values()), benchmark.verdict_metric) if len(scored) > 1 else ""
    looks = count_looks(records.comparisons, records.digest, evidence)
    check = check_plan(plan, found, benchmark, records.digest, reference, looks, records.lost_plans)
    verdicts = _verdicts(found, benchmark, reference, check.counted_looks, notes)
    differing = [f"studies did not run alike: {clause}" for clause in origins.differences(_studies(found))]
    unlike = origins.differences_of_confirmations(records.confirmation_runs)
    differing += [f"confirmations did not run alike: {clause}" for clause in unlike]
    differing += _unequal_trainings(found)
    return Result(
        benchmark=benchmark,
        digest=records.digest,
        accelerator=records.studies[0].accelerator,
        standings=standings(found, benchmark),
        verdicts=verdicts,
        plan=check,
        evidence=evidence if verdicts.pairs else "",
        shrinkage=[one for c in found for one in shrinkage(c, benchmark)],
        confirmation_hours=records.confirmation_hours,
        contestants=found,
        notes=[*(f"left out: {text}" for text in records.left_out), *differing, *_failed(found, verdicts), *notes],
        is_marked=chosen.is_marked,
        confirm_command=records.confirm_command,
        replay=records.replay,
    )


def _studies(contestants: Sequence[Contestant]) -> list[StudyRecord]:
    return [study for contestant in contestants for study in contestant.studies.values()]


def _unequal_trainings(contestants: Sequence[Contestant]) -> list[str]:
    """Tell the number of fresh trainings of each contestant's incumbents if it is not the same of all."""
    numbers = {one.name: sorted({len(own) for own in one.confirmations.values() if own}) for one in contestants}
    if len({number for own in numbers.values() for number in own}) < 2:
        return []
    told = (f"{name} {' or '.join(map(str, own))}" for name, own in numbers.items() if own)
    return [f"incumbents were trained again unequally often: {', '.join(told)} times"]


def _plan_of(records: Records, studies: Sequence[StudyRecord]) -> ComparisonPlan | None:
    """Return the plan of the newest study that has one which can be read."""
    for study in sorted(studies, key=lambda study: study.started, reverse=True):
        if text := records.plans.get(study.plan):
            return parse_plan(text, f"plan {study.plan}")
    return None


def _failed(contestants: Sequence[Contestant], verdicts: Verdicts) -> list[str]:
    """Count the studies that failed, and tell what their scores as the worst would change."""
    lost = {one.name: sorted(one.failed) for one in contestants if one.failed}
    if not lost:
        return []
    named = "; ".join(
        f"{name}: {counted(len(seeds), 'study', 'studies')} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
        for name, seeds in lost.items()
    )
    changed = "; ".join(f"{pair.a} against {pair.b}: {pair.verdict}" for pair in verdicts.with_failed)
    counts = f"with failed studies as the worst score there is, {changed or 'no verdict changes'}"
    return [f"studies that failed have no score: {named}", counts]


def of_equal_budget(
    studies: Sequence[StudyRecord], budget: int | None = None, mixed: bool = False
) -> StudiesOfOneBudget:
    """Choose studies that were allowed the same.

    Args:
        studies: the stored ones.
        budget: see `compare`.
        mixed: keep all of them.

    Raises:
        BenchmarkError: studies of different budgets, or none of the budget that is asked for.
    """
    others = allowances(studies)
    if budget is not None:
        others = {allowance for allowance in others if allowance[0] == budget}
        if not others:
            there = ", ".join(str(number) for number, _ in sorted(allowances(studies)))
            raise BenchmarkError(f"no study with budget {budget}; there are studies with budget {there}")
    if len(others) > 1 and mixed:
        note = "budgets differ: these figures do not compare methods at equal cost"
        return StudiesOfOneBudget(list(studies), 0, (note,), is_marked=True)
    if len(others) > 1:
        raise BenchmarkError(
            f"studies have different budgets ({', '.join(map(_allowance, sorted(others)))}), but methods are compared "
            "at equal ones; choose with --budget, or --mixed-budgets true compares them all and says so"
        )
    allowed = next(iter(others), (0, ""))
    kept = [study for study in studies if is_allowed(study, allowed)]
    gone = len(studies) - len(kept)
    return StudiesOfOneBudget(kept, allowed[0], (f"left out: {gone} studies of other budgets",) * bool(gone))


def _allowance(allowance: tuple[int, str]) -> str:
    budget, cap = allowance
    return f"{budget} trainings" + f" within {cap} device-hours" * bool(cap)


def _reference(asked: str, plan: ComparisonPlan | None, scored: Mapping[str, Contestant], notes: list[str]) -> str:
    """Return the contestant that the others are compared with, or "all" for every pair.

    Raises:
        BenchmarkError: the one that was asked for has no score.
    """
    if asked:
        if asked != EVERY_PAIR and asked not in scored:
            raise BenchmarkError(
                f"reference is {asked!r}, but must be {EVERY_PAIR!r} or a confirmed contestant: "
                f"{', '.join(scored) or 'there is none yet'}"
            )
        return asked
    wanted = plan.reference if plan else default_reference()
    if wanted in scored or wanted == EVERY_PAIR or len(scored) < 2:
        return wanted
    notes.append(f"{wanted}, with which the others are to be compared, is not confirmed: every pair is compared")
    return EVERY_PAIR


def _evidence(contestants: Sequence[Contestant], metric: Metric) -> str:
    """Compute a checksum of all scores: the same verdicts again are no further look."""
    scores = {one.name: sorted(one.scores(metric).items()) for one in contestants}
    return hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()[:16]


def _verdicts(
    contestants: Sequence[Contestant], benchmark: Benchmark, reference: str, looks: int, notes: list[str]
) -> Verdicts:
    """Reach verdicts if there are two contestants to compare; the default configuration is none of them."""
    metric = benchmark.verdict_metric
    default = next((one for one in contestants if one.traits.is_single_config and one.scores(metric)), None)
    everyone = {one.name: one for one in contestants if not one.traits.is_single_config or one.name == reference}
    rivals = {name: one for name, one in everyone.items() if one.scores(metric)}
    beats = _beats(rivals, default, metric)
    if len(rivals) < 2:
        notes.append(f"{len(rivals)} confirmed contestants: a verdict takes two")
        return Verdicts(reference, [], {}, _with_failed(everyone, metric, reference, looks, []), beats)
    first, *others = (_scored(rivals, metric) for metric in benchmark.test_metrics)
    against = None if reference == EVERY_PAIR else reference
    pairs = compare_pairs(
        first.scores, higher_is_better=first.higher_is_better, margin=first.margin, reference=against, looks=looks
    )
    compared = compare_others(first, others, reference=against, looks=looks)
    names = [metric.on_test for metric in benchmark.test_metrics[1:]]
    changed = _with_failed(everyone, metric, reference, looks, pairs)
    split = split_uncertainty(rivals, [(pair.a, pair.b) for pair in pairs], benchmark)
    return Verdicts(reference, pairs, dict(zip(names, compared, strict=True)), changed, beats, split)


def _with_failed(
    contestants: Mapping[str, Contestant], metric: Metric, reference: str, looks: int, pairs: Sequence[Comparison]
) -> list[Comparison]:
    """Return the comparisons that change if a study that failed counts as the worst there is.

    Args:
        contestants: all of them, with those none of whose studies has a score.
        metric: of the verdicts.
        reference: see `Verdicts`.
        looks: see `compare_pairs`.
        pairs: the comparisons without failed studies.
    """
    kept = {name: one for name, one in contestants.items() if one.failed or one.scores(metric)}
    if len(kept) < 2 or not any(one.failed for one in kept.values()):
        return []
    worst = _scored(kept, metric, counts_failed=True)
    found = compare_pairs(
        worst.scores,
        higher_is_better=worst.higher_is_better,
        margin=worst.margin,
        reference=reference if reference in kept else None,
        looks=looks,
    )
    before = {(pair.a, pair.b): pair.verdict for pair in pairs}
    return [pair for pair in found if pair.verdict != before.get((pair.a, pair.b), "not resolved")]


def _scored(contestants: Mapping[str, Contestant], metric: Metric, counts_failed: bool = False) -> Scored:
    """Return the scores by a metric, with a failed study as the worst there is if it is to count."""
    scores = {
        name: one.scores_with_failed(metric) if counts_failed else one.scores(metric)
        for name, one in contestants.items()
    }
    return Scored(scores, metric.higher_is_better, metric.margin)


def _beats(contestants: Mapping[str, Contestant], default: Contestant | None, metric: Metric) -> dict[str, bool]:
    """Tell which contestants are shown to be better than the default configuration, on the blocks that both have."""
    if default is None:
        return {}
    base, found = default.scores(metric), {}
    for name, one in contestants.items():
        own = one.scores(metric)
        both = sorted(own.keys() & base.keys())
        if one is not default and both:
            gains = [metric.gain(own[block], base[block]) for block in both]
            found[name] = signed_rank_p(gains, [0.0] * len(both), "greater") < ALPHA
    return found
