"""The wheel's dependencies are those that the three packages import."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
OWN = {"benchmarks", "hpo", "slurm"}
PINNED_BY_ANOTHER = {"pydantic_core"}
"""Parts of a required package that it pins exactly itself."""


def imported_modules() -> Iterator[str]:
    """Yield the first part of every module that a file of the packages imports, also within a function."""
    for package in sorted(OWN):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield (node.module or "").partition(".")[0]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> set[str]:
    lines = (REPOSITORY / "requirements-run.txt").read_text().splitlines()
    return {normalised(re.split(r"[\[=]", line)[0]) for line in lines if line and not line.startswith("#")}


@pytest.mark.slow  # it parses every module
def test_every_imported_package_is_required_by_the_wheel() -> None:
    providers = importlib.metadata.packages_distributions()
    modules = set(imported_modules()) - OWN - PINNED_BY_ANOTHER - set(sys.stdlib_module_names)
    assert {"ray", "torch", "mlflow"} <= modules
    missing = {module for module in modules if not required() & set(map(normalised, providers.get(module, [module])))}
    assert not missing, f"imported, but in no line of requirements-run.txt: {sorted(missing)}"
