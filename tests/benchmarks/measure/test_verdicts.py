"""The command that measures verdicts: on the scores that come with it, and on a file that holds none."""

from __future__ import annotations

import json
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


@pytest.mark.slow
def test_a_file_without_scores_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    assert run(monkeypatch, "--scores", str(tmp_path / "scores.csv")) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {tmp_path}/scores.csv: holds no confirmed scores")
