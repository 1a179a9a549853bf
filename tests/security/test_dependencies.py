"""Installed packages are the pinned ones: the part of an audit that needs no database of vulnerabilities."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS, RUN = REPOSITORY / "requirements.txt", REPOSITORY / "requirements-run.txt"
INCLUDED = f"-r {RUN.name}"
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([\w.]+)")


def pins() -> dict[str, str]:
    texts = RUN.read_text() + REQUIREMENTS.read_text().replace(INCLUDED, "", 1)
    lines = [line.split("#")[0].strip() for line in texts.splitlines()]
    matched = [PIN.fullmatch(line.replace(" ", "")) for line in lines if line]
    assert all(matched), lines
    return {found[1]: found[2] for found in matched if found}


def test_every_requirement_is_pinned_exactly_and_comes_from_the_index_alone() -> None:
    """No range, no address, no option that names another index."""
    assert len(pins()) > 20


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pins()}
    assert installed == pins()


@pytest.mark.slow
def test_an_audit_would_see_every_pin() -> None:
    """`pip-audit` as the development notes have it, but for the database, which takes a network."""
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: no audit")
    options = ["--no-deps", "--disable-pip", "--dry-run", "--progress-spinner", "off", "-r", str(REQUIREMENTS)]
    command = [sys.executable, "-m", "pip_audit", *options, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"would have audited {len(pins())} packages" in done.stderr
    assert json.loads(done.stdout or "{}").get("dependencies", []) == []
