"""Faults that are made on purpose, and the table of them in docs/reliability.md.

Each test makes its faults for real, asserts what becomes of the study, and says so in a line of the table. A line that
is not in the page fails the test; `pytest tests/faults -m "slow or thorough" --write-faults` writes the page anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stores import fresh_store

SIMULATED = Path(__file__).parent / "simulated"
"""To import from before everything else: faults that this machine does not have."""
PAGE = Path(__file__).parents[2] / "docs/reliability.md"
HEADING = "| fault | how it is made | outcome of the study |\n|---|---|---|\n"
Record = Callable[[str, str, str], None]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture
def record(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Record:
    """Add a line to the table: the fault, the way it was made, and the outcome that the test has seen."""

    def add(fault: str, how: str, outcome: str) -> None:
        line = f"| {fault} | {how} | {outcome} |"
        record_property("fault", line)
        if not request.config.getoption("write_faults"):
            assert line in PAGE.read_text(), "the page is not as the tests are: write it with --write-faults"

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write what these tests have seen into the table, if all of them passed."""
    if not config.getoption("write_faults"):
        return
    stats = terminalreporter.stats
    if stats.get("failed") or stats.get("error"):
        terminalreporter.write_line("the table of faults is not written, since tests failed")
        return
    reports = sorted(stats.get("passed", []), key=lambda report: report.nodeid)
    lines = [value for report in reports for name, value in report.user_properties if name == "fault"]
    before, rest = PAGE.read_text().split(HEADING)
    table, after = rest.split("\n\n", 1)
    there = {_fault(line): line for line in table.splitlines()}
    there |= {_fault(line): line for line in lines}  # in its place, or at the end
    PAGE.write_text(before + HEADING + "\n".join(there.values()) + "\n\n" + after)
    terminalreporter.write_line(f"wrote {len(lines)} lines into {PAGE}")


def _fault(line: str) -> str:
    """Return a line without its outcome."""
    return line.rpartition(" | ")[0]
