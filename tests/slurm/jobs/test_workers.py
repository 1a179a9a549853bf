"""Worker jobs on a real SLURM, as the head job sees them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from slurm import capacity, profile, scheduler
from slurm.jobs.connection import Connection
from slurm.jobs.workers import WorkerJobs
from tests.slurm.testbed.drills import SECONDS, wait_until, write_profile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS)]


def started(work: Path) -> WorkerJobs:
    """Worker jobs that sleep in place of a Ray."""
    write_profile(work, workers=1, node={"cpus": 4}, environment={"lines": ["exec sleep 300"]})
    cluster = profile.load(work / "cluster.yaml")
    (work / "logs" / "hpo-asha-1").mkdir(parents=True)
    return WorkerJobs(cluster, "hpo-asha", work, capacity.of(cluster, 1), Connection("10.0.0.1:6379", "token", "1"))


@pytest.mark.thorough  # SLURM's own clock decides
def test_a_preempted_worker_is_replaced_at_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a job that waits until the nodes are free again, and then runs."""
    with started(work) as workers:
        [first] = workers.live
        wait_until(lambda: workers.look().get(first, scheduler.Job("")).state == "RUNNING", "the worker")
        urgent = ["sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 8"]
        subprocess.run(urgent, cwd=work, check=True, capture_output=True)
        wait_until(lambda: scheduler.jobs([first])[first].state == "PREEMPTED", "the urgent job", 30)
        preempted = time.monotonic()
        wait_until(lambda: workers.look() and workers.live != [first], "a replacement", 30)
        assert time.monotonic() - preempted < 2 * scheduler.SQUEUE_SECONDS
        [second] = workers.live
        wait_until(lambda: workers.look()[second].state == "RUNNING", "the replacement", 60)
    assert f"worker job {first} has ended early (PREEMPTED)" in capsys.readouterr().out
