"""The commands that measure replays: the computing time of the simulator, and gains on a bank of others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.measure import backtest, simulator
from tests.benchmarks.banks import synthetic_bank

pytestmark = pytest.mark.slow


def test_the_simulator_s_time_is_printed_with_that_of_each_method(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", "--rounds", "1", "--seeds", "1"])
    monkeypatch.setattr(simulator, "LIMITS", {16: 60.0})
    assert simulator.main() == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("ASHA, 16 trials: suite 0.")
    assert first.endswith("| PASS, at most 60")
    assert {line.split()[0] for line in others if line.endswith(" s")} >= {"asha", "bohb", "random", "optuna"}


def test_a_time_beyond_its_limit_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", "--syne-tune", "other"])
    monkeypatch.setattr(simulator, "_run", lambda command: _printed(command))
    assert simulator.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("ratio 4.0 | FAIL, at most 0.1")
    assert lines[1].endswith("ratio 4.0 | PASS, at most 1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing/python"], "missing/python cannot be run (No such file or directory); name the Python of an env"),
        (
            [sys.executable, "-c", "import not_there"],
            "ended with status 1, for the reason above; an environment with Syn",
        ),
    ],
)
def test_a_side_that_does_not_run_is_named(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        simulator._run(words)
    assert message in str(ended.value)


def _printed(command: list[str]) -> object:
    if "--trials" not in command:
        return {"asha": 0.1}
    return {"units": 9, "seconds": [2.0 if command[0] == "other" else 0.5]}


def test_gains_are_printed_for_each_bank_and_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = synthetic_bank.bank(spec.load("synthetic"), 60, 1)
    banks.write(bank, tmp_path / "own.parquet")
    words = [str(tmp_path / "own.parquet"), "--budgets", "6,12", "--seeds", "40"]
    monkeypatch.setattr(sys, "argv", ["backtest", *words])
    assert backtest.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["own", "budget", "6"], ["own", "budget", "12"]]
    assert all("gain +" in line or "gain -" in line for line in lines)


def test_a_budget_beyond_the_bank_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    banks.write(synthetic_bank.bank(spec.load("synthetic"), 10, 1), tmp_path / "own.parquet")
    monkeypatch.setattr(sys, "argv", ["backtest", str(tmp_path / "own.parquet"), "--budgets", "24", "--seeds", "2"])
    assert backtest.main() == 2
    assert "budget is 24, but the table has 10 configurations" in capfd.readouterr().err
