"""Real jobs on a real SLURM: studies that end well, and the many ways in which they do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm import scheduler
from tests.slurm.drills import (
    SECONDS,
    assert_nothing_is_left,
    has_begun,
    hpo,
    log,
    squeue,
    stored,
    submit,
    wait_for_end,
    wait_until,
    write_benchmark,
    write_profile,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


def test_two_studies_at_once_in_one_folder_do_not_meet(work: Path) -> None:
    jobs = [submit(work, "random", "--budget", "2"), submit(work, "asha", "--budget", "2", "--seed", "3")]
    wait_until(lambda: len(list(work.glob("logs/*/connection.json"))) == 2 or not squeue(), "both Rays")
    assert {path.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o700}
    wait_for_end(*jobs)
    for job in jobs:
        text = log(work, job)
        assert re.search(rf"^START \S+ head job {job} \(hpo-\w+\) on n[12]$", text, re.MULTILINE), text
        assert re.search(rf"^FINISH \S+ head job {job} .* exit status 0$", text, re.MULTILINE), text
        assert "2 of 2 workers joined" in text
        assert_nothing_is_left(work, job)
    assert sorted((run.data.tags["hpo.method"], run.info.status) for run in stored(work)) == [
        ("asha", "FINISHED"),
        ("random", "FINISHED"),
    ]
    for run in stored(work):
        metrics = run.data.metrics
        assert metrics["device_hours"] == pytest.approx(2 * metrics["wall_seconds"] / 3600, rel=0.05)
        table = work / f"logs/hpo-{run.data.tags['hpo.method']}-{run.data.tags['hpo.slurm_job']}.csv"
        assert len(table.read_text().splitlines()) == 1 + metrics["num_trials"]
    assert hpo(work, "slurm", "collect", "--cluster", "cluster.yaml").stdout.count(": 0 runs added") == 2


def test_a_cancelled_study_keeps_what_it_found(work: Path) -> None:
    write_benchmark(work, seconds_per_unit=0.3)
    job = submit(work, "random", "--budget", "50")
    wait_until(lambda: has_begun(work, job), "a trial")
    scheduler.cancel([job])
    wait_for_end(job)
    text = log(work, job)
    assert "tells the study to end in good order: the job was cancelled" in text
    assert re.search(r"^FINISH .* exit status 1$", text, re.MULTILINE), text
    assert_nothing_is_left(work, job)
    [study] = stored(work)
    assert study.info.status == "KILLED"
    assert study.data.metrics["num_trials"] >= 2
    assert "best_eval_loss" in study.data.metrics


def test_a_worker_that_is_cancelled_in_mid_trial_is_replaced(work: Path) -> None:
    write_benchmark(work, seconds_per_unit=0.4)
    job = submit(work, "random", "--budget", "6")
    wait_until(lambda: has_begun(work, job), "a trial")
    workers = [number for number, name, _ in squeue() if name == "hpo-random-worker"]
    scheduler.cancel(workers[:1])
    wait_for_end(job)
    text = log(work, job)
    assert f"worker job {workers[0]} has ended early (CANCELLED)" in text
    assert re.search(r"^FINISH .* exit status 0$", text, re.MULTILINE), text
    assert_nothing_is_left(work, job)
    [study] = stored(work)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["units"] >= 54


def test_what_slurm_refuses_is_passed_on_in_its_words(work: Path) -> None:
    write_profile(work, partition="nowhere")
    done = hpo(work, "slurm", "submit", "--cluster", "cluster.yaml", "random", "--benchmark", "slow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: sbatch refused: " in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_is_found_before_anything_is_submitted(work: Path) -> None:
    done = hpo(work, "slurm", "submit", "--cluster", "cluster.yaml", "asha", "--reduction-factor", "1")
    assert done.returncode == 2
    assert "reduction_factor" in done.stderr
    assert squeue() == []
