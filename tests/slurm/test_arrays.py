"""Studies without Ray on a real SLURM: arrays, serial jobs, and a store that is not there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from hpo.core import events as core
from slurm import gather, scheduler, study_folder
from slurm.testbed import daemons
from tests.slurm.testbed.drills import (
    SECONDS,
    hpo,
    squeue,
    stored,
    wait_for_end,
    wait_until,
    write_profile,
)
from tests.studies import run_here, write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


def begin(work: Path, *what: str) -> tuple[list[str], Path]:
    """Submit as a user does; returns the jobs and the study's folder."""
    done = hpo(work, "slurm", *what, "--cluster", "cluster.yaml", "--benchmark", "slow.yaml")
    assert done.returncode == 0, done.stderr
    jobs, folder = re.findall(r"submitted jobs? ([\d, ]+); the study is in (.*)\n", done.stdout)[0]
    return jobs.split(", "), Path(folder)


def text(work: Path, pattern: str) -> str:
    """The only log whose name matches."""
    [path] = work.glob(f"logs/{pattern}.out")
    return path.read_text()


def began(folder: Path) -> list[tuple[int, float]]:
    found = [event for event in study_folder.events(folder) if isinstance(event, core.Began)]
    return [(int(event.trial), event.at) for event in found]


def test_an_array_trains_a_trial_a_task_and_gathers_them(work: Path) -> None:
    """In batches of two: the third waits for both others. A store that cannot be reached costs nothing."""
    write_profile(work, store="http://127.0.0.1:9")
    [first, second, gathering], folder = begin(work, "array", "random", "--batch", "2", "--budget", "3")
    wait_for_end(first, second, gathering)
    assert re.search(rf"^START \S+ job \d+ \(trial 0 of {folder.name}\) on n[12]$", text(work, f"*-{first}_0"), re.M)
    assert re.search(r"^FINISH .* exit status 0$", text(work, f"*-{second}_2"), re.M)
    printed = text(work, f"*-gather-{gathering}")
    assert "error: tracking store http://127.0.0.1:9: cannot be used" in printed
    assert f"nothing is lost, all results are in {folder}; to try again: python -m hpo slurm collect" in printed
    assert "Traceback" not in printed
    write_profile(work)
    shutil.copytree(folder, folder.with_name("another"))
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / study_folder.STUDY).write_text("{")
    done = run_here(work, "slurm", "collect", "--cluster", "cluster.yaml")
    assert done.returncode == 1
    assert "error: broken: " in done.stderr
    assert f"3 trials in {folder}.csv" in done.stdout
    assert len(stored(work)) == 2  # of both folders
    [study] = [run for run in stored(work) if run.data.tags[gather.TAG] == folder.name]
    assert (study.info.status, study.data.tags["hpo.variant"]) == ("FINISHED", "evaluation=batch")
    assert study.data.metrics["units"] == 27
    assert len((work / f"{folder}.csv").read_text().splitlines()) == 4
    last_of_batch = max(event.at for event in study_folder.events(folder) if getattr(event, "trial", "") in ("0", "1"))
    assert dict(began(folder))[2] > last_of_batch
    assert squeue() == []


@pytest.mark.thorough  # test_trial_job sends the signals, without SLURM
def test_a_cancelled_task_is_a_row_and_can_be_trained_later(work: Path) -> None:
    write_slow_synthetic(work, 0.5, "slow")
    [array, gathering], folder = begin(work, "array", "optuna", "--at-once", "2", "--budget", "2")
    wait_until(lambda: study_folder.last_unit(folder, 1), "a unit")
    scheduler.cancel([f"{array}_1"])
    wait_for_end(array, gathering)
    assert "error: " in text(work, f"*-gather-{gathering}")
    done = hpo(work, "slurm", "collect", "--cluster", "cluster.yaml")
    assert done.returncode == 1
    assert "1 of 2 trials have no result; to train them: python -m hpo slurm resume" in done.stderr
    assert stored(work) == []

    again = hpo(work, "slurm", "resume", "--cluster", "cluster.yaml", str(folder))
    assert again.returncode == 0, again.stderr
    wait_until(lambda: not squeue(), "the end of what was resumed")
    assert sorted(trial for trial, _ in began(folder)) == [0, 1, 1]
    [study] = stored(work)
    assert (study.info.status, study.data.metrics["num_trials"]) == ("FINISHED", 2)
    assert study.data.metrics["device_hours_failed"] > 0
    assert hpo(work, "slurm", "resume", "--cluster", "cluster.yaml", str(folder)).returncode == 2
    assert f"{folder.name}: is there" in hpo(work, "slurm", "collect", "--cluster", "cluster.yaml").stdout


