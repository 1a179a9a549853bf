"""The pictures of the docs: each is made by a command."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tests.hpo.report import pictures

REPOSITORY = Path(__file__).parents[3]


def test_each_picture_has_a_command_that_makes_it() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## Pictures")[2].partition("\n## ")[0]
    patterns = re.findall(r"^\| `([\w*-]+\.png)` \| `", text, re.MULTILINE)
    made = [path.name for path in (REPOSITORY / "docs/images").iterdir()]
    assert patterns
    assert {name for name in made if not any(fnmatch(name, pattern) for pattern in patterns)} == set()
    assert {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in made)} == set()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_report_s_pictures_are_taken(browser: Any, tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "pictures"
    work.mkdir()
    output.mkdir()
    pictures.shoot(browser, pictures.make_report(work, "random", seeds=1), output, everything=True)
    names = {"report-dark.png", "report-light.png", "report-methods.png", "report-phone.png"}
    assert {path.name for path in output.iterdir()} == names
    dark, light = (imread(output / f"report-{scheme}.png")[..., :3].mean() for scheme in ("dark", "light"))
    assert dark < 0.3 < 0.7 < light
    room = imread(output / "report-methods.png").shape[1]
    assert room > 1318, "the first table of all methods is as wide, and its last columns would be out of sight"
    assert imread(output / "report-phone.png").shape[:2] == (pictures.HEIGHT, pictures.PHONE)
