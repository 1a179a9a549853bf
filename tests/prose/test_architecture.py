"""The page on the architecture names files that exist, and draws the floors that the import linter holds."""

from __future__ import annotations

import configparser
import re
from itertools import pairwise
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/architecture.md").read_text()


def layers() -> list[set[str]]:
    """List the import linter's layers from top to bottom, each as a set of modules that exist."""
    contracts = configparser.ConfigParser()
    contracts.read(REPOSITORY / ".importlinter")
    lines = contracts["importlinter:contract:layers"]["layers"].split("\n")
    named = [{word.strip(" ()") for word in line.split("|")} for line in lines if line.strip()]
    return [kept for line in named if (kept := {module for module in line if exists(module)})]


def exists(module: str) -> bool:
    path = REPOSITORY / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_every_file_on_the_page_exists() -> None:
    [*fenced] = re.findall(r"```.*?```", PAGE, flags=re.DOTALL)
    text = PAGE.replace(fenced[0], "")
    named = set(re.findall(r"`((?:benchmarks|hpo|slurm|tests)/[\w./]*)`", text))
    assert len(named) > 30
    assert not [path for path in sorted(named) if not (REPOSITORY / path).exists()]


def test_the_picture_draws_every_layer_above_the_next() -> None:
    [picture] = re.findall(r"```mermaid\n(.*?)```", PAGE, flags=re.DOTALL)
    titles = dict(re.findall(r"^    (\w+)\[\"([\w/.]+)<br>", picture, flags=re.MULTILINE))
    drawn = {name: title.removesuffix(".py").replace("/", ".") for name, title in titles.items()}
    assert sorted(drawn.values()) == sorted(module for layer in layers() for module in layer)
    floor = {module: number for number, layer in enumerate(layers()) for module in layer}
    chains = [line.split(" --> ") for line in picture.splitlines() if " --> " in line]
    arrows = {(upper.strip(), lower.strip()) for chain in chains for upper, lower in pairwise(chain)}
    assert {name for arrow in arrows for name in arrow} == set(drawn)
    assert all(floor[drawn[lower]] == floor[drawn[upper]] + 1 for upper, lower in arrows)
