"""The hierarchical model: its integral beside a plain one, its calibration, and cases of which the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hpo.analysis.statistics import hierarchical
from hpo.analysis.statistics.estimates import Floats
from hpo.analysis.statistics.hierarchical import MIN_TASKS, RATE, SHAPE, FurtherTask, further_task

TASKS = ([2.0, 3.1, 2.4, 0.5], [0.2, -1.9, 1.1], [4.0, 3.3, 5.1, 4.4, 2.0])


def predicted(tasks: list[list[float]]) -> FurtherTask:
    found = further_task(tasks)
    assert found is not None
    return found


def integrated() -> tuple[float, float]:
    """The probabilities of better and worse by a plain sum over m, t, n and each task's own mean, by trapezoids."""
    u = np.linspace(-4.2, 4.2, 61)
    means = 2 + 1.5 * np.sinh(u)
    spreads = np.geomspace(0.03, 1000, 41)
    total = better = worse = 0.0
    for n in hierarchical.FREEDOMS:
        for t in spreads:
            prior = n**SHAPE * np.exp(-RATE * n) * t * np.cosh(u)
            weights = prior * np.prod([_integral(np.array(own), means, t, n) for own in TASKS], axis=0)
            total += weights.sum()
            better += (weights * stats.t.sf((1 - means) / t, n)).sum()
            worse += (weights * stats.t.cdf((-1 - means) / t, n)).sum()
    return better / total, worse / total


def _integral(own: Floats, means: Floats, t: float, n: float) -> Floats:
    """The density of a task's blocks for each m: its variance integrated by hand, its mean by trapezoids."""
    d = np.concatenate([own.mean() + 8 * np.sinh(np.linspace(-4, 4, 401)) / np.sinh(4)])
    squares = ((own[:, None] - d) ** 2).sum(axis=0)
    likelihood = (1 + squares) ** (-(1 + own.size) / 2)  # variance scaled inverse chi squared, worth one block of 1
    fine = means[:, None] + t * stats.t.ppf((np.arange(200) + 0.5) / 200, n)  # the prior by its quantiles
    by_prior = np.interp(fine, d, likelihood, left=0, right=0).mean(axis=1)
    by_grid = np.trapezoid(likelihood * stats.t.pdf((d - means[:, None]) / t, n) / t, d, axis=1)
    found: Floats = by_prior if t < 0.5 else by_grid
    return found


@pytest.mark.slow
def test_the_sum_over_a_grid_agrees_with_a_plain_integral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "FREEDOMS", (2.0, 16.0))
    found, (better, worse) = predicted([list(own) for own in TASKS]), integrated()
    assert found.better == pytest.approx(better, abs=0.005)
    assert found.worse == pytest.approx(worse, abs=0.005)


@pytest.mark.slow
def test_a_finer_grid_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = predicted([list(own) for own in TASKS])
    finer: dict[str, object] = {"MEANS": 81, "SPREADS": 49, "MIXTURE": (-20, 8), "STEP": 0.75}
    for name, points in finer.items():
        monkeypatch.setattr(hierarchical, name, points)
    fine = predicted([list(own) for own in TASKS])
    assert coarse.better == pytest.approx(fine.better, abs=0.003)
    assert coarse.equal == pytest.approx(fine.equal, abs=0.003)
    assert coarse.typical.value == pytest.approx(fine.typical.value, abs=0.05)


@pytest.mark.slow
def test_probabilities_and_intervals_hold_as_often_as_they_say() -> None:
    """Tasks are drawn from the model, so that the truth of m and of a further task is known."""
    rng = np.random.default_rng(4)
    chances = np.array(hierarchical.FREEDOMS) ** SHAPE * np.exp(-RATE * np.array(hierarchical.FREEDOMS))
    covered, expected, happened = [], [], []
    for _ in range(40):
        m, t = rng.normal(0, 3), rng.uniform(0, 15)
        n = rng.choice(hierarchical.FREEDOMS, p=chances / chances.sum())
        means = m + t * rng.standard_t(n, size=6)
        found = predicted([(rng.normal(d, rng.chisquare(1) ** -0.5, size=5)).tolist() for d in means[:5]])
        assert found.typical.interval is not None
        covered.append(found.typical.interval.low <= m <= found.typical.interval.high)
        expected.append(found.better)
        happened.append(means[5] > 1)
    assert np.mean(covered) >= 0.85
    assert np.mean(happened) == pytest.approx(np.mean(expected), abs=0.15)
    sure = [fact for chance, fact in zip(expected, happened, strict=True) if chance > 0.8]
    assert np.mean(sure) > 0.75


def test_few_tasks_tell_nothing_of_a_further_one() -> None:
    assert further_task([[1.0] * 20] * (MIN_TASKS - 1)) is None


def test_more_seeds_do_not_replace_tasks() -> None:
    """Three tasks that disagree stay open with 5 seeds and with 500."""
    few, many = (predicted([[6.0] * seeds, [2.0] * seeds, [-2.0] * seeds]) for seeds in (5, 500))
    assert many.better == pytest.approx(few.better, abs=0.02)
    assert many.better < 0.7


def test_tasks_that_all_tie_are_practically_equal_and_more_of_them_surer() -> None:
    few, many = (predicted([[0.0] * 6] * tasks) for tasks in (3, 8))
    assert 0.8 < few.equal < many.equal
    assert many.equal > 0.95


def test_the_other_way_round_is_the_mirror() -> None:
    found, mirror = predicted([list(own) for own in TASKS]), predicted([[-x for x in own] for own in TASKS])
    assert found.better == pytest.approx(mirror.worse)
    assert found.better + found.equal + found.worse == pytest.approx(1)
    assert found.typical.value == pytest.approx(-mirror.typical.value)


def test_a_task_far_away_moves_a_median_of_tasks_little() -> None:
    alike = [[mean - 0.5, mean, mean + 0.5] for mean in (2.0, 5.0, 3.0, 7.0, 4.0, 6.0)]
    without, found = predicted(alike), predicted([*alike, [-60.0, -62.0, -58.0]])
    assert found.typical.value == pytest.approx(without.typical.value, abs=1.5)
    assert 0.6 < found.better < without.better
