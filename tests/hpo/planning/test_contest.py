"""The plan of a suite: written once, and what it takes told before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.space import LogUniform
from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.planning.contest import SuiteOptions, explain_blocks, methods_of, require_planned, settle
from tests.hpo.analysis.stored import study

BENCHMARK = spec.load("synthetic")
OPTIONS = SuiteOptions("random,asha:searcher=optuna,random:budget=24", "0,1,2", 12, None, "random", 1)
NOTHING: dict[str, bool] = {}
NARROW = BENCHMARK.model_copy(update={"space": {"learning_rate": LogUniform(type="loguniform", low=1e-4, high=1e-1)}})
"""The same benchmark with another search space."""


def settled(path: Path | str, options: SuiteOptions = OPTIONS, **given: bool) -> Any:
    return settle(str(path), options, given, BENCHMARK)


def test_a_plan_is_made_of_a_suite_s_options() -> None:
    plan = settled("")
    assert [(one.label, one.budget) for one in plan.methods] == [
        ("random", 12),
        ("asha searcher=optuna", 12),
        ("random", 24),
    ]
    assert (plan.seeds, plan.reference, plan.looks) == ((0, 1, 2), "random", 1)
    assert plan.metric == BENCHMARK.verdict_metric.name
    assert methods_of(plan)[1].study(BENCHMARK, 0, None).variant == "searcher=optuna"


def test_a_contestant_that_is_named_twice_is_one() -> None:
    methods = "random,asha:promotion=false,random:budget=12,asha,asha:searcher=optuna"
    plan = settled("", replace(OPTIONS, methods=methods))
    assert [one.label for one in plan.methods] == ["random", "asha", "asha searcher=optuna"]
    assert plan.num_comparisons == 2


def test_it_is_written_once_and_then_decides(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    first = settled(file)
    text = file.read_text()
    assert settled(file, replace(OPTIONS, methods="all", seeds="0")) == first  # defaults that the user did not give
    assert file.read_text() == text == first.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "0,1,2,3"}, r"seeds is \(0, 1, 2, 3\), but the plan in .*plan\.json says \(0, 1, 2\)"),
        ({"methods": "asha"}, "methods is"),
        ({"looks": 5}, "looks is 5, but the plan in .* says 1"),
    ],
)
def test_an_option_that_says_otherwise_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    settled(tmp_path / "plan.json")
    with pytest.raises(BenchmarkError, match=message):
        settled(tmp_path / "plan.json", replace(OPTIONS, **changes), **dict.fromkeys(changes, True))


def test_another_version_of_the_benchmark_is_refused(tmp_path: Path) -> None:
    settled(tmp_path / "plan.json")
    other = BENCHMARK.model_copy(update={"diverged_above": 9.0})
    with pytest.raises(BenchmarkError, match=r"digest is .*, but the plan in"):
        settle(str(tmp_path / "plan.json"), OPTIONS, NOTHING, other)


def test_another_search_space_is_refused(tmp_path: Path) -> None:
    settled(tmp_path / "plan.json")
    with pytest.raises(BenchmarkError, match=r"space is .*, but the plan in"):
        settle(str(tmp_path / "plan.json"), OPTIONS, NOTHING, NARROW)


def test_a_plan_that_names_no_search_space_is_followed_under_its_own_checksum(tmp_path: Path) -> None:
    old = settled("").model_copy(update={"space": ""})
    (tmp_path / "plan.json").write_text(old.text)
    assert '"space"' not in old.text
    assert settle(str(tmp_path / "plan.json"), OPTIONS, NOTHING, NARROW).checksum == old.checksum
    require_planned(old, Study("random", NARROW, 1, 12), "plan.json")


def test_a_planned_cap_is_asked_for() -> None:
    with pytest.raises(BenchmarkError, match=r"with a cap of 2 device-hours, but .* no cap .*; add --gpu-hours 2"):
        require_planned(settled("", replace(OPTIONS, gpu_hours=2.0)), Study("random", BENCHMARK, 1, 12), "plan.json")


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="the plan cannot be written"):
        settled(tmp_path / "no" / "plan.json")


@pytest.mark.parametrize(("reference", "message"), [("bohb", "reference is 'bohb', but must be 'all' or one of")])
def test_a_reference_that_does_not_run_is_refused(reference: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        settled("", replace(OPTIONS, reference=reference))
    assert settled("", replace(OPTIONS, methods="asha,bohb")).reference == "all"  # random search does not run


def test_a_study_outside_of_its_plan_is_refused() -> None:
    plan = settled("")
    require_planned(plan, Study("random", BENCHMARK, 1, 24), "plan.json")
    for outside, message in (
        (Study("random", BENCHMARK, 9, 24), "has no seed 9; it has 0, 1, 2"),
        (Study("asha", BENCHMARK, 1, 12), "has no asha with budget 12; it has random with budget 12"),
        (Study("random", BENCHMARK.model_copy(update={"diverged_above": 9.0}), 1, 12), "another version of synthetic"),
        (Study("random", NARROW, 1, 12), "plan.json: was made for another search space"),
        (
            Study("random", BENCHMARK, 1, 12, gpu_hours=0.5),
            "studies with no cap in device-hours, but this one has a cap of 0.5 device-hours; leave --gpu-hours out",
        ),
    ):
        with pytest.raises(BenchmarkError, match=message):
            require_planned(plan, outside, "plan.json")


class TestBlocks:
    def test_too_few_seeds_say_how_many_are_missing_and_what_they_cost(self) -> None:
        assert explain_blocks(settled(""), []) == (
            "3 seeds are too few for a verdict on 2 comparisons with random: it takes at least 7 that all agree, so 4 "
            "more, at most 192 full trainings"
        )
        known = [study("asha", metrics={"device_hours": 6.0})]  # of 12 trainings
        assert explain_blocks(settled(""), known).endswith("about 96 device-hours by the studies that are stored")

    def test_the_default_configuration_takes_one_training_of_its_budget(self) -> None:
        plan = settled("", replace(OPTIONS, methods="random,asha,default"))
        known = [study("asha", metrics={"device_hours": 6.0}), study("default", metrics={"device_hours": 0.5})]
        text = explain_blocks(plan, known)
        assert text.endswith(
            "3 more, at most 75 full trainings, about 37.5 device-hours by the studies that are stored"
        )

    def test_enough_seeds_say_so(self) -> None:
        text = explain_blocks(settled("", replace(OPTIONS, seeds="0,1,2,3,4,5,6")), [])
        assert text == "7 seeds are enough for a verdict on 2 comparisons with random, which takes 7 that all agree"

    def test_looks_take_more(self) -> None:
        text = explain_blocks(settled("", replace(OPTIONS, looks=3)), [])
        assert "on 2 comparisons with random at 3 looks: it takes at least 8" in text

    def test_a_method_alone_has_no_verdict(self) -> None:
        assert "the plan compares nothing" in explain_blocks(
            settled("", replace(OPTIONS, methods="random,default")), []
        )
