"""Studies in one allocation of several nodes, on a SLURM whose compute nodes may not submit jobs."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from slurm import scheduler
from tests.slurm.testbed.drills import (
    SECONDS,
    assert_ended_well,
    assert_nothing_is_left,
    has_begun,
    hpo,
    log,
    stored,
    submit,
    wait_for_end,
    wait_until,
    write_profile,
)
from tests.studies import write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]
FORBID = 'export PATH="$SLURM_SUBMIT_DIR/forbidden:$PATH"'
LONG = 'export RAY_TMPDIR="$TMPDIR"'
FORBIDDEN = "sbatch: error: jobs are submitted on login nodes only"


@pytest.fixture
def site(work: Path) -> Path:
    """A folder to submit from, on a site where sbatch does not work in jobs."""
    (work / "forbidden").mkdir()
    program = work / "forbidden/sbatch"
    program.write_text(f"#!/bin/sh\necho '{FORBIDDEN}' >&2\nexit 1\n")
    program.chmod(0o755)
    one_job(work)
    return work


def one_job(work: Path, **changes: object) -> None:
    environment = {"lines": [FORBID, f'export TMPDIR="$SLURM_SUBMIT_DIR/{"t" * 120}"; mkdir -p "$TMPDIR"', LONG]}
    write_profile(work, node={"cpus": 2}, cpus_for_ray=1, environment=environment, layout="one_job", head={}, **changes)


@pytest.mark.thorough  # test_scripts has its scripts, test_jobs a study in jobs of its own
def test_a_study_runs_on_all_nodes_of_one_job(site: Path) -> None:
    """With a temporary folder whose path no socket's name may have."""
    job = submit(site, "random", "--budget", "2")
    wait_for_end(job)
    text = assert_ended_well(site, job)
    assert "2 of 2 workers joined" in text
    assert "warning: Ray's files lie in /tmp, since " in text
    [study] = stored(site)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["device_hours"] == pytest.approx(2 * study.data.metrics["wall_seconds"] / 3600, rel=0.05)
    logs = "\n".join(path.read_text() for path in site.glob("logs/*-worker-*.out"))
    assert set(re.findall(rf"START \S+ worker step {job}.[01] on (n[12])$", logs, re.MULTILINE)) == {"n1", "n2"}
    assert len(re.findall(r"FINISH .* exit status 0$", logs, re.MULTILINE)) == 2


@pytest.mark.thorough  # the kernel decides; a study in jobs of its own is in test_jobs
def test_a_cancelled_study_in_one_job_keeps_what_it_found(site: Path) -> None:
    """SLURM tells the workers too; they stay until the study has ended."""
    write_slow_synthetic(site, 0.3, "slow")
    job = submit(site, "random", "--budget", "50")
    wait_until(lambda: has_begun(site, job), "a trial")
    scheduler.cancel([job])
    wait_for_end(job)
    text = log(site, job)
    assert "tells the study to end in good order: the job was cancelled" in text
    assert "has ended early" not in text
    assert_nothing_is_left(site, job)
    [study] = stored(site)
    assert study.info.status == "KILLED"
    assert "best_eval_loss" in study.data.metrics


@pytest.mark.thorough  # the kernel decides; a study in jobs of its own is in test_jobs
def test_a_worker_that_dies_is_started_again_on_its_node(site: Path) -> None:
    write_slow_synthetic(site, 0.3, "slow")
    job = submit(site, "random", "--budget", "4")
    wait_until(lambda: has_begun(site, job), "a trial")
    for process in psutil.process_iter(["cmdline", "environ"]):
        told, words = process.info["environ"] or {}, process.info["cmdline"] or [""]
        is_step = told.get("SLURM_JOB_ID") == job and told.get("HPO_WORKER_STEP") == "1"
        if is_step and words[0] != "srun" and "slurm worker --connection" in " ".join(words):
            process.kill()
    wait_for_end(job)
    text = log(site, job)
    assert re.search(r"^FINISH .* exit status 0$", text, re.MULTILINE), text
    assert "worker step 1 has ended early (FAILED); its lost units are trained again" in text
    assert "worker step 2 replaces it" in text
    [study] = stored(site)
    assert study.info.status == "FINISHED"


@pytest.mark.thorough  # as the others of slurm's doctor, on a site of another kind
def test_doctor_finds_out_which_layout_a_site_allows(site: Path) -> None:
    done = hpo(site, "slurm", "doctor", "--cluster", "cluster.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    write_profile(site, environment={"lines": [FORBID]})
    done = hpo(site, "slurm", "doctor", "--cluster", "cluster.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a study would not run there as here: sbatch" in done.stdout
    assert "jobs may not submit jobs there: set `layout: one_job` in the profile" in done.stdout
