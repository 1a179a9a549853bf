"""The workshop's commands for a cluster, on a SLURM of two nodes: as a participant types them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.slurm.testbed.drills import REPOSITORY, SECONDS, squeue, typed, wait_until
from tests.test_readme import commands
from tests.workshop.test_chapters import ON_SLURM, PAGES, on_a_cluster
from tests.workshop.test_notebooks import client_of, printed, written

PAGE = PAGES[ON_SLURM]
BENCHMARK = "--benchmark slow.yaml"
"""Computed curves in place of nano: the jobs are the same."""


def assert_table_of_ways(text: str) -> None:
    for way in ("sequential", "batch", "asynchronous"):
        assert f"| random evaluation={way} | 0 | 4 | 4 |" in text


def wait_for_jobs(title: str) -> None:
    wait_until(lambda: not squeue(), f"the end of {title}", 2 * SECONDS)


@pytest.mark.thorough  # tests/slurm/test_arrays.py runs each kind of array with fewer trials
@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
def test_the_commands_of_the_chapter_fill_its_table(work: Path) -> None:
    *submit_and_wait, table = commands(PAGE)
    for line in submit_and_wait:
        typed(work, line.replace("--benchmark nano", BENCHMARK))
    typed(work, f"{table} {BENCHMARK}")
    assert_table_of_ways((work / f"workshop/chapter-{ON_SLURM}.md").read_text())


@pytest.mark.thorough  # tests/workshop/test_notebooks.py runs another chapter's in a kernel
@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
def test_the_notebook_of_the_chapter_runs_in_a_kernel(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = written(work, ON_SLURM, "slow.yaml")
    (work / "mlflow.db").unlink()  # a participant's folder has no store yet
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client_of(notebook, work).execute()
    assert_table_of_ways((work / f"workshop/chapter-{ON_SLURM}.md").read_text())
    assert "random evaluation=sequential" in printed(notebook)


@pytest.mark.thorough  # tests/slurm/test_arrays.py runs a serial job and an array with fewer trials
@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize("name", ["02-manual", "07-optuna"])
def test_the_commands_for_a_cluster_run_to_their_end(name: str, work: Path) -> None:
    [line] = on_a_cluster(REPOSITORY / f"docs/workshop/{name}.md")
    typed(work, line.replace("--benchmark nano", BENCHMARK))
    wait_for_jobs(line)
    logs = [path.read_text() for path in work.glob("logs/*.out")]
    assert logs
    for text in logs:
        assert re.search(r"^START ", text, re.MULTILINE), text
        assert set(re.findall(r"^FINISH .* exit status (\d+)$", text, re.MULTILINE)) == {"0"}, text
    assert list(work.glob("logs/*.csv"))
    number = int(name[:2])
    typed(work, f"python -m hpo workshop table {number} {BENCHMARK}")
    assert "| 0 |" in (work / f"workshop/chapter-{number}.md").read_text()
