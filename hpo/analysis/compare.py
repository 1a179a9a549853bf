"""Comparison of methods by their confirmed scores, at equal budgets: a pure function of the stored records.

The rules of evidence are those of `hpo.analysis.statistics.verdicts`. Without confirmed scores there is no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import Metric
from hpo.analysis.contestants import Contestant, Shrinkage, Standing, contestants, shrinkage, standings
from hpo.analysis.records import Records
from hpo.analysis.statistics.verdicts import Comparison, compare_pairs
from hpo.analysis.studies import StudyRecord
from hpo.core.traits import large_reference_budget

EVERY_PAIR = "all"


@dataclass(frozen=True)
class Result:
    """A whole comparison.

    Attributes:
        benchmark: the benchmark that was tuned.
        digest: its version.
        accelerator: the device of the device-hours.
        standings: one per contestant, the best confirmed score first.
        pairs: every two contestants, or each with the reference.
        shrinkage: of every confirmed study.
        confirmation_hours: device-hours of all confirmations, which no study pays.
        contestants: the studies and confirmations behind the standings.
        notes: sentences that a reader must know: studies that are left out, reasons why there is no verdict.
        is_marked: studies had different budgets, and were compared because that was asked for.
        confirm_command: the command that confirms the studies.
    """

    benchmark: Benchmark
    digest: str
    accelerator: str
    standings: list[Standing]
    pairs: list[Comparison]
    shrinkage: list[Shrinkage]
    confirmation_hours: float
    contestants: list[Contestant]
    notes: list[str]
    is_marked: bool
    confirm_command: str

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
    records: Records, *, budget: int | None = None, mixed_budgets: bool = False, reference: str = EVERY_PAIR
) -> Result:
    """Compare all contestants.

    Args:
        records: all stored records of a benchmark.
        budget: compare studies of this budget only, and the contestants that belong beside it (`hpo.core.traits`).
        mixed_budgets: compare studies of all budgets, and mark the result.
        reference: "all" for every pair, or a contestant: fewer comparisons need fewer blocks.

    Raises:
        BenchmarkError: studies of different budgets, or a reference that is not there.
    """
    chosen = of_equal_budget(records.studies, budget, mixed_budgets)
    found, notes = contestants(records, chosen.studies), list(chosen.notes)
    benchmark = records.benchmark
    scores = {c.name: c.scores(benchmark.verdict_metric) for c in found}
    scored = {name: by_block for name, by_block in scores.items() if by_block}
    missing = [c.name for c in found if c.name not in scored]
    if missing:
        notes.append(
            f"not confirmed, so without a verdict: {', '.join(missing)}; confirm them with: {records.confirm_command}"
        )
    pairs = _pairs(scored, benchmark.verdict_metric, reference, notes)
    return Result(
        benchmark=benchmark,
        digest=records.digest,
        accelerator=records.studies[0].accelerator,
        standings=standings(found, benchmark),
        pairs=pairs,
        shrinkage=[one for c in found for one in shrinkage(c, benchmark)],
        confirmation_hours=records.confirmation_hours,
        contestants=found,
        notes=[*(f"left out: {text}" for text in records.left_out), *notes],
        is_marked=chosen.is_marked,
        confirm_command=records.confirm_command,
    )


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
    searched = [study for study in studies if not study.traits.is_single_config]
    allowances = {study.allowance for study in searched}
    larger = {(large_reference_budget(number), cap) for number, cap in allowances}
    others = {s.allowance for s in searched if not s.traits.is_reference or s.allowance not in larger}
    if budget is not None:
        others = {allowance for allowance in others if allowance[0] == budget}
        if not others:
            there = ", ".join(str(number) for number, _ in sorted(allowances))
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
    kept = [study for study in studies if _is_allowed(study, allowed)]
    gone = len(studies) - len(kept)
    return StudiesOfOneBudget(kept, allowed[0], (f"left out: {gone} studies of other budgets",) * bool(gone))


def _is_allowed(study: StudyRecord, allowed: tuple[int, str]) -> bool:
    (own_budget, own_cap), (budget, cap) = study.allowance, allowed
    is_same_cap = own_cap == cap or study.traits.is_single_config
    return is_same_cap and (own_budget == budget or study.traits.belongs_beside(own_budget, budget))


def _allowance(allowance: tuple[int, str]) -> str:
    budget, cap = allowance
    return f"{budget} trainings" + f" within {cap} device-hours" * bool(cap)


def _pairs(
    scores: Mapping[str, Mapping[int, float]], metric: Metric, reference: str, notes: list[str]
) -> list[Comparison]:
    """Reach verdicts if there are two contestants to compare."""
    if reference != EVERY_PAIR and reference not in scores:
        raise BenchmarkError(
            f"reference is {reference!r}, but must be {EVERY_PAIR!r} or a confirmed contestant: "
            f"{', '.join(scores) or 'there is none yet'}"
        )
    if len(scores) < 2:
        notes.append(f"{len(scores)} confirmed contestants: a verdict takes two")
        return []
    return compare_pairs(
        scores,
        higher_is_better=metric.higher_is_better,
        margin=metric.margin,
        reference=None if reference == EVERY_PAIR else reference,
    )
