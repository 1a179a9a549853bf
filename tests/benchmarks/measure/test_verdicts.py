"""The command that measures verdicts: on the scores that come with it, and on a file that holds none."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.measure import verdicts


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["verdicts", *words])
    return verdicts.main()


@pytest.mark.slow
def test_rules_err_in_few_families_of_real_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--families", "100", "--output", str(tmp_path / "rates.json")) == 0
    found = json.loads((tmp_path / "rates.json").read_text())
    assert (found["methods"], found["rows"]) == (12, 40)
    assert all(row["wrong_equivalence"] <= 0.05 for row in found["rates"])
    assert all(row["coverage"] > row["coverage_of_bootstrap"] for row in found["rates"])
    assert verdicts.text_of(found) == capsys.readouterr().out.rstrip("\n")


@pytest.mark.parametrize("name", ["family_wise_error", "wrong_equivalence"])
def test_it_fails_where_families_err_beyond_the_noise(name: str) -> None:
    row = {"family_wise_error": 0.06, "wrong_equivalence": 0.06}
    assert verdicts.holds({"rates": [row]}, families=400)
    assert not verdicts.holds({"rates": [{**row, name: 0.08}]}, families=400)


def test_statements_across_tasks_are_shown_and_judged_alike() -> None:
    shares = {"alike": 0.0, "better_at_margin": 0.05, "equal_at_margin": 0.0, "alike_uncorrected": 0.1}
    row = {"tasks": 3, "rivals": 11, **shares, "at_margin_uncorrected": 0.367, "alike_pooled": 0.9}
    found = {
        "families": 120,
        "rates": [row],
        "coverage": [{"tasks": 3, "over_seeds": 0.9, "over_tasks": math.nan, "over_tasks_without_worst": 0.95}],
        "power": [{"tasks": 3, "difference": 8.0, "spread": 2.0, "found": {"1": 0.55, "3": 0.25}}],
    }
    rows = [line.split() for line in verdicts.text_of_tasks(found).splitlines()]
    assert ["3", "11", "0.0", "5.0", "0.0", "10.0", "36.7", "90.0"] in rows
    assert ["3", "90.0", "-", "95.0"] in rows
    assert ["3", "8", "2", "55.0", "25.0"] in rows
    assert verdicts.tasks_hold(found, families=120)
    assert not verdicts.tasks_hold({"rates": [{**row, "equal_at_margin": 0.1}]}, families=120)


@pytest.mark.slow
def test_statements_across_tasks_are_measured_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.csv"
    levels = [
        f"{name},{seed},{0.5 + 0.01 * ((seed * place) % 5)}"
        for place, name in enumerate(("a", "random", "b"))
        for seed in range(9)
    ]
    scores.write_text("\n".join(["method,seed,score", *levels]) + "\n")
    assert run(monkeypatch, "--tasks", "--families", "2", "--scores", str(scores)) == 0
    assert "2 families, 8 seeds on each task" in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_without_scores_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    assert run(monkeypatch, "--scores", str(tmp_path / "scores.csv")) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {tmp_path}/scores.csv: holds no confirmed scores")
