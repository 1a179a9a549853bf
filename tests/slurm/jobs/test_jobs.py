"""Real jobs on a real SLURM: studies that end well, and the many ways in which they do not."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from slurm import scheduler
from slurm.testbed import daemons
from tests import joining
from tests.slurm.testbed.drills import (
    REPOSITORY,
    SECONDS,
    assert_ended_well,
    assert_nothing_is_left,
    has_begun,
    hpo,
    log,
    printed,
    running,
    squeue,
    stored,
    submit,
    typed,
    wait_for_end,
    wait_until,
    write_profile,
)
from tests.studies import run_here, write_benchmark, write_slow_synthetic

SLOW = ("--budget", "4", "--benchmark", "slow.yaml")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.mark.parametrize(
    "methods", [("asha",), pytest.param(("random", "asha"), marks=pytest.mark.thorough)], ids="-and-".join
)
def test_studies_at_once_in_one_folder_do_not_meet(work: Path, methods: tuple[str, ...]) -> None:
    """Each is a head job and two workers. One study alone, the quick case, has to keep the same promises."""
    jobs = [submit(work, method, "--budget", "2") for method in methods]
    wait_until(lambda: len(list(work.glob("logs/*/connection.json"))) == len(jobs) or not squeue(), "all Rays")
    assert {path.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in work.glob("logs/*/connection.json")} == {0o700}
    wait_for_end(*jobs)
    for job in jobs:
        text = log(work, job)
        assert re.search(rf"^START \S+ head job {job} \(hpo-\w+\) on n[12]$", text, re.MULTILINE), text
        assert re.search(rf"^FINISH \S+ head job {job} .* exit status 0$", text, re.MULTILINE), text
        assert "2 of 2 workers joined" in text
        assert re.search(r"python -m hpo slurm submit --cluster .*/cluster.yaml' confirm --benchmark ", text), text
        assert f"MLFLOW_TRACKING_URI={shlex.quote(f'sqlite:///{work}/mlflow.db')} python -m hpo compare" in text
        assert_nothing_is_left(work, job)
    found = sorted((run.data.tags["hpo.method"], run.info.status) for run in stored(work))
    assert found == [(method, "FINISHED") for method in sorted(methods)]
    for run in stored(work):
        metrics = run.data.metrics
        assert metrics["device_hours"] == pytest.approx(2 * metrics["wall_seconds"] / 3600, rel=0.05)
        table = work / f"logs/hpo-{run.data.tags['hpo.method']}-{run.data.tags['hpo.slurm_job']}.csv"
        assert len(table.read_text().splitlines()) == 1 + metrics["num_trials"]
    assert hpo(work, "slurm", "collect", "--cluster", "cluster.yaml").stdout == f"the store is {work}/mlflow.db\n"
    typed(work, printed(log(work, jobs[0]), "compare the methods"))
    assert (work / "results" / "report.html").exists()


@pytest.mark.thorough
def test_commands_that_a_study_prints_work_where_the_user_types_them(work: Path) -> None:
    """Resume a study that was cancelled, then compare and confirm, each as the job before it printed the command."""
    write_slow_synthetic(work, 0.3, "slow")
    job = submit(work, "random", "--budget", "4")
    wait_until(lambda: has_begun(work, job), "a trial")
    scheduler.cancel([job])
    wait_for_end(job)
    assert [run.info.status for run in stored(work)] == ["KILLED"]
    for title in ("resume it", "confirm on test"):
        [job] = re.findall(r"submitted job (\d+)", typed(work, printed(log(work, job), title)))
        wait_for_end(job)
        text = assert_ended_well(work, job)
        if title == "resume it":
            assert [run.info.status for run in stored(work)] == ["FINISHED"]
            typed(work, printed(text, "compare the methods"))
            assert (work / "results" / "report.html").exists()
    typed(work, printed(text, "compare the methods"))
    assert len((work / "results" / "shrinkage.csv").read_text().splitlines()) == 2


@pytest.mark.thorough  # a node's and a job's end take SLURM's own time
def test_a_cancelled_study_keeps_what_it_found(work: Path) -> None:
    """While it ran, nobody else could join: Ray listens on the nodes' network."""
    write_slow_synthetic(work, 0.3, "slow")
    job = submit(work, "random", "--budget", "50")
    wait_until(lambda: has_begun(work, job), "a trial")
    [connection] = [json.loads(path.read_text()) for path in work.glob("logs/*/connection.json")]
    *others, (_, right) = joining.answers(connection["address"], connection["token"]).items()
    assert {answer for _, answer in others} == {joining.REFUSED}
    assert int(right) >= 2
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


