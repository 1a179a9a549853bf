"""The plan of a comparison: fixed before the first study, kept with each, and told beside every result. Pure.

A plan names the contestants, seeds, budget, reference, metric, margin and looks. Its checksum is a tag of each study
that was run under it (`hpo.plan`), so that a report can say "as planned", or what differs. A later plan is another
checksum: adding seeds after a look at the results shows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from benchmarks.space import Strict
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from hpo.analysis.contestants import Contestant
from hpo.analysis.statistics.paired_tests import blocks_needed
from hpo.analysis.studies import StudyRecord
from hpo.core.study import PROTOCOL, text_checksum
from hpo.core.wording import counted
from hpo.search import registry

EVERY_PAIR = "all"
"""Stands for every pair, in place of a reference."""


class PlannedMethod(Strict):
    """A contestant: a method with its arguments and budget.

    Attributes:
        method: its name.
        arguments: those that are not left at their defaults, as text.
        budget: full trainings of each of its studies.
    """

    method: str
    arguments: dict[str, str] = Field(default_factory=dict)
    budget: int

    @property
    def label(self) -> str:
        """The method with its arguments, as contestants are labelled."""
        own = registry.get(self.method)
        given, defaults = own.parse(self.arguments).model_dump(), own.arguments().model_dump()
        changed = [f"{key}={value}" for key, value in given.items() if value != defaults[key]]
        return " ".join([self.method, *changed])


class ComparisonPlan(Strict):
    """A plan; a file of one has these keys.

    Attributes:
        benchmark: name of the benchmark.
        digest: its version, see `benchmarks.identity`.
        metric: the metric of the verdict, on test.
        margin: difference in it that does not matter.
        methods: the contestants.
        seeds: the blocks; each contestant runs with each.
        budget: full trainings of a study, where a contestant has none of its own.
        gpu_hours: cap of each study in device-hours.
        reference: label of the contestant that each other one is compared with, or "all" for every pair.
        looks: times that the results may be looked at while they grow; each has an equal share of the level.
        protocol: version of the rules.
        space: checksum of the search space; empty in plans that do not name it.
    """

    benchmark: str
    digest: str
    metric: str
    margin: float
    methods: tuple[PlannedMethod, ...]
    seeds: tuple[int, ...]
    budget: int
    gpu_hours: float | None = None
    reference: str
    looks: Annotated[int, Field(ge=1)] = 1
    protocol: str = PROTOCOL
    space: str = ""

    @property
    def text(self) -> str:
        """The plan as a file."""
        later = set() if self.space else {"space"}  # a key that came later: checksums from before it still hold
        return json.dumps(self.model_dump(mode="json", exclude=later), indent=2, sort_keys=True) + "\n"

    @property
    def checksum(self) -> str:
        """The plan's checksum, whatever its file looks like."""
        return text_checksum(self.text)

    @property
    def num_comparisons(self) -> int:
        """Comparisons that are corrected together: those of the default configuration are no part of them."""
        searched = [one for one in self.methods if not registry.traits_of(one.method).is_single_config]
        if self.reference == EVERY_PAIR:
            return len(searched) * (len(searched) - 1) // 2
        return sum((one.label, one.budget) != (self.reference, self.budget) for one in searched)

    @property
    def blocks_needed(self) -> int:
        """Fewest seeds with which one of its comparisons can be resolved; 0 without comparisons."""
        return blocks_needed(self.num_comparisons * self.looks) if self.num_comparisons else 0

    @property
    def words(self) -> str:
        """The plan in a few words."""
        against = "every pair" if self.reference == EVERY_PAIR else f"each against {self.reference}"
        return (
            f"{counted(len(self.methods), 'contestant')} x {counted(len(self.seeds), 'seed')}, {against} on test "
            f"{self.metric}, margin {self.margin:g}, {counted(self.looks, 'look')}"
        )


def default_reference() -> str:
    """Return the method that the others are compared with unless a plan names another: random search."""
    return registry.with_trait(lambda traits: traits.is_reference)[0]


def parse_plan(text: str, source: str) -> ComparisonPlan:
    """Read a plan.

    Args:
        text: of its file.
        source: the file, for messages.

    Raises:
        BenchmarkError: it is no plan.
    """
    try:
        return ComparisonPlan.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise BenchmarkError(
            f"{source}: {where}: {fault['msg']}; a plan has the keys {', '.join(ComparisonPlan.model_fields)}, and "
            "`suite --plan FILE` writes one where there is no such file"
        ) from None


