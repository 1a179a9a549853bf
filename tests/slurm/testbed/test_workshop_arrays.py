"""The workshop's chapter on job arrays, on a SLURM of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm.testbed.drills import REPOSITORY, SECONDS, squeue, typed, wait_until
from tests.test_readme import commands

PAGE = REPOSITORY / "docs/workshop/06-arrays.md"


@pytest.mark.thorough  # tests/slurm/test_arrays.py runs each kind of array with fewer trials
@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
def test_the_commands_of_the_chapter_fill_its_table(work: Path) -> None:
    """On computed curves in place of nano: the jobs are the same."""
    *submit, table = commands(PAGE)
    for line in submit:
        typed(work, line.replace("--benchmark nano", "--benchmark slow.yaml"))
        wait_until(lambda: not squeue(), f"the end of {line}", 2 * SECONDS)
    typed(work, f"{table} --benchmark slow.yaml")
    text = (work / "workshop/chapter-6.md").read_text()
    for way in ("sequential", "batch", "asynchronous"):
        assert f"| random evaluation={way} | 0 | 4 |" in text