@pytest.mark.thorough  # a serial job that does is in test_arrays
def test_a_suite_that_nears_its_time_limit_is_queued_again_and_goes_on(work: Path) -> None:
    """The signal is the one that SLURM sends; studies that are finished are not run again."""
    write_slow_synthetic(work, 0.3, "slow")
    done = hpo(work, *"slurm submit suite --cluster cluster.yaml --methods random,asha --seeds 0".split(), *SLOW)
    [job] = re.findall(r"submitted job (\d+)", done.stdout)
    wait_until(lambda: any(work.glob("logs/*.out")) and "study 2 of 2" in log(work, job), "the second study")
    scheduler._run(["scancel", "--batch", "--signal=USR1", job], None)
    wait_until(lambda: (job, "hpo-suite", "PENDING") in squeue(), "its place in the queue")
    scheduler._run(["scontrol", "update", f"JobId={job}", "StartTime=now"], None)  # SLURM would wait two minutes
    wait_for_end(job)
    text = assert_ended_well(work, job)
    assert "tells the study to end in good order: the time limit is near" in text
    assert "queued again, to go on where it stood; finished studies are kept" in text
    assert "resumes where it was interrupted" in text
    assert "1 of 2 studies are finished already" in text
    found = sorted((run.data.tags["hpo.method"], run.info.status) for run in stored(work))
    assert found == [("asha", "FINISHED"), ("random", "FINISHED")]


@pytest.mark.thorough
@pytest.mark.parametrize("is_queued_again", [True, False])
def test_a_study_that_nears_its_time_limit_goes_on_where_it_stood(work: Path, is_queued_again: bool) -> None:
    """In the same job, queued again, or in another, by the command that the first one prints."""
    write_slow_synthetic(work, 0.3, "slow")
    write_profile(work, requeue=is_queued_again)
    job = submit(work, "asha", "--budget", "4")
    wait_until(lambda: has_begun(work, job), "a trial")
    scheduler._run(["scancel", "--batch", "--signal=USR1", job], None)
    if is_queued_again:
        wait_until(lambda: (job, "hpo-asha", "PENDING") in squeue(), "its place in the queue")
        scheduler._run(["scontrol", "update", f"JobId={job}", "StartTime=now"], None)  # SLURM would wait two minutes
    else:
        wait_for_end(job)
        [words] = re.findall(
            r"to go on where it stood, .*: python -m hpo (slurm submit .* resume \w+)$", log(work, job), re.M
        )
        assert [run.info.status for run in stored(work)] == ["KILLED"]
        [job] = re.findall(r"submitted job (\d+)", hpo(work, *shlex.split(words)).stdout)
    wait_for_end(job)
    assert_ended_well(work, job)
    [study] = stored(work)
    assert study.info.status == "FINISHED"
    assert study.data.tags["hpo.resumes"] == "1"
    assert study.data.metrics["units"] == 4 * 9
    assert not (work / "unfinished").exists()


@pytest.mark.thorough  # as is one on a node that dies
def test_a_worker_that_is_cancelled_in_mid_trial_is_replaced(work: Path) -> None:
    write_slow_synthetic(work, 0.4, "slow")
    job = submit(work, "random", "--budget", "6")
    wait_until(lambda: has_begun(work, job), "a trial")
    workers = [number for number, name, _ in squeue() if name == "hpo-random-worker"]
    scheduler.cancel(workers[:1])
    wait_for_end(job)
    text = assert_ended_well(work, job)
    assert f"worker job {workers[0]} has ended early (CANCELLED)" in text
    [study] = stored(work)
    assert study.info.status == "FINISHED"
    # units that the worker had trained are spent; the rest of the budget is then less than a full training
    assert 5 * 9 < study.data.metrics["units"] <= 6 * 9, text
    assert study.data.metrics["device_hours_failed"] > 0


