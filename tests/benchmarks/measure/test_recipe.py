"""The trainings that random search needs to match a recipe."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from benchmarks.banks import bank
from benchmarks.measure import recipe
from benchmarks.measure.recipe import Match

REPOSITORY = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


def test_the_chance_of_a_match_grows_with_the_draws() -> None:
    found = Match(followers=5, score=0.9, draws=100, as_good=10)
    assert 1 - 0.9 ** found.trainings(0.5) >= 0.5 > 1 - 0.9 ** (found.trainings(0.5) - 1)
    assert found.trainings(0.9) == 22
    assert Match(5, 0.9, 100, 100).trainings(0.9) == 1
    assert Match(5, 0.9, 100, 0).trainings(0.5) == math.inf


def test_a_good_recipe_of_nano_takes_more_draws_than_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """The default rate of 2e-4 is a poor recipe, and so a reason to search."""
    needed = []
    for rate in ("2e-4", "1e-3"):
        assert recipe.main(["nano", "--within", f"learning_rate={rate}..{rate}"]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("nano: ")
        needed.append(int(printed.partition("for an even chance: ")[2].partition(",")[0]))
    assert needed[0] == 1
    assert needed[1] > 12


def test_the_chapter_s_row_of_nano_is_what_its_command_finds() -> None:
    """A bank that grows changes the row: type the command of the chapter, and write down what it prints."""
    page = (REPOSITORY / "docs/workshop/09-choice.md").read_text()
    [low, high] = re.findall(r"recipe nano --within learning_rate=(\S+)\.\.(\S+)", page)[0]
    found = recipe.match(bank.read(bank.find("nano")), {"learning_rate": (float(low), float(high))})
    row = f"{found.as_good} of {found.draws:,} | {found.trainings(0.5)} | {found.trainings(0.9)}"
    assert f"| `nano` | rate {low} to {high} | {row} |" in page
    assert f"`nano` on the {found.draws} random configurations" in page


def test_a_recipe_that_no_training_follows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["nano", "--within", "learning_rate=1..2"]) == 2
    assert capsys.readouterr().err == "error: nano has no training within these ranges; widen them\n"
    assert recipe.main(["nano", "--within", "epochs=1..2"]) == 2
    assert "epochs: unknown hyperparameter; nano has " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        recipe.main(["nano", "--within", "learning_rate"])
