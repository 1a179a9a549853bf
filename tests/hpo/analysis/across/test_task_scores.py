"""One task's scores and the ends of its scale of regret."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.spec import BenchmarkError
from tests.hpo.analysis.across.made_tasks import task

SCORES = {"asha": [0.70, 0.74, 0.72], "random": [0.60, 0.66, 0.64]}


def test_zero_is_the_best_block_and_one_the_median_of_random_search() -> None:
    scale = task("own", SCORES).scale
    assert (scale.best, scale.best_by) == (pytest.approx(0.74), "asha")
    assert scale.random == pytest.approx(median(SCORES["random"]))
    assert [scale.regret(score) for score in (0.74, 0.64, 0.54)] == pytest.approx([0, 1, 2])


def test_a_method_that_was_run_elsewhere_alone_still_counts_for_the_best_known() -> None:
    assert task("own", {**SCORES, "hyperopt": [0.8]}).scale.best == pytest.approx(0.8)


def test_a_task_knows_its_budget_and_conditions() -> None:
    found = task("own", SCORES)
    assert found.scale.random == pytest.approx(0.64)
    assert found.budget == 12
    assert found.conditions == {"accelerator": "cpu", "devices": "unknown", "protocol": "2"}


def test_without_confirmed_random_search_there_is_no_scale() -> None:
    with pytest.raises(BenchmarkError, match=r"own has no confirmed random search.*suite.*--methods random"):
        task("own", {"asha": [0.7, 0.7]})
    with pytest.raises(BenchmarkError, match=r"own has no confirmed random search.*python -m hpo confirm"):
        task("own", {"asha": [0.7], "random": [None]})


def test_random_search_that_nothing_beats_leaves_no_scale() -> None:
    with pytest.raises(BenchmarkError, match=r"no confirmed score better than the median of random search \(0.7\)"):
        task("own", {"asha": [0.6, 0.5], "random": [0.7, 0.7]})


def test_methods_that_are_not_confirmed_are_named_with_the_next_step() -> None:
    [note] = task("own", {**SCORES, "bohb": [None, None]}).notes
    assert note.startswith("not confirmed: bohb; confirm with: ")
