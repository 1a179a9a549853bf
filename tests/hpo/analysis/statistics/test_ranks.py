"""Mean ranks: Demšar's own example, and rates where the truth is plain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hpo.analysis.statistics.ranks import critical_difference, rank_methods

DEMSAR = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
}
"""Table 6 of the paper: AUC of four algorithms on 14 data sets."""


def by_block(scores: dict[str, list[float]]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(found)) for name, found in scores.items()}


def test_the_example_of_the_paper() -> None:
    found = rank_methods(by_block(DEMSAR), higher_is_better=True)
    assert found is not None
    assert {name: round(rank, 3) for name, rank in found.mean_ranks.items()} == {
        "C4.5+m+cf": 1.964,
        "C4.5+m": 2.0,
        "C4.5+cf": 2.893,
        "C4.5": 3.143,
    }
    assert found.friedman_p == pytest.approx(0.0167, abs=1e-4)  # the paper's 0.026 leaves ties uncorrected
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_quantiles_are_those_of_the_paper_s_table(methods: int, quantile: float) -> None:
    ratio = (methods * (methods + 1) / 60) ** 0.5  # of ten blocks
    assert critical_difference(methods, 10) / ratio == pytest.approx(quantile, abs=0.001)


@pytest.mark.parametrize("methods", [3, 4, 9, 20])
def test_p_and_critical_difference_are_scipy_s(methods: int) -> None:
    """Scores of two digits, so that many tie."""
    table = np.random.default_rng(methods).uniform(size=(8, methods)).round(1)
    found = rank_methods({str(k): dict(enumerate(column.tolist())) for k, column in enumerate(table.T)}, True)
    assert found is not None
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, rel=1e-9)
    for alpha in (0.01, 0.05, 0.2):
        quantile = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / 2**0.5
        expected = quantile * (methods * (methods + 1) / (6 * 8)) ** 0.5
        assert critical_difference(methods, 8, alpha) == pytest.approx(expected, rel=1e-9)


def test_methods_that_are_not_shown_to_differ_are_in_one_group() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=(2, 12))
    scores = {"a": 0.8 + noise[0], "b": 0.8 + noise[1], "c": np.full(12, 0.4), "d": np.full(12, 0.2)}
    found = rank_methods({name: dict(enumerate(row.tolist())) for name, row in scores.items()}, True)
    assert found is not None
    assert list(found.mean_ranks)[2:] == ["c", "d"]
    assert {"a", "b"} <= set(found.groups[0])
    assert set(found.groups[-1]) == {"c", "d"}
    assert all("a" not in group or "d" not in group for group in found.groups)


def test_a_loss_ranks_the_other_way() -> None:
    scores = {"a": dict.fromkeys(range(4), 0.1), "b": dict.fromkeys(range(4), 0.2), "c": dict.fromkeys(range(4), 0.3)}
    up, down = (rank_methods(scores, higher) for higher in (True, False))
    assert up is not None
    assert down is not None
    assert (list(up.mean_ranks), list(down.mean_ranks)) == (["c", "b", "a"], ["a", "b", "c"])


def test_scores_that_all_tie_show_nothing() -> None:
    found = rank_methods({name: dict.fromkeys(range(5), 0.5) for name in "abc"}, True)
    assert found is not None
    assert (found.friedman_p, found.groups) == (1.0, (("a", "b", "c"),))


def test_methods_that_lack_blocks_are_left_out() -> None:
    scores = {name: dict.fromkeys(range(5), 0.5) for name in "abc"}
    found = rank_methods({**scores, "late": {0: 0.9}}, True)
    assert found is not None
    assert (found.num_blocks, found.left_out) == (5, ("late",))


@pytest.mark.parametrize("methods", ["ab", "a", ""])
def test_two_methods_are_a_pair_and_no_ranking(methods: str) -> None:
    assert rank_methods({name: dict.fromkeys(range(5), 0.5) for name in methods}, True) is None


def test_methods_that_are_alike_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(1)
    apart = 0
    for _ in range(200):
        found = rank_methods({str(m): dict(enumerate(row)) for m, row in enumerate(rng.normal(size=(6, 9)))}, True)
        assert found is not None
        apart += len(found.groups[0]) < 6 if found.groups else 1
    assert apart <= 16
