"""Early looks of a measured landscape, on rows of which the figures are plain."""

from __future__ import annotations

import math

import pytest

from benchmarks.measure.landscape import TrainingRow, early_looks, rungs


def row(first: float, third: float, last: float, purpose: str = "random") -> TrainingRow:
    return {"purpose": purpose, "eval_loss_unit_1": first, "eval_loss_unit_3": third, "eval_loss": last}


def test_rungs_are_the_powers_of_three_below_the_full_resource() -> None:
    assert (rungs(9), rungs(10), rungs(1)) == ([1, 3], [1, 3, 9], [])


def test_each_rung_has_its_correlation_and_its_share_of_the_best_third() -> None:
    lasts = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    firsts, thirds = lasts[::-1], [2.0, 1.0, 3.0, 4.0, 5.0, 6.0]
    rows = [row(*figures) for figures in zip(firsts, thirds, lasts, strict=True)]
    found = early_looks([*rows, row(0.0, 0.0, 9.0, "seed")])
    assert found["spearman_eval_loss_unit_1"] == pytest.approx(-1.0)
    assert found["best_third_kept_at_unit_1"] == 0.0
    assert found["spearman_eval_loss_unit_3"] == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert found["best_third_kept_at_unit_3"] == 1.0


def test_a_diverged_training_ranks_last() -> None:
    rows = [row(1.0, 1.0, 1.0), row(2.0, 2.0, 2.0), row(3.0, 3.0, 3.0), row(math.nan, math.nan, math.nan)]
    assert early_looks(rows)["spearman_eval_loss_unit_1"] == pytest.approx(1.0)
