"""Methods side by side on what was confirmed, at equal budgets; a pure function of what the store has.

A contestant is a method with its arguments and budget, a block is one seed by which contestants were run. A block's
score is the mean over the fresh trainings of that study's incumbent, on the test split (see `hpo.workflows.confirm`).
The rules of evidence are those of `hpo.analysis.verdicts`; where nothing is confirmed, nothing is said about which
method is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis import curves
from hpo.analysis.estimates import Estimate, bootstrap_interval, interquartile_mean, probability_of_improvement
from hpo.analysis.records import DEFAULT, RANDOM, Records, StudyRecord, Training
from hpo.analysis.verdicts import Comparison, compare_pairs
from hpo.core.ledger import PARTS
from hpo.core.study import default_schedule

MANUAL = "manual"
SCORE = "test_f1"
"""What verdicts are about; `paired_tests.MARGIN` is half a point of it."""
TEST_SCORES = ("test_f1", "test_exact_match", "test_eval_loss")
EVERY_PAIR = "all"


@dataclass(frozen=True)
class Contestant:
    """A method with its arguments and budget.

    Attributes:
        name: for people; with the budget where it is not the comparison's.
        method: the method's name.
        studies: the newest one of each seed.
        trainings: of each block, the confirmations of its incumbent.
    """

    name: str
    method: str
    studies: Mapping[int, StudyRecord]
    trainings: Mapping[int, Sequence[Training]]

    def scores(self, metric: str, benchmark: Benchmark) -> dict[int, float]:
        """The mean confirmed score of each block that has one; a training that diverged counts as the worst."""
        found = {
            block: [score(training, metric, benchmark) for training in trainings]
            for block, trainings in self.trainings.items()
            if trainings
        }
        lost = {block: worst(metric, benchmark) for block, study in self.studies.items() if study.best is None}
        return {**{block: fmean(values) for block, values in found.items()}, **lost}


@dataclass(frozen=True)
class Line:
    """One contestant in the table.

    Attributes:
        name: the contestant.
        seeds: of its studies.
        budget: full trainings of each; 0 where it has no study.
        outcomes: trials of all studies by outcome.
        validation: the benchmark's metric of the incumbents, which chose them; interquartile mean over seeds.
        test: confirmed scores by metric, interquartile mean over seeds.
        trainings: confirmations.
        diverged: how many of them diverged.
        device_hours: mean of a study, reserved.
        gpu_hours: the same on GPUs, else 0.
        parts: mean device-hours of a study by part of the ledger.
        knows_parts: whether all studies measured them; imported ones know their total alone.
        wall_seconds: mean of a study.
        units: mean of a study, failed attempts included.
        cost_of_grid: its device-hours by those of the manual grid; None without one.
        reached_grid: number of studies whose incumbent was as good as the manual grid's of the same seed.
        with_grid: number of studies that have a grid of the same seed to reach, and kept their units.
        hours_to_grid: median device-hours to get there, of those that did; None where none did.
        over_random: probability that a study of it beats one of random search.
    """

    name: str
    seeds: tuple[int, ...]
    budget: int
    outcomes: Mapping[str, int]
    validation: Estimate | None
    test: Mapping[str, Estimate | None]
    trainings: int
    diverged: int
    device_hours: float | None
    gpu_hours: float | None
    parts: Mapping[str, float]
    knows_parts: bool
    wall_seconds: float | None
    units: float | None
    cost_of_grid: float | None
    reached_grid: int
    with_grid: int
    hours_to_grid: float | None
    over_random: Estimate | None


@dataclass(frozen=True)
class Shrinkage:
    """What became of a study's incumbent when it was trained again.

    Attributes:
        name: the contestant.
        seed: the study's.
        selected: its score on validation, which chose it.
        validation: mean over the fresh trainings on validation.
        test: mean over the fresh trainings on test.
        trainings: how many there are.
    """

    name: str
    seed: int
    selected: float
    validation: float
    test: float
    trainings: int


@dataclass(frozen=True)
class Result:
    """A whole comparison.

    Attributes:
        benchmark: on what.
        digest: its version.
        accelerator: what device-hours are hours of.
        lines: one a contestant, the best confirmed score first.
        pairs: every two contestants, or each with the reference.
        shrinkage: of every confirmed study.
        confirmation_hours: device-hours of all confirmations, which no study pays.
        contestants: what the lines are made from.
        notes: what a reader must know: what was left out, and why there is no verdict.
        is_marked: studies had different budgets, and were compared because that was asked for.
    """

    benchmark: Benchmark
    digest: str
    accelerator: str
    lines: list[Line]
    pairs: list[Comparison]
    shrinkage: list[Shrinkage]
    confirmation_hours: float
    contestants: list[Contestant]
    notes: list[str]
    is_marked: bool

    @property
    def studies(self) -> list[StudyRecord]:
        """All studies that count, by contestant and seed."""
        return [study for contestant in self.contestants for study in contestant.studies.values()]


def compare(
    records: Records, *, budget: int | None = None, mixed_budgets: bool = False, reference: str = EVERY_PAIR
) -> Result:
    """Compare all contestants.

    Args:
        records: what is stored.
        budget: compare studies of this budget only (random search with twice of it and the default stay).
        mixed_budgets: compare whatever is there, and mark the result.
        reference: "all" for every pair, or a contestant: fewer comparisons need fewer blocks.

    Raises:
        BenchmarkError: studies of different budgets, or a reference that is not there.
    """
    studies, notes, is_marked = _of_equal_budget(records.studies, budget, mixed_budgets)
    found = contestants(records, studies)
    benchmark = records.benchmark
    scores = {c.name: c.scores(SCORE, benchmark) for c in found}
    scored = {name: by_block for name, by_block in scores.items() if by_block}
    missing = [c.name for c in found if c.name not in scored]
    if missing:
        notes.append(
            f"not confirmed, so without a verdict: {', '.join(missing)}; "
            f"confirm them with: python -m hpo confirm --benchmark {benchmark.name}"
        )
    lines = [_line(c, found, benchmark) for c in found]
    return Result(
        benchmark,
        records.digest,
        records.studies[0].tags.get("hpo.accelerator", ""),
        sorted(lines, key=_place),
        _pairs(scored, reference, notes),
        [line for c in found for line in _shrinkage(c, benchmark)],
        records.confirmation_hours,
        found,
        [*(f"left out: {text}" for text in records.left_out), *notes],
        is_marked,
    )


def contestants(records: Records, studies: Sequence[StudyRecord]) -> list[Contestant]:
    """Studies by contestant, the newest one where a seed was run twice; and the default, if it was confirmed."""
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
            {seed: records.confirmations(study) for seed, study in by_seed.items()},
        )
        for (label, budget), by_seed in groups.items()
    ]
    if not any(contestant.method == DEFAULT for contestant in found):
        blocks = sorted({study.seed for study in studies})
        schedule = default_schedule(records.benchmark)
        trainings = {block: records.trainings_of(schedule, block) for block in blocks}
        found += [Contestant(DEFAULT, DEFAULT, {}, trainings)] * any(trainings.values())
    return found


def score(training: Training, metric: str, benchmark: Benchmark) -> float:
    """A training's score, or the worst there is where it diverged."""
    return worst(metric, benchmark) if training.diverged else training.metrics[metric]


