"""A comparison beside its plan: as planned, or all that differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis import compare
from hpo.analysis.compare import Result
from hpo.analysis.conditions.planned import ComparisonPlan, PlannedMethod, parse_plan, read_plan
from hpo.analysis.records import Records
from hpo.report import page, tables
from tests.hpo.analysis.stored import BENCHMARK, confirmed, records, study

METRIC = BENCHMARK.verdict_metric


def plan_of(
    methods: Sequence[str] = ("asha", "random"), seeds: Sequence[int] = range(6), **changes: Any
) -> ComparisonPlan:
    planned = tuple(PlannedMethod(method=method, budget=12) for method in methods)
    given: dict[str, Any] = {"benchmark": "synthetic", "digest": "digest", "metric": METRIC.name}
    given |= {"margin": METRIC.margin, "methods": planned, "seeds": tuple(seeds), "budget": 12, "reference": "random"}
    return ComparisonPlan(**{**given, **changes})


def stored(
    plan: ComparisonPlan | None, seeds: Sequence[int] = range(6), own: Mapping[str, str] | None = None, **more: Any
) -> Records:
    """Store confirmed studies that ran under a plan, with tags of their own."""
    tags = {"hpo.accelerator": "cpu", **({"hpo.plan": plan.checksum} if plan else {}), **(own or {})}
    studies = [study(method, seed, tags=tags) for method in ("asha", "random") for seed in seeds]
    scores = {"asha": 0.7, "random": 0.6}
    trainings = [t for s in studies for t in confirmed(s, scores[s.method] + 0.001 * s.seed)]
    return records(studies, trainings, plans={plan.checksum: plan.text} if plan else {}, **more)


def compared(found: Records, **options: Any) -> Result:
    return compare.compare(found, **options)


def test_as_planned_is_said_on_top_everywhere() -> None:
    plan = plan_of()
    result = compared(stored(plan))
    sentence = (
        f"As planned (plan {plan.checksum}: 2 contestants x 6 seeds, each against random on test {METRIC.name}, margin "
        f"{METRIC.margin:g}, 1 look)."
    )
    assert result.plan.sentence == sentence
    assert result.plan.differences == ()
    assert sentence in tables.markdown(result)
    assert tables.as_json(result)["plan"]["sentence"] == sentence
    assert sentence in page.files(result)["report.html"]


def test_no_plan_is_said() -> None:
    assert compared(stored(None)).plan.sentence == "No plan was fixed before the studies ran."


@pytest.mark.parametrize(
    ("planned", "there", "expected"),
    [
        ({"seeds": range(7)}, {}, "asha lacks seed 6"),
        ({"seeds": range(4)}, {}, "random has, beyond the plan, seeds 4, 5"),
        ({"methods": ("asha", "random", "bohb")}, {}, "bohb was planned and is not there"),
        ({"methods": ("random",)}, {}, "asha was not planned"),
        ({"margin": 0.5}, {}, f"margin is {METRIC.margin}, planned was 0.5"),
        ({"metric": "perplexity"}, {}, f"metric is {METRIC.name}, planned was perplexity"),
        ({"digest": "other"}, {}, "version of the benchmark is digest, planned was other"),
        ({"protocol": "0"}, {}, "protocol is "),
        ({}, {"reference": "asha"}, "reference is asha, planned was random"),
    ],
)
def test_all_that_differs_is_named(planned: dict[str, Any], there: dict[str, Any], expected: str) -> None:
    check = compared(stored(plan_of(**planned)), **there).plan
    assert [clause for clause in check.differences if clause.startswith(expected)], check.differences
    assert check.sentence.startswith("Not as planned (plan ")


@pytest.mark.parametrize(
    ("planned", "tags", "expected"),
    [
        ({}, {"hpo.gpu_hours": "0.5"}, "12 studies had a cap of 0.5 device-hours, planned was no cap in device-hours"),
        ({"gpu_hours": 2.0}, {}, "12 studies had no cap in device-hours, planned was a cap of 2 device-hours"),
        ({"gpu_hours": 2.0}, {"hpo.gpu_hours": "2.0"}, ""),
        ({"space": "wide"}, {"hpo.space_digest": "narrow"}, "search space is narrow, planned was wide"),
        ({"space": "wide"}, {"hpo.space_digest": "wide"}, ""),
        ({}, {"hpo.space_digest": "wide"}, ""),
    ],
)
def test_another_cap_or_search_space_is_named(planned: dict[str, Any], tags: dict[str, str], expected: str) -> None:
    check = compared(stored(plan_of(**planned), own=tags)).plan
    assert check.differences == ((expected,) if expected else ())


def test_seeds_that_were_added_after_a_first_plan_show() -> None:
    first, second = plan_of(seeds=range(3)), plan_of()
    early, late = stored(first, seeds=range(3)), stored(second, seeds=range(3, 6))
    both = records(
        [*early.studies, *late.studies],
        [*early.confirmations, *late.confirmations],
        plans={**early.plans, **late.plans},
    )
    check = compared(both).plan
    assert check.plan == second
    assert check.differences == (f"6 studies ran under plan {first.checksum}",)


def test_a_study_that_was_run_again_shows() -> None:
    plan = plan_of()
    found = stored(plan)
    again = replace(found.studies[2], run_id="again", started=99)
    result = compared(replace(found, studies=[*found.studies, again]))
    assert result.plan.differences == ("asha seed 2 was run 2 times, and the newest counts",)


def test_a_study_that_failed_first_shows_too() -> None:
    found = stored(plan_of())
    lost = replace(found.studies[2], run_id="lost", started=-1)
    assert "asha seed 2 was run 2 times" in compared(replace(found, failed=[lost])).plan.sentence


class TestLooks:
    def test_the_same_scores_again_are_the_same_look(self) -> None:
        first = compared(stored(plan_of()))
        again = compared(
            stored(plan_of(), comparisons=[{"hpo.benchmark_digest": "digest", "hpo.evidence": first.evidence}] * 3)
        )
        assert (first.plan.looks, again.plan.looks) == (1, 1)
        assert again.plan.differences == ()

    def test_other_scores_are_another_and_the_level_is_shared(self) -> None:
        earlier = [{"hpo.benchmark_digest": "digest", "hpo.evidence": text} for text in ("a", "b", "b")]
        [once], [thrice] = (compared(stored(plan_of(), comparisons=them)).pairs for them in ([], earlier))
        assert thrice.p_holm == 3 * once.p_holm
        assert (once.verdict, thrice.verdict) == ("better", "not resolved")
        assert "3 looks where 1 was planned" in compared(stored(plan_of(), comparisons=earlier)).plan.sentence

    def test_planned_looks_share_it_from_the_first_on(self) -> None:
        plan = plan_of(looks=3)
        result = compared(stored(plan))
        assert result.pairs[0].p_holm == pytest.approx(3 * 2 / 2**6)
        assert result.plan.sentence.startswith("As planned")

    def test_looks_at_another_version_of_the_benchmark_do_not_count(self) -> None:
        other = [{"hpo.benchmark_digest": "other", "hpo.evidence": "a"}]
        assert compared(stored(plan_of(), comparisons=other)).plan.looks == 1

    def test_without_confirmed_scores_there_is_no_look(self) -> None:
        result = compared(replace(stored(plan_of()), confirmations=[]))
        assert (result.plan.looks, result.evidence) == (0, "")


class TestFiles:
    def test_the_checksum_is_the_plan_s_and_not_the_file_s(self, tmp_path: Path) -> None:
        plan = plan_of()
        (tmp_path / "plan.json").write_text(json.dumps(json.loads(plan.text)))
        assert read_plan(tmp_path / "plan.json").checksum == plan.checksum

    @pytest.mark.parametrize(("text", "message"), [("{", "the file: "), ('{"looks": 0}', "benchmark: Field required")])
    def test_a_file_that_is_no_plan_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(BenchmarkError, match=f"plan.json: {message}.*a plan has the keys benchmark, digest"):
            parse_plan(text, "plan.json")

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"no\.json: cannot be read"):
            read_plan(tmp_path / "no.json")

    def test_blocks_follow_from_comparisons_and_looks(self) -> None:
        assert (plan_of().num_comparisons, plan_of().blocks_needed) == (1, 6)
        assert plan_of(looks=4).blocks_needed == 8
        many = plan_of(["asha", "bohb", "random", "default"])
        assert (many.num_comparisons, plan_of(["asha", "bohb", "random"], reference="all").num_comparisons) == (2, 3)
        assert plan_of(["random", "default"]).blocks_needed == 0
