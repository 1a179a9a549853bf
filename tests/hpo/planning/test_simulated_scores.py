"""Scores of many studies in this process: equal to those of a suite that is confirmed, and resumed where they ended."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import spec
from hpo.core.study import fresh_seeds
from hpo.planning.contest import parse_methods
from hpo.planning.simulated_scores import COLUMNS, main, score


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_a_table_has_a_row_for_each_study_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    words = ["--methods", "random,random:budget=2,asha:grace_units=3", "--budget", "1", "--output", str(table)]
    assert main([*words, "--seeds", "1"]) == 0
    first = rows(table)
    assert first[0] == list(COLUMNS)
    assert [row[0] for row in first[1:]] == ["random", "random budget=2", "asha grace_units=3"]
    assert main([*words, "--seeds", "2"]) == 0
    assert rows(table)[:4] == first
    assert len(rows(table)) == 7


def test_the_score_is_the_mean_of_fresh_trainings_on_test() -> None:
    """With a budget of one training each incumbent is the default, whose scores the formula gives."""
    benchmark = spec.load("synthetic")
    metric = benchmark.metrics[-1]
    (random,) = parse_methods("random", 1)
    found = score(random, benchmark, 3, 2, metric, devices=1)
    own = []
    for seed in fresh_seeds(3, 2):
        trial = benchmark.trial_process(lambda _: pytest.fail("it has no ranks"))
        trial.start(benchmark.complete({}), seed)
        for _ in range(benchmark.resource.max_units):
            trial.run_unit()
        own.append(trial.evaluate("test")[metric.name])
    assert found == pytest.approx(sum(own) / 2)


def test_a_mistake_is_said_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--methods", "nonsense", "--output", str(tmp_path / "scores.csv")]) == 2
    assert "no method named 'nonsense'" in capsys.readouterr().err
