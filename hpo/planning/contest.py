"""Contestants and seeds of a suite, from words to a plan that is fixed before anything runs.

plan = settle("plan.json", {"methods": "all", "seeds": "0,1,2", ...}, defaults, benchmark)
print(missing_blocks(plan, finished))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.files import whole_number
from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from hpo.analysis.conditions.planned import (
    EVERY_PAIR,
    ComparisonPlan,
    PlannedMethod,
    cap_in_words,
    default_reference,
    read_plan,
)
from hpo.analysis.studies import StudyRecord
from hpo.core.study import Study, space_digest
from hpo.core.traits import large_reference_budget
from hpo.core.wording import counted
from hpo.search import registry
from hpo.terminal.next_steps import spell

ALL = "all"
BUDGET = "budget"


@dataclass(frozen=True)
class SuiteMethod:
    """A method with its arguments, as a suite runs it: one study per seed.

    Attributes:
        method: its name.
        given: arguments that are not left at their defaults, as text.
        budget: full trainings of each study.
    """

    method: str
    given: dict[str, str]
    budget: int

    @property
    def planned(self) -> PlannedMethod:
        """The contestant as a plan names it."""
        return PlannedMethod(method=self.method, arguments=self.given, budget=self.budget)

    def study(self, benchmark: Benchmark, seed: int, gpu_hours: float | None) -> Study:
        """Describe its study with one seed.

        Raises:
            BenchmarkError: an argument that is unknown or out of range.
        """
        return registry.get(self.method).study(benchmark, seed, self.budget, gpu_hours, self.given)

    def command(self, benchmark: GivenBenchmark, seed: int, gpu_hours: float | None) -> str:
        """Write the command that runs one study of it alone."""
        options = {"benchmark": benchmark.name, "budget": self.budget, "seed": seed, "space": benchmark.space}
        options |= {"gpu_hours": gpu_hours or "", **self.given}
        given = {name: str(value) for name, value in options.items() if value != ""}
        return spell(["python", "-m", "hpo", "run", self.method], given)


@dataclass(frozen=True)
class GivenBenchmark:
    """A benchmark with the words that asked for it, for commands that ask for it again.

    Attributes:
        content: the benchmark.
        name: its name or the path of its YAML file.
        space: the path of a search space that replaces its own; empty for none.
    """

    content: Benchmark
    name: str
    space: str = ""


def parse_methods(text: str, budget: int) -> list[SuiteMethod]:
    """Read methods from a list such as "random,asha:searcher=optuna,random:budget=24".

    "all" stands for every method, and for the larger random search (`hpo.core.traits`). A contestant that is named
    twice, such as by an argument's default, is one.

    Raises:
        BenchmarkError: no such method, or an argument it does not have.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == [ALL]:
        references = registry.with_trait(lambda traits: traits.is_reference)
        words = [*registry.names(), *(f"{name}:{BUDGET}={large_reference_budget(budget)}" for name in references)]
    if not words:
        raise BenchmarkError(f"methods is {text!r}, but must name at least one; {ALL!r} stands for every method")
    named = [_parse_method(word, budget) for word in words]
    return list({(one.planned.label, one.budget): one for one in named}.values())


def _parse_method(word: str, budget: int) -> SuiteMethod:
    name, *settings = word.split(":")
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BenchmarkError(f"methods has {word!r}, but arguments are given as METHOD:NAME=VALUE")
        given[key.replace("-", "_")] = value
    own_budget = whole_number(given.pop(BUDGET)) if BUDGET in given else budget
    if own_budget is None:
        raise BenchmarkError(f"methods has {word!r}, but {BUDGET} must be a whole number of full trainings")
    registry.get(name).parse(given)
    return SuiteMethod(name, given, own_budget)


def parse_seeds(text: str) -> list[int]:
    """Read seeds from a list such as "0,1,2".

    Raises:
        BenchmarkError: not whole numbers.
    """
    seeds = [whole_number(word.strip()) for word in text.split(",") if word.strip()]
    if not seeds or None in seeds:
        raise BenchmarkError(f"seeds is {text!r}, but must be whole numbers with commas between them, such as 0,1,2")
    return [seed for seed in dict.fromkeys(seeds) if seed is not None]


@dataclass(frozen=True)
class SuiteOptions:
    """The options of a suite that a plan fixes.

    Attributes:
        methods: comma list, see `parse_methods`.
        seeds: comma list.
        budget: full trainings of each study.
        gpu_hours: cap of each study in device-hours, if there is one.
        reference: label of the method that the others are compared with, or "all".
        looks: times that the results may be looked at.
    """

    methods: str
    seeds: str
    budget: int
    gpu_hours: float | None
    reference: str
    looks: int

    def plan(self, benchmark: Benchmark) -> ComparisonPlan:
        """Make the plan of these options.

        Raises:
            BenchmarkError: an option that does not hold.
        """
        methods = parse_methods(self.methods, self.budget)
        if self.looks < 1:
            raise BenchmarkError(f"looks is {self.looks}, but must be >= 1")
        planned = tuple(method.planned for method in methods)
        metric = benchmark.verdict_metric
        return ComparisonPlan(
            benchmark=benchmark.name,
            digest=digest(benchmark),
            metric=metric.name,
            margin=metric.margin,
            methods=planned,
            seeds=tuple(parse_seeds(self.seeds)),
            budget=self.budget,
            gpu_hours=self.gpu_hours,
            reference=self._reference([one.label for one in planned if one.budget == self.budget]),
            looks=self.looks,
            space=space_digest(benchmark),
        )

    def _reference(self, labels: Sequence[str]) -> str:
        """Return the reference; every pair is compared where the default one does not run.

        Raises:
            BenchmarkError: another one does not run.
        """
        if self.reference in (EVERY_PAIR, *labels):
            return self.reference
        if self.reference == default_reference():
            return EVERY_PAIR
        raise BenchmarkError(
            f"reference is {self.reference!r}, but must be {EVERY_PAIR!r} or one of the methods: {', '.join(labels)}"
        )


