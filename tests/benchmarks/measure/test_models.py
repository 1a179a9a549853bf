"""The comparison of models of a bank's curves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.measure import models
from tests.benchmarks.banks import synthetic_bank


def run(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["models", "--bank", str(path)])
    return models.main()


@pytest.mark.slow  # each model is fitted five times
def test_each_model_has_a_line_with_its_correlations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = "boosted trees"  # half a minute, and they want more configurations than these
    monkeypatch.setattr(models, "MODELS", {name: fit for name, fit in models.MODELS.items() if name != slow})
    banks.write(synthetic_bank.bank(spec.load("synthetic"), configs=40, seeds=1), tmp_path / "own.parquet")
    assert run(tmp_path / "own.parquet", monkeypatch) == 0
    text = capsys.readouterr().out
    for name in models.MODELS:
        [found] = re.findall(rf"^{name} +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.]+) ", text, re.MULTILINE)
        assert 0.3 < float(found[2]) <= 1.0


def test_a_perfect_model_has_correlations_of_one() -> None:
    points = np.random.default_rng(0).random((20, 2))

    class Perfect:
        def predict(self, asked: NDArray[np.float64]) -> NDArray[np.float64]:
            return asked

    assert "1.000    1.000    1.000       1.000" in models.line("perfect", lambda *_: Perfect(), points, points)


def test_a_bank_that_cannot_be_compared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = synthetic_bank.bank(spec.load("synthetic"), configs=4, seeds=1)
    banks.write(made, tmp_path / "few.parquet")
    header = made.header.model_copy(update={"space": {}})
    banks.write(banks.Bank(header, made.trainings), tmp_path / "no_space.parquet")
    assert run(tmp_path / "few.parquet", monkeypatch) == 2
    assert re.search(
        r"few.parquet: has [1-4] configurations that completed, but this needs 10", capsys.readouterr().out
    )
    assert run(tmp_path / "no_space.parquet", monkeypatch) == 2
    assert "no_space.parquet: has no search space" in capsys.readouterr().out