@pytest.mark.thorough  # the kernel and SLURM's own clock decide
def test_a_node_that_dies_is_replaced_by_one_that_finds_the_connection_again(bed: Path, work: Path) -> None:
    """The node's power goes: slurmd, the worker and its ranks at once. And somebody has deleted the connection file."""
    write_slow_synthetic(work, 1.5, "slow")  # SLURM notices after a while, with the other node at work
    write_profile(work, node={"cpus": 2}, cpus_for_ray=1)  # beside the head job there is room for one worker only
    job = submit(work, "random", "--budget", "6")
    wait_until(lambda: has_begun(work, job), "a trial")
    [connection] = work.glob("logs/*/connection.json")
    connection.unlink()
    wait_until(connection.exists, "the connection file", 30)
    assert connection.stat().st_mode & 0o777 == 0o600
    daemons.kill_node(bed, "n2")
    try:
        wait_until(lambda: "has ended early (NODE_FAIL)" in log(work, job) or job not in running(), "the node's end")
        daemons.start_node(bed, "n2")
        wait_for_end(job)
    finally:
        daemons.start_node(bed, "n2")
        wait_until(lambda: daemons.idle(bed), "the node's return")
    text = assert_ended_well(work, job)
    assert "was deleted; written again, for workers that are still to come" in text
    assert re.search(r"1 of 2 worker jobs run.*; trials at once: 1 per node, 1 on 1 node", text), text
    [study] = stored(work)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["units"] > 45  # what was lost is spent; what is left is less than a full training
    assert study.data.metrics["device_hours_failed"] > 0


