"""Rates of statements across tasks by simulation, on a table of which the truth is plain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpo.planning.task_rates import coverage, family_rates, main, power

LEVELS = np.array([0.3, 0.5, 0.6, 0.7]) + np.random.default_rng(0).normal(0, 0.01, size=(40, 4))
"""Four methods whose differences are large and sure on each task."""


@pytest.mark.slow
def test_pooled_seeds_find_differences_that_tasks_do_not_have() -> None:
    [found] = family_rates(LEVELS, 3, families=12)
    assert found.rivals == 3
    assert found.alike <= 0.1
    assert found.alike_pooled >= 0.5
    assert found.alike_uncorrected >= found.alike
    assert found.at_margin_uncorrected >= max(found.better_at_margin, found.equal_at_margin)
    assert np.isnan(coverage(LEVELS, 3, families=4).over_tasks)


@pytest.mark.slow
def test_a_larger_difference_is_found_more_often_and_less_often_among_many_pairs() -> None:
    found = {(one.difference, one.spread): one.found for one in power(LEVELS, 10, draws=10)}
    assert found[8.0, 0.0][1] == 1.0
    assert found[8.0, 0.0][1] >= found[2.0, 0.0][1]
    assert all(one[1] >= one[3] >= one[11] for one in found.values())


@pytest.mark.slow
def test_a_file_of_scores_gives_rows_for_each_number_of_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"m{method},{seed},{score}" for seed, own in enumerate(LEVELS) for method, score in enumerate(own)]
    (tmp_path / "scores.csv").write_text("\n".join(["method,seed,score", *rows]) + "\n")
    main([str(tmp_path / "scores.csv"), "1"])
    found = json.loads(capsys.readouterr().out)
    assert [row["tasks"] for row in found["rates"]] == [row["tasks"] for row in found["coverage"]] == [3, 5, 10]
    assert {row["tasks"] for row in found["power"]} == {3, 5, 10, 20}