def worst(metric: str, benchmark: Benchmark) -> float:
    """The worst value of a metric: leaving out what diverged would favour methods that diverge."""
    return benchmark.diverged_above if metric.endswith("eval_loss") else 0.0


def _of_equal_budget(
    studies: Sequence[StudyRecord], budget: int | None, mixed: bool
) -> tuple[list[StudyRecord], list[str], bool]:
    """Studies that were allowed the same, what is to be said about the others, and whether budgets are mixed.

    The default configuration spends what it needs, and random search with twice the budget is a contestant on purpose.
    """
    searched = [study for study in studies if study.method != DEFAULT]
    allowances = {study.allowance for study in searched}
    doubled = {(2 * number, cap) for number, cap in allowances}
    others = {s.allowance for s in searched if s.method != RANDOM or s.allowance not in doubled}
    if budget is not None:
        others = {allowance for allowance in others if allowance[0] == budget}
        if not others:
            there = ", ".join(str(number) for number, _ in sorted(allowances))
            raise BenchmarkError(f"no study with budget {budget}; there are studies with budget {there}")
    if len(others) > 1 and mixed:
        return list(studies), ["budgets differ: these figures do not compare methods at equal cost"], True
    if len(others) > 1:
        raise BenchmarkError(
            f"studies have different budgets ({', '.join(map(_allowance, sorted(others)))}), but methods are compared "
            "at equal ones; choose with --budget, or --mixed-budgets true compares them all and says so"
        )
    number, cap = next(iter(others), (0, ""))
    kept = [s for s in studies if _is_allowed(s, number, cap)]
    gone = len(studies) - len(kept)
    return kept, [f"left out: {gone} studies of other budgets"] * bool(gone), False


