"""Rates of statements across tasks by simulation, on a table of which the truth is plain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpo.planning.task_rates import main, task_rates

LEVELS = np.array([0.3, 0.5, 0.6, 0.7]) + np.random.default_rng(0).normal(0, 0.01, size=(40, 4))
"""Four methods whose differences are large and sure on each task."""


@pytest.mark.slow
def test_pooled_seeds_find_differences_that_tasks_do_not_have() -> None:
    found = task_rates(LEVELS, 3, families=12)
    assert found.false_statements <= 0.1
    assert found.false_if_pooled >= 0.5
    assert np.isnan(found.coverage_over_tasks)


@pytest.mark.slow
def test_a_file_of_scores_gives_a_row_for_each_number_of_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"m{method},{seed},{score}" for seed, own in enumerate(LEVELS) for method, score in enumerate(own)]
    (tmp_path / "scores.csv").write_text("\n".join(["method,seed,score", *rows]) + "\n")
    main([str(tmp_path / "scores.csv"), "1"])
    assert [row["tasks"] for row in json.loads(capsys.readouterr().out)] == [3, 5, 10]
