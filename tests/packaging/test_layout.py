"""Sizes of modules and folders: a folder shows what is in it, and a module is read at one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("benchmarks", "hpo", "slurm", "tests")
MAX_LINES, MAX_MODULES = 400, 12


@pytest.mark.parametrize("root", ROOTS)
def test_no_module_is_longer_than_one_sitting(root: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (REPOSITORY / root).rglob("*.py")}
    assert lengths
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("root", ROOTS)
def test_no_folder_has_more_modules_than_one_look_takes_in(root: str) -> None:
    folders = {path.parent for path in (REPOSITORY / root).rglob("*.py")}
    modules = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    assert {str(folder): len(found) for folder, found in modules.items() if len(found) > MAX_MODULES} == {}


def test_a_name_stands_for_one_class() -> None:
    """Methods alone share one: each has its `Arguments`."""
    places: dict[str, list[str]] = {}
    for path in (path for root in ROOTS[:3] for path in (REPOSITORY / root).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name != "Arguments":
                places.setdefault(node.name, []).append(str(path))
    assert len(places) > 200
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