def _is_allowed(study: StudyRecord, budget: int, cap: str) -> bool:
    if study.method == DEFAULT:
        return True
    return study.allowance == (budget, cap) or (study.method == RANDOM and study.allowance == (2 * budget, cap))


def _allowance(allowance: tuple[int, str]) -> str:
    budget, cap = allowance
    return f"{budget} trainings" + f" within {cap} device-hours" * bool(cap)


def _pairs(scores: Mapping[str, Mapping[int, float]], reference: str, notes: list[str]) -> list[Comparison]:
    """Verdicts, if there are two contestants to compare."""
    if reference != EVERY_PAIR and reference not in scores:
        raise BenchmarkError(
            f"reference is {reference!r}, but must be {EVERY_PAIR!r} or a confirmed contestant: "
            f"{', '.join(scores) or 'there is none yet'}"
        )
    if len(scores) < 2:
        notes.append(f"{len(scores)} confirmed contestants: a verdict takes two")
        return []
    return compare_pairs(scores, higher_is_better=True, reference=None if reference == EVERY_PAIR else reference)


def _line(contestant: Contestant, all_of_them: Sequence[Contestant], benchmark: Benchmark) -> Line:
    studies = list(contestant.studies.values())
    trainings = [training for found in contestant.trainings.values() for training in found]
    grid = next((c for c in all_of_them if c.method == MANUAL), None)
    hours = _mean(studies, "device_hours")
    grid_hours = _mean(list(grid.studies.values()), "device_hours") if grid else None
    reached = _hours_to_grid(contestant, grid, benchmark)
    there = [value for value in reached if value is not None]
    return Line(
        contestant.name,
        tuple(sorted(contestant.studies)),
        studies[0].budget if studies else 0,
        sum((Counter(study.outcomes) for study in studies), Counter[str]()),
        _estimate([s.metrics[f"best_{benchmark.metric}"] for s in studies if f"best_{benchmark.metric}" in s.metrics]),
        {metric: _estimate(list(contestant.scores(metric, benchmark).values())) for metric in TEST_SCORES},
        len(trainings),
        sum(training.diverged for training in trainings),
        hours,
        _mean(studies, "gpu_hours"),
        {part: _mean(studies, f"device_hours_{part}") or 0.0 for part in PARTS if studies},
        all(study.tags.get("hpo.ledger") != "total" for study in studies),
        _mean(studies, "wall_seconds"),
        _mean(studies, "units"),
        hours / grid_hours if hours is not None and grid_hours else None,
        len(there),
        len(reached),
        median(there) if there else None,
        _over_random(contestant, all_of_them, benchmark),
    )


def _hours_to_grid(contestant: Contestant, grid: Contestant | None, benchmark: Benchmark) -> list[float | None]:
    """Of each study that has a grid of the same seed: device-hours until it was as good, None if it never was."""
    if grid is None:
        return []
    key = f"best_{benchmark.metric}"
    targets = {seed: study.metrics[key] for seed, study in grid.studies.items() if key in study.metrics}
    return [
        curves.hours_to(study, benchmark, targets[seed])
        for seed, study in contestant.studies.items()
        if seed in targets and not study.units.empty
    ]


def _over_random(contestant: Contestant, all_of_them: Sequence[Contestant], benchmark: Benchmark) -> Estimate | None:
    baseline = next((c for c in all_of_them if c.name == RANDOM), None)
    if baseline is None or baseline is contestant:
        return None
    own, others = (list(c.scores(SCORE, benchmark).values()) for c in (contestant, baseline))
    return probability_of_improvement(own, others, higher_is_better=True) if own and others else None


def _shrinkage(contestant: Contestant, benchmark: Benchmark) -> list[Shrinkage]:
    return [
        Shrinkage(
            contestant.name,
            seed,
            study.best["metrics"]["f1"],
            fmean(score(t, "f1", benchmark) for t in trainings),
            fmean(score(t, "test_f1", benchmark) for t in trainings),
            len(trainings),
        )
        for seed, study in contestant.studies.items()
        if study.best and "f1" in study.best["metrics"] and (trainings := contestant.trainings[seed])
    ]


def _estimate(values: Sequence[float]) -> Estimate | None:
    """Interquartile mean with its interval."""
    return Estimate(interquartile_mean(values), bootstrap_interval(values)) if values else None


def _mean(studies: Sequence[StudyRecord], metric: str) -> float | None:
    values = [study.metrics[metric] for study in studies if metric in study.metrics]
    return fmean(values) if values else None


def _place(line: Line) -> tuple[float, str]:
    """Best confirmed score first, then those without."""
    best = line.test[SCORE]
    return (-best.value if best else 1.0, line.name)
