"""A recording on a real SLURM: tasks of an array record parts, and the last job gathers the bank."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.banks import bank as banks
from slurm import scheduler
from tests.slurm.testbed.drills import SECONDS, hpo, squeue, wait_for_end, wait_until
from tests.studies import write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


def submit(work: Path, *options: str) -> list[str]:
    """Submit as a user does; return the jobs."""
    words = ("--tasks", "2", "--benchmark", "slow.yaml", "--configs", "13", *options)
    done = hpo(work, "slurm", "record", "--cluster", "cluster.yaml", *words)
    assert done.returncode == 0, done.stderr
    [jobs] = re.findall(r"submitted jobs ([\d, ]+); the last one writes banks/slow\.parquet\n", done.stdout)
    return jobs.split(", ")


def log(work: Path, name: str) -> str:
    [path] = work.glob(f"logs/*{name}.out")
    return path.read_text()


def test_an_array_records_a_bank_and_again_what_is_missing(work: Path) -> None:
    array, gathering = submit(work, "--seeds", "1")
    wait_for_end(array, gathering)
    assert "part 0 of 2: 7 trainings are due on n" in log(work, f"{array}_0")
    assert "part 1 of 2: 6 trainings are due on n" in log(work, f"{array}_1")
    assert "13 trainings are in banks/slow.parquet, 0 are missing" in log(work, gathering)
    first = banks.read(work / "banks/slow.parquet")
    assert len(first.trainings) == 13
    assert {training.outcome for training in first.trainings} <= {"completed", "diverged"}
    assert len(first.header.sessions) == 2

    array, gathering = submit(work, "--seeds", "2")
    wait_for_end(array, gathering)
    due = [int(re.findall(r"(\d+) trainings are due", log(work, f"{array}_{part}"))[0]) for part in (0, 1)]
    assert sum(due) == 13
    bank = banks.read(work / "banks/slow.parquet")
    assert [len(of_one) for of_one in bank.configurations()] == [2] * 13
    assert first.by_identity().items() <= bank.by_identity().items()
    assert squeue() == []


@pytest.mark.thorough  # SLURM's own clock decides
def test_a_cancelled_task_loses_no_training_that_had_ended(work: Path) -> None:
    write_slow_synthetic(work, 0.2, "slow")
    array, gathering = submit(work, "--seeds", "1")
    own = work / "banks/slow.part-1.jsonl"
    wait_until(lambda: own.exists() and own.read_text().count("\n") > 2, "two trainings")
    scheduler.cancel([f"{array}_1"])
    wait_for_end(array, gathering)
    [left] = re.findall(r"(\d+) are missing", log(work, gathering))
    assert 0 < int(left) < 6
    assert "the same submission records the missing ones" in log(work, gathering)
    array, gathering = submit(work, "--seeds", "1")
    wait_for_end(array, gathering)
    assert f"part 1 of 2: {left} trainings are due" in log(work, f"{array}_1")
    assert len(banks.read(work / "banks/slow.parquet").trainings) == 13