def settle(path: str, options: SuiteOptions, is_given: Mapping[str, bool], benchmark: Benchmark) -> ComparisonPlan:
    """Return the plan of a suite: that of the file, or that of the options, which is written there.

    A plan is written once. A file that is there decides, and options that say otherwise are refused.

    Args:
        path: the plan's file; empty for none.
        options: the suite's.
        is_given: by option, whether the user gave it another value than its default.
        benchmark: the benchmark that is tuned.

    Raises:
        BenchmarkError: an option that does not hold, a file that is no plan or cannot be written, or one that says
            otherwise than the benchmark or an option that was given.
    """
    wanted = options.plan(benchmark)
    if not path:
        return wanted
    if Path(path).exists():
        return _agreed(path, read_plan(Path(path)), wanted, is_given)
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(wanted.text)
    except OSError as error:
        raise BenchmarkError(f"{path}: the plan cannot be written ({first_line(error)}); name another file") from None
    return wanted


def _agreed(path: str, plan: ComparisonPlan, wanted: ComparisonPlan, is_given: Mapping[str, bool]) -> ComparisonPlan:
    own, other = plan.model_dump(), wanted.model_dump()
    fixed = ("benchmark", "digest", "metric", "margin", "protocol", *(["space"] if plan.space else []))
    for name in (*fixed, *(option for option, given in is_given.items() if given)):
        if own[name] != other[name]:
            raise BenchmarkError(
                f"{name} is {_short(other[name])}, but the plan in {path} says {_short(own[name])}; leave the option "
                "out to follow the plan, or name another file for another plan"
            )
    return plan


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def methods_of(plan: ComparisonPlan) -> list[SuiteMethod]:
    """Return the methods of a plan, as a suite runs them."""
    return [SuiteMethod(one.method, dict(one.arguments), one.budget) for one in plan.methods]


def require_planned(plan: ComparisonPlan, study: Study, path: str) -> None:
    """Make sure that a study belongs to a plan.

    Raises:
        BenchmarkError: its benchmark, search space, method, budget, cap or seed is not in the plan.
    """
    label = study.label
    if plan.digest != digest(study.benchmark):
        raise BenchmarkError(f"{path}: was made for another version of {plan.benchmark}; run with that version")
    if (label, study.budget) not in {(one.label, one.budget) for one in plan.methods}:
        there = ", ".join(f"{one.label} with budget {one.budget}" for one in plan.methods)
        raise BenchmarkError(f"{path}: has no {label} with budget {study.budget}; it has {there}")
    if plan.space and plan.space != study.space_digest:
        raise BenchmarkError(f"{path}: was made for another search space; run with that one, or make another plan")
    if plan.gpu_hours != study.gpu_hours:
        planned, own = cap_in_words(plan.gpu_hours), cap_in_words(study.gpu_hours)
        follow = f"add --gpu-hours {plan.gpu_hours:g}" if plan.gpu_hours else "leave --gpu-hours out"
        raise BenchmarkError(f"{path}: has studies with {planned}, but this one has {own}; {follow}")
    if study.seed not in plan.seeds:
        raise BenchmarkError(f"{path}: has no seed {study.seed}; it has {', '.join(map(str, plan.seeds))}")


def explain_blocks(plan: ComparisonPlan, finished: Sequence[StudyRecord]) -> str:
    """Tell whether a plan has seeds enough for a verdict, else how many are missing and what they cost.

    Args:
        plan: the plan.
        finished: stored studies of the benchmark, which tell device-hours per unit.
    """
    if not plan.num_comparisons:
        return "the plan compares nothing: a verdict takes two methods beside the default configuration"
    needed, there = plan.blocks_needed, len(plan.seeds)
    against = "of all pairs" if plan.reference == EVERY_PAIR else f"with {plan.reference}"
    share = f" at {counted(plan.looks, 'look')}" if plan.looks > 1 else ""
    what = f"{counted(plan.num_comparisons, 'comparison')} {against}{share}"
    if there >= needed:
        return f"{counted(there, 'seed')} are enough for a verdict on {what}, which takes {needed} that all agree"
    missing = needed - there
    trainings = missing * sum(_trainings(one.method, one.budget) for one in plan.methods)
    known = [study for study in finished if study.metrics.get("device_hours")]
    hours = [study.metrics["device_hours"] / _trainings(study.method, study.budget) for study in known]
    cost = f", about {trainings * fmean(hours):.3g} device-hours by the studies that are stored" if hours else ""
    return (
        f"{counted(there, 'seed')} are too few for a verdict on {what}: it takes at least {needed} that all agree, so "
        f"{missing} more, at most {trainings} full trainings{cost}"
    )


def _trainings(method: str, budget: int) -> int:
    """Return the full trainings of a study at most: a single configuration takes one, whatever its budget."""
    return 1 if registry.traits_of(method).is_single_config else budget
