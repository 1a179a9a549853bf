"""Hostile values through a real SLURM: submitted, queued, run; nothing of them runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slurm import scheduler
from tests.security.hostile import assert_nothing_ran
from tests.slurm.testbed.drills import REPOSITORY, hpo, log, wait_for_end, write_profile

HOSTILE = "$(touch PWNED) `touch PWNED`; touch PWNED # \"'"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.thorough  # every job of these tests runs in a folder whose name is one
def test_a_job_runs_among_logs_whose_name_is_a_command(work: Path) -> None:
    """sbatch reads the name in its directives, and bash in the job's script."""
    write_profile(work, logs=f"logs/{HOSTILE}", directives=['--comment="$(touch PWNED); `touch PWNED`"'])
    done = hpo(work, "slurm", "doctor", "--cluster", "cluster.yaml")
    assert "a study would run there as here" in done.stdout, done.stderr
    assert (work / "logs" / HOSTILE).is_dir()
    assert_nothing_ran(work.parent)


def test_a_job_by_sbatch_alone_refuses_a_method_that_is_a_command(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "logs").mkdir()
    for name, value in {"METHOD": HOSTILE, "BENCHMARK": HOSTILE, "PYTHON": sys.executable}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    job = scheduler.submit(REPOSITORY / "slurm/head_node.slurm", work, ["--cpus-per-task=1", "--time=10"])
    wait_for_end(job)
    assert log(work, job).startswith("error: no benchmark named '$(touch PWNED)")
    assert_nothing_ran(work.parent)
