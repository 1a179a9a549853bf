"""Writes to MLflow: `hpo/store` alone makes them, so that layout, order and faults have one home."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mlflow import MlflowClient

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("hpo", "slurm", "benchmarks")
STORE = REPOSITORY / "hpo" / "store"
WRITERS = {
    name
    for name in dir(MlflowClient)
    if name.startswith(("log_", "set_", "create_", "update_", "delete_", "restore_", "finalize_"))
} | {"start_run", "end_run", "autolog", "set_experiment", "log_params", "log_metrics", "log_artifact"}
OURS = {"log_files"}
"""Functions of the store's own with a similar name."""


def writes(source: str) -> list[str]:
    """The calls of functions by which MLflow writes, as `name:line`."""
    if not any(f"{name}(" in source for name in WRITERS - OURS):  # most files, and parsing them all takes a second
        return []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [(node.func, node.lineno) for node in calls]
    found = [
        (function.attr if isinstance(function, ast.Attribute) else function.id, line)
        for function, line in named
        if isinstance(function, ast.Attribute | ast.Name)
    ]
    return [f"{name}:{line}" for name, line in found if name in WRITERS - OURS]


def test_only_the_store_writes() -> None:
    files = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py") if STORE not in path.parents]
    assert len(files) > 100
    found = {str(path.relative_to(REPOSITORY)): calls for path in files if (calls := writes(path.read_text()))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "self._client.log_batch(run_id, metrics=[])",
        "client.set_terminated(run_id, 'FAILED')",
        "mlflow.start_run()",
        "client.create_run(experiment)",
        "set_tag(run_id, 'a', 'b')",
    ],
)
def test_a_write_is_seen(line: str) -> None:
    assert writes(line)