@pytest.mark.thorough  # test_two_nodes has a trial across nodes, test_scripts the script
def test_sbatch_alone_runs_trials_across_nodes(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks on two nodes, each with a raylet of its own; the search space by environment variables."""
    resource = {"unit_samples": 32, "max_units": 2}
    benchmark = write_benchmark(work, limit=64, finetune={"ranks_per_trial": 2}, name="slow", resource=resource)
    write_profile(work, node={"cpus": 2}, cpus_for_ray=1)
    (work / "logs").mkdir()
    told = {"METHOD": "random", "BENCHMARK": benchmark.name, "BUDGET": "2", "SEED": "5", "NUM_WORKERS": "2"}
    told |= {
        "LR_LOWER": "1e-4",
        "LR_UPPER": "1e-3",
        "BS_CHOICES": "4,8",
        "WD_CHOICES": "0.01",
        "PYTHON": sys.executable,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    job = scheduler.submit(REPOSITORY / "slurm/head_node.slurm", work, ["--cpus-per-task=1", "--time=10"])
    wait_for_end(job)
    text = assert_ended_well(work, job)
    assert "2 of 2 workers joined" in text
    [study] = stored(work)
    assert (study.info.status, study.data.tags["hpo.seed"]) == ("FINISHED", "5")
    assert study.data.metrics["units"] == 4
    parts = sum(value for key, value in study.data.metrics.items() if key.startswith("device_hours_"))
    assert parts == pytest.approx(study.data.metrics["device_hours"], rel=0.01)
    rows = (work / f"logs/hpo-random-{job}.csv").read_text().splitlines()
    assert len(rows) == 3
    assert set(re.findall(r"worker job \d+ on (n[12])$", _worker_logs(work), re.MULTILINE)) == {"n1", "n2"}


def _worker_logs(work: Path) -> str:
    return "\n".join(path.read_text() for path in work.glob("logs/*-worker-*.out"))


SLOW_TO_EXIT = """
import atexit, sys, time
if "run" in sys.orig_argv and "slurm" not in sys.orig_argv:
    atexit.register(lambda: (print("the driver said its last line", flush=True), time.sleep(8)))
"""


@pytest.mark.thorough  # real time decides
def test_a_study_that_ended_as_the_time_limit_came_near_is_not_queued_again(work: Path) -> None:
    """The signal falls between the driver's last line and its exit, which here takes a while."""
    (work / "hooks").mkdir()
    (work / "hooks" / "sitecustomize.py").write_text(SLOW_TO_EXIT)
    write_profile(work, environment={"lines": ['export PYTHONPATH="$PWD/hooks"']})
    job = submit(work, "random", "--budget", "1")
    wait_until(lambda: any(work.glob("logs/*.out")) and "its last line" in log(work, job), "the driver's end")
    scheduler._run(["scancel", "--batch", "--signal=USR1", job], None)
    wait_for_end(job)
    text = assert_ended_well(work, job)
    assert "tells the study to end in good order: the time limit is near" in text
    assert "queued again" not in text
    assert [run.info.status for run in stored(work)] == ["FINISHED"]

    # As a site may do, or SLURM itself where a node fails in its last moment.
    scheduler._run(["scontrol", "requeue", job], None)
    time.sleep(3)  # a node refuses a job that it has ended in the same second
    scheduler._run(["scontrol", "update", f"JobId={job}", "StartTime=now"], None)
    wait_until(lambda: log(work, job).count("FINISH ") == 2, "the end of the second time")
    assert "the study has reached its end already: nothing is run again" in log(work, job)
    assert len(stored(work)) == 1


@pytest.mark.thorough  # test_network refuses such addresses, in process
def test_a_head_that_no_other_node_can_reach_is_refused_at_once(work: Path) -> None:
    """Its node has no network but loopback."""
    without_network = '[ -n "$INNER" ] || INNER=1 exec unshare --net bash -c \'ip link set lo up; exec bash "$0"\' "$0"'
    write_profile(work, environment={"lines": [without_network]})
    job = submit(work, "random", "--budget", "1")
    wait_for_end(job)
    text = log(work, job)
    assert re.search(r"error: Ray's head on node n[12] listens at 127.0.\S+, which no other node can reach", text), text
    assert "`interface:`" in text
    assert "Traceback" not in text
    assert not list(work.glob("logs/*-worker-*"))


@pytest.mark.thorough  # real time decides
def test_a_worker_that_runs_and_does_not_join_ends_the_wait_with_the_reason(work: Path) -> None:
    not_joining = 'case "$SLURM_JOB_NAME" in *-worker) exec sleep 300;; esac'
    write_profile(work, join_minutes=0.1, environment={"lines": [not_joining]})
    job = submit(work, "random", "--budget", "1")
    wait_for_end(job)
    text = log(work, job)
    assert re.search(r"error: worker job \d+ runs, and has not joined in 0.1 minutes \(`join_minutes`\)", text), text
    assert_nothing_is_left(work, job)


def test_what_slurm_refuses_is_passed_on_in_its_words(work: Path) -> None:
    write_profile(work, partition="nowhere")
    done = run_here(work, "slurm", "submit", "--cluster", "cluster.yaml", "random", "--benchmark", "slow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: sbatch refused: " in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_slurm_refuses_of_the_workers_is_told_before_the_head_is_submitted(work: Path) -> None:
    write_profile(work, workers={"count": 1, "directives": ["--constraint=no-such-feature"]})
    done = run_here(work, "slurm", "submit", "--cluster", "cluster.yaml", "random", "--benchmark", "slow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: sbatch refused: " in done.stderr
    assert "so it says of the worker jobs, and nothing was submitted" in done.stderr
    assert squeue() == []
    assert [path.name for path in (work / "logs").iterdir()] == ["hpo-random.sbatch"]


def test_while_all_nodes_are_drained_a_study_is_queued_with_a_warning(bed: Path, work: Path) -> None:
    scheduler._run(["scontrol", "update", "NodeName=n1,n2", "State=DRAIN", "Reason=maintenance"], None)
    try:
        done = run_here(work, "slurm", "submit", "--cluster", "cluster.yaml", "random", "--benchmark", "slow.yaml")
        assert done.returncode == 0, done.stderr
        assert "warning: as the cluster is now, the worker jobs will wait: sbatch refused: allocation" in done.stderr
        assert [(name, state) for _, name, state in squeue()] == [("hpo-random", "PENDING")]
        scheduler.cancel(running())
    finally:
        scheduler._run(["scontrol", "update", "NodeName=n1,n2", "State=RESUME"], None)
    wait_until(lambda: daemons.idle(bed), "the nodes' return")


@pytest.mark.thorough  # a cancelled study ends in the same way
def test_where_slurm_queues_nothing_again_the_command_that_resumes_is_printed(work: Path) -> None:
    write_slow_synthetic(work, 0.3, "slow")
    job = submit(work, "asha", "--budget", "4")
    wait_until(lambda: has_begun(work, job), "a trial")
    scheduler._run(["scontrol", "update", f"JobId={job}", "Requeue=0"], None)
    scheduler._run(["scancel", "--batch", "--signal=USR1", job], None)
    wait_for_end(job)
    text = log(work, job)
    assert "it could not be queued again: scontrol refused: " in text
    assert re.search(r"to go on where it stood, .*: python -m hpo slurm submit .* resume \w+$", text, re.M), text
    assert_nothing_is_left(work, job)


def test_a_mistake_is_found_before_anything_is_submitted(work: Path) -> None:
    done = run_here(work, "slurm", "submit", "--cluster", "cluster.yaml", "asha", "--reduction-factor", "1")
    assert done.returncode == 2
    assert "reduction_factor" in done.stderr
    assert squeue() == []
