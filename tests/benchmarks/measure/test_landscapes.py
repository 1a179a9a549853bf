"""Landscapes drawn from banks: the figures of their cards, and a picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.banks import bank
from benchmarks.measure import landscapes
from benchmarks.measure.landscapes import landscape_of
from tests.benchmarks.banks import made


def test_random_configurations_have_their_first_seed_and_the_others_are_left_out() -> None:
    default = made.training(0.0625, 0, source="default")
    found = landscape_of(replace(made.bank(), trainings=(*made.bank().trainings, default)))
    assert found.rates.tolist() == [0.125, 0.25, 0.5]  # one diverged, and one ran out of memory
    assert found.losses[0].tolist() == [4.125, 2.125, 4 / 3 + 0.125]
    assert found.default == (0.0625, 4 / 3 + 0.0625)
    assert found.third == 1
    assert found.correlation(1) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", bank.names())
def test_shipped_landscapes_have_the_figures_of_their_cards(name: str) -> None:
    found = landscape_of(bank.read(bank.find(name)))
    card = bank.find(name).with_suffix(".md").read_text()
    assert ("## Early looks" in card) == (len(found.rates) >= landscapes.MIN_CONFIGURATIONS)
    for unit in (1, found.third) if "## Early looks" in card else ():
        assert f"\n| {unit} | {found.correlation(unit):.2f} [" in card


@pytest.mark.slow
def test_the_command_draws_and_prints_a_line_per_landscape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "made.parquet", tmp_path / "new" / "landscapes.png"
    bank.write(made.bank(), file)
    command = ["landscapes", "--output", str(picture), "--banks"]
    monkeypatch.setattr(sys, "argv", [*command, "nano_short", str(file)])
    landscapes.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    _, short, left_out, written = capsys.readouterr().out.splitlines()
    assert short.startswith("nano_short ")
    assert left_out == "left out: made, with 3 random configurations of 6 at least"
    assert written == f"written: {picture}"
    monkeypatch.setattr(sys, "argv", [*command, str(file)])
    with pytest.raises(SystemExit):
        landscapes.main()
    assert "no bank has 6 random configurations" in capsys.readouterr().err