def read_plan(path: Path) -> ComparisonPlan:
    """Read a plan from a file.

    Raises:
        BenchmarkError: the file cannot be read, or is no plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BenchmarkError(f"{path}: cannot be read ({first_line(error)}); give the file of a plan") from None
    return parse_plan(text, str(path))


# ---- a comparison beside its plan


@dataclass(frozen=True)
class PlanCheck:
    """A comparison beside its plan.

    Attributes:
        plan: the plan of the newest study that has one, or the one that was given; None without any.
        looks: times that verdicts on growing results were looked at, this one included; 0 without a verdict.
        differences: all that is not as planned, a clause each.
        lost: without a plan, a clause for each one of the studies that cannot be read.
    """

    plan: ComparisonPlan | None
    looks: int
    differences: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def counted_looks(self) -> int:
        """Looks that the level is shared among: those planned, or those made if they are more."""
        return max(self.looks, self.plan.looks if self.plan else 1, 1)

    @property
    def sentence(self) -> str:
        """The first sentence of a report."""
        if self.plan is None and self.lost:
            head = f"It is not known whether this is as planned: {'; '.join(self.lost)}"
        elif self.plan is None:
            head = "No plan was fixed before the studies ran"
        elif self.differences:
            head = f"Not as planned (plan {self.plan.checksum}: {self.plan.words})"
        else:
            head = f"As planned (plan {self.plan.checksum}: {self.plan.words})"
        return f"{head}: {'; '.join(self.differences)}." if self.differences else f"{head}."


def check_plan(
    plan: ComparisonPlan | None,
    contestants: Sequence[Contestant],
    benchmark: Benchmark,
    digest: str,
    reference: str,
    looks: int,
    lost_plans: Mapping[str, str],
) -> PlanCheck:
    """Set a comparison beside its plan.

    Args:
        plan: the plan; None if there is none.
        contestants: all that are compared.
        benchmark: as the newest study ran it.
        digest: its version.
        reference: the contestant that the others are compared with, or "all".
        looks: see `PlanCheck`.
        lost_plans: see `Records`.
    """
    differences = _replaced(contestants)
    studies = [study for one in contestants for study in one.studies.values()]
    lost = tuple(
        f"studies ran under plan {plan}, whose plan.json cannot be read ({reason})"
        for plan, reason in lost_plans.items()
        if any(study.plan == plan for study in studies)
    )
    if plan is None:
        if looks > 1:
            differences.append(f"this is look {looks} at growing results, and the level is shared among them")
        return PlanCheck(None, looks, tuple(differences), lost)
    metric = benchmark.verdict_metric
    pairs = {
        "version of the benchmark": (plan.digest, digest),
        "metric": (plan.metric, metric.name),
        "margin": (plan.margin, metric.margin),
        "reference": (plan.reference, reference),
        "protocol": (plan.protocol, PROTOCOL),
    }
    changed = [f"{name} is {now}, planned was {then}" for name, (then, now) in pairs.items() if then != now]
    if looks > plan.looks:
        changed.append(f"{counted(looks, 'look')} where {plan.looks} {'was' if plan.looks == 1 else 'were'} planned")
    return PlanCheck(
        plan,
        looks,
        (
            *changed,
            *_missing(plan, contestants),
            *_with_other_limits(plan, studies),
            *_under_other_plans(plan, studies),
            *lost,
            *differences,
        ),
    )


def _missing(plan: ComparisonPlan, contestants: Sequence[Contestant]) -> list[str]:
    """Name contestants and seeds that lack, and those that were not planned."""
    planned = {_key(one.method, one.label, one.budget): one for one in plan.methods}
    there = {_key(one.method, one.label, one.budget): one for one in contestants if one.studies}
    found = [f"{one.label} was planned and is not there" for key, one in planned.items() if key not in there]
    found += [f"{one.name} was not planned" for key, one in there.items() if key not in planned]
    for key in planned.keys() & there.keys():
        own, wanted = set(there[key].studies), set(plan.seeds)
        for seeds, clause in ((wanted - own, "lacks"), (own - wanted, "has, beyond the plan,")):
            if seeds:
                found.append(f"{there[key].name} {clause} {_seeds(seeds)}")
    return sorted(found)


def _key(method: str, label: str, budget: int) -> tuple[str, int]:
    return label, 0 if registry.traits_of(method).is_single_config else budget


def _seeds(seeds: set[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"


def _with_other_limits(plan: ComparisonPlan, studies: Sequence[StudyRecord]) -> list[str]:
    """Count the studies with another cap in device-hours, and tell of another search space, which studies share."""
    caps = Counter(study.allowance[1] for study in studies if not study.traits.is_single_config)
    found = [
        f"{counted(number, 'study', 'studies')} had {cap_in_words(cap)}, planned was {cap_in_words(plan.gpu_hours)}"
        for cap, number in sorted(caps.items())
        if cap_in_words(cap) != cap_in_words(plan.gpu_hours)
    ]
    spaces = {study.tags.get("hpo.space_digest", "") for study in studies} - {""}
    if plan.space and spaces - {plan.space}:
        found.append(f"search space is {', '.join(sorted(spaces))}, planned was {plan.space}")
    return found


def cap_in_words(device_hours: float | str | None) -> str:
    """Write a study's cap in device-hours, which a tag holds as text."""
    return f"a cap of {float(device_hours):g} device-hours" if device_hours else "no cap in device-hours"


def _under_other_plans(plan: ComparisonPlan, studies: Sequence[StudyRecord]) -> list[str]:
    """Count the studies that were run under another plan, or under none."""
    others = Counter(study.plan for study in studies if study.plan != plan.checksum)
    return [
        f"{counted(number, 'study', 'studies')} ran under " + (f"plan {other}" if other else "no plan")
        for other, number in sorted(others.items())
    ]


def _replaced(contestants: Sequence[Contestant]) -> list[str]:
    """Name the studies that were run again: the newest counts, which lets one choose."""
    return [
        f"{one.name} seed {seed} was run {number} times, and the newest counts"
        for one in contestants
        for seed, number in sorted(one.runs.items())
        if number > 1
    ]


def count_looks(tags: Sequence[Mapping[str, str]], digest: str, evidence: str) -> int:
    """Count the looks at growing results: distinct sets of scores on which verdicts were reached.

    Args:
        tags: of the earlier comparisons.
        digest: version of the benchmark.
        evidence: checksum of the scores now; empty without a verdict.
    """
    earlier = {one.get("hpo.evidence", "") for one in tags if one.get("hpo.benchmark_digest") == digest}
    return len((earlier | {evidence}) - {""}) if evidence else 0