@pytest.mark.thorough  # SLURM's own clock decides
@pytest.mark.parametrize("is_told_by", ["scancel", "the limit"])
def test_a_serial_job_that_nears_its_time_limit_is_queued_again_and_goes_on(work: Path, is_told_by: str) -> None:
    """SLURM signals the job 30 to 60 s before its two minutes end, or the test does after the first trial."""
    trials = 8 if is_told_by == "the limit" else 3
    write_slow_synthetic(work, 1.3 if is_told_by == "the limit" else 0.3, "slow")
    write_profile(work, time="2", grace_seconds=30)
    [job], folder = begin(work, "serial", "manual", "--budget", str(trials))
    wait_until(lambda: study_folder.finished(folder), "a trial")
    if is_told_by == "scancel":
        scheduler._run(["scancel", "--batch", "--signal=USR1", job], None)
    log = work / f"logs/hpo-manual-{job}.out"
    wait_until(lambda: log.exists() and "queued again: trials that are finished are kept" in log.read_text(), "SLURM")
    wait_until(lambda: (job, "hpo-manual", "PENDING") in squeue(), "its place in the queue")
    scheduler._run(["scontrol", "update", f"JobId={job}", "StartTime=now"], None)  # SLURM would wait two minutes
    wait_for_end(job)
    printed = log.read_text()
    assert [line.split()[0] for line in printed.splitlines() if f" job {job} (" in line] == ["START", "FINISH"] * 2
    assert printed.count("START trial 0") == 1
    assert printed.count(": interrupted (the time limit is near)") == 1
    [study] = stored(work)
    assert (study.info.status, study.data.tags["hpo.variant"]) == ("FINISHED", "evaluation=sequential")
    assert study.data.metrics["num_trials"] == trials
    assert study.data.metrics["device_hours_failed"] > 0
    assert json.loads((folder / study_folder.GATHERED).read_text()) == {"run_id": study.info.run_id}


@pytest.mark.thorough  # test_study_folder splits them, without SLURM
def test_more_trials_than_an_array_may_have_are_trained_in_several(
    work: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a SLURM whose arrays have three tasks at most."""
    folder = tmp_path_factory.mktemp("bed")
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(daemons.start(folder, max_array_size=3)))
        try:
            assert scheduler.max_array_size() == 3
            [first, second, gathering], study_at = begin(work, "array", "random", "--budget", "5")
            wait_for_end(first, second, gathering)
        finally:
            daemons.stop(folder)
    assert sorted(trial for trial, _ in began(study_at)) == [0, 1, 2, 3, 4]
    [study] = stored(work)
    assert (study.info.status, study.data.metrics["num_trials"]) == ("FINISHED", 5)


def test_what_cannot_run_without_ray_is_refused_before_anything_is_submitted(work: Path) -> None:
    done = run_here(work, "slurm", "array", "asha", "--cluster", "cluster.yaml", "--benchmark", "slow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "asha learns from results while trials run, so it needs Ray" in done.stderr
    done = run_here(work, "slurm", "array", "random", "--cluster", "cluster.yaml", "--at-once", "-1")
    assert done.returncode == 2
    done = run_here(work, "slurm", "array", "random", "--cluster", "cluster.yaml", "--at-onec", "4")
    assert (done.returncode, "--at-once" in done.stderr) == (2, True)
    write_profile(work, partition="nowhere")
    done = run_here(work, "slurm", "array", "random", "--cluster", "cluster.yaml", "--benchmark", "slow.yaml")
    assert "error: sbatch refused: " in done.stderr
    assert squeue() == []
    assert list((work / "logs").iterdir()) == []
