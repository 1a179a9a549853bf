"""The pre-commit hooks are the checks that `.ci/run` makes of the sources."""

from __future__ import annotations

from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]


def test_every_hook_is_a_command_that_ci_runs() -> None:
    [local] = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]
    ci = (REPOSITORY / ".ci/run").read_text().splitlines()
    assert entries == ["ruff check", "ruff format --check", "mypy", "lint-imports"]
    assert not [entry for entry in entries if not any(line.strip().startswith(entry) for line in ci)]
