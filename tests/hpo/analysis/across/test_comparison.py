"""Methods over several tasks: who is compared, what is left out, and when there is a statement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis.across.comparison import TaskPair, compare_tasks, doubts, tasks_needed
from hpo.analysis.statistics.estimates import Estimate
from hpo.analysis.statistics.hierarchical import FurtherTask, further_task
from tests.hpo.analysis.across.made_tasks import drawn, task

TWO = {"asha": [0.70, 0.74], "random": [0.60, 0.66]}


def test_two_tasks_have_regrets_and_no_statement() -> None:
    found = compare_tasks(drawn(2))
    assert set(found.regrets) == {"asha", "bohb", "hyperopt", "random"}
    assert (found.aggregates, found.pairs, found.ranking) == ({}, (), None)


def test_a_method_that_is_better_on_all_tasks_is_said_to_be() -> None:
    found = compare_tasks(drawn(5))
    assert next(iter(found.regrets)) == "asha"
    statements = {pair.a: pair.statement for pair in found.pairs}
    assert statements == {"asha": "better", "bohb": "not resolved", "hyperopt": "not resolved"}
    assert found.ranking is not None
    assert found.ranking.num_blocks == 5
    assert found.ranking.mean_ranks["asha"] == 1


def test_seeds_do_not_make_up_for_tasks() -> None:
    """A method that is far better on two tasks and worse on the third is not resolved, whatever its seeds."""
    scores = [
        drawn(1, 30, effects={"asha": effect, "random": 0.0}, seed=number)[0].scores
        for number, effect in enumerate((0.1, 0.04, -0.02))
    ]
    tasks = [
        task(f"task{number}", {method: list(own.values()) for method, own in found.items()})
        for number, found in enumerate(scores)
    ]
    [asha] = compare_tasks(tasks).pairs
    assert asha.statement == "not resolved"


def test_methods_without_scores_on_all_tasks_are_left_out_with_the_reason() -> None:
    found = compare_tasks([task("a", {**TWO, "bohb": [0.7, 0.7]}), task("b", TWO), task("c", TWO)])
    assert set(found.regrets) == {"asha", "random"}
    assert "left out: bohb has no confirmed score on b, c" in found.notes


def test_a_method_that_lacks_a_seed_is_left_out_and_does_not_decide_the_blocks() -> None:
    three = {"asha": [0.7, 0.8, 0.7], "random": [0.5, 0.6, 0.7]}
    found = compare_tasks([task("a", {**three, "bohb": [0.7]}), task("b", {**three, "bohb": [0.7, 0.7, 0.6]})])
    assert set(found.regrets) == {"asha", "random"}
    assert found.blocks == {"a": (0, 1, 2), "b": (0, 1, 2)}
    assert "left out: bohb lacks seeds that most methods have, on a" in found.notes


def test_the_same_task_counts_once() -> None:
    found = compare_tasks([task("a", TWO, digest="1"), task("a_recorded", TWO, digest="1"), task("b", TWO)])
    assert [one.name for one in found.tasks] == ["a", "b"]
    assert "left out: a_recorded is the task of a, which counts once" in found.notes


def test_tasks_with_different_budgets_are_refused_unless_asked_for() -> None:
    tasks = [task("a", TWO), task("b", TWO, budget=6)]
    with pytest.raises(BenchmarkError, match=r"different budgets \(a: 12, b: 6\).*--budget"):
        compare_tasks(tasks)
    found = compare_tasks(tasks, mixed_budgets=True)
    assert found.has_mixed_budgets
    assert any(note.startswith("budgets differ (a: 12, b: 6)") for note in found.notes)


def test_other_conditions_that_differ_are_told() -> None:
    found = compare_tasks([task("a", TWO), task("b", TWO, tags={"hpo.accelerator": "H200"})])
    assert "tasks differ in accelerator: a cpu, b H200" in found.notes


def test_a_scale_within_the_margin_is_told() -> None:
    found = compare_tasks([task("a", {"asha": [0.601], "random": [0.6]}), task("b", TWO)])
    assert [note for note in found.notes if "do not matter" in note and note.startswith("a: ")]


def test_without_a_method_in_common_nothing_is_compared() -> None:
    tasks = [task("a", TWO), task("b", TWO)]
    only = [tasks[0], replace(tasks[1], scores={"bohb": {0: 0.5}})]
    with pytest.raises(
        BenchmarkError, match=r"no method has confirmed scores on all of 2 tasks \(a: asha, random; b: b"
    ):
        compare_tasks(only)
    with pytest.raises(BenchmarkError, match="there is no task to compare"):
        compare_tasks([])


@pytest.mark.slow
def test_every_pair_or_another_reference_can_be_asked_for() -> None:
    tasks = drawn(3)
    assert len(compare_tasks(tasks, reference="all").pairs) == 6
    assert {pair.b for pair in compare_tasks(tasks, reference="asha").pairs} == {"asha"}
    with pytest.raises(BenchmarkError, match="reference is 'pbt', but must be 'all' or a method with scores on all"):
        compare_tasks(tasks, reference="pbt")


def test_the_default_has_regrets_and_is_no_part_of_the_pairs() -> None:
    tasks = drawn(3, effects={"asha": 0.05, "random": 0.0, "default": -0.05})
    found = compare_tasks(tasks, reference="all")
    assert "default" in found.regrets
    assert [(pair.a, pair.b) for pair in found.pairs] == [("asha", "random")]


def test_a_statement_is_corrected_for_all_pairs_of_the_comparison() -> None:
    """A probability of 0.97 is a statement by itself, and none among two such pairs or beside an open one."""
    sure = FurtherTask(0.97, 0.02, 0.01, Estimate(3.0, None))
    surer = FurtherTask(0.001, 0.009, 0.99, Estimate(-3.0, None))
    said = [
        [TaskPair("a", "b", one, doubt).statement for one, doubt in zip(family, doubts(family), strict=True)]
        for family in ([sure], [sure, sure], [sure, surer])
    ]
    assert said == [["better"], ["not resolved", "not resolved"], ["better", "worse"]]


def test_the_tasks_that_a_statement_takes_are_the_fewest_that_resolve_it() -> None:
    differences = [[3.0, 4.5, 2.0], [2.5, 1.0, 3.5], [5.0, 3.0, 4.0]]
    number = tasks_needed(differences, 3)
    assert number is not None
    enough, fewer = further_task(differences * (number // 3)), further_task(differences * (number // 3 - 1))
    assert enough is not None
    assert fewer is not None
    assert 3 * (1 - enough.better) <= 0.05 < 3 * (1 - fewer.better)
    assert tasks_needed(differences, 1) < number


def test_no_number_of_tasks_resolves_methods_that_change_places() -> None:
    assert tasks_needed([[5.0, 6.0], [-5.0, -6.0], [0.0, 3.0]], 1) is None


def test_a_pair_that_is_resolved_needs_no_more_tasks() -> None:
    needed = {pair.a: pair.tasks_needed for pair in compare_tasks(drawn(5)).pairs}
    assert needed["asha"] is None
    assert needed["bohb"] is None or needed["bohb"] > 5
