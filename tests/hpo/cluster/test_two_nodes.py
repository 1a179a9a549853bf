"""Trials on nodes that share the study's folder and no temporary one: checkpoints are found wherever they go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import Benchmark
from benchmarks.training.control_groups import ROOT
from tests.hpo.cluster.two_nodes import lacks, two_nodes
from tests.stores import fresh_store
from tests.studies import finish, read, start, steps, wait_for_trials, write_benchmark, write_slow_synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
if reason := lacks():  # the system's own words: containers may forbid what two nodes on one machine take
    pytestmark.append(pytest.mark.skip(reason=f"no mount namespace can be made here: {reason}"))
SHORT = {"unit_samples": 32, "max_units": 3}
LONG = {"unit_samples": 16, "max_units": 9}
WIDE = {"unit_samples": 32, "max_units": 9}
"""Units that the largest batch of two ranks has a step in."""
ACROSS: dict[str, Any] = {"finetune": {"ranks_per_trial": 2}}


def assert_whole(store: str, units: int, max_units: int = LONG["max_units"]) -> None:
    """Make sure that the budget was spent, each unit trained once, and that no attempt failed."""
    study, trials = read(store)
    assert study.info.status == "FINISHED"
    assert units - max_units < study.data.metrics["units"] <= units  # HyperBand starts no trial that it cannot finish
    for trial in trials:
        assert "hpo.failures" not in trial.data.tags
        assert trial.info.status == "FINISHED", trial.data.tags
        found = steps(store, trial)
        assert found == list(range(1, len(found) + 1))


def study_of(folder: Path, environment: dict[str, str], *words: object) -> subprocess.Popen[str]:
    changes = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    return start(fresh_store(folder), *words, folder=folder, **changes)


@pytest.mark.thorough  # test_ranks has trials of two ranks, TestPointer the checkpoints' place
@pytest.mark.parametrize(
    ("method", "arguments", "resource"),
    [
        ("pbt", ["--interval-units", 1], SHORT),
        ("hyperband", [], WIDE),
        ("bohb", [], WIDE),
    ],
)
def test_a_trial_across_both_nodes_continues_from_its_checkpoint(
    tmp_path: Path, method: str, arguments: list[object], resource: dict[str, int]
) -> None:
    benchmark = write_benchmark(tmp_path, limit=32, resource=resource, **ACROSS)
    with two_nodes() as environment:
        study = study_of(tmp_path, environment, method, "--benchmark", benchmark, "--budget", 2, *arguments)
        status, _, err = finish(study)
    assert status == 0, err
    assert_whole(fresh_store(tmp_path), 2 * resource["max_units"], resource["max_units"])


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["pbt", "hyperband", "bohb"])
def test_a_trial_of_one_rank_continues_on_the_other_node(tmp_path: Path, method: str) -> None:
    benchmark = write_benchmark(tmp_path, limit=32, resource=LONG)
    with two_nodes() as environment:
        status, _, err = finish(study_of(tmp_path, environment, method, "--benchmark", benchmark, "--budget", 3))
    assert status == 0, err
    assert_whole(fresh_store(tmp_path), 27)


@pytest.mark.thorough  # test_nodes has the reservations, test_devices the numbers
def test_a_serial_grid_stays_serial_on_two_nodes(tmp_path: Path) -> None:
    store, benchmark = fresh_store(tmp_path), write_slow_synthetic(tmp_path, 0.1)
    with two_nodes() as environment:
        words = ("manual", "--benchmark", benchmark, "--budget", 3, "--concurrency", 1)
        status, _, err = finish(study_of(tmp_path, environment, *words))
    assert status == 0, err
    study, trials = read(store)
    spans = sorted((trial.info.start_time, trial.info.end_time) for trial in trials)
    assert len(spans) == 3
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))
    wall_hours = (study.info.end_time - study.info.start_time) / 3.6e6
    assert study.data.metrics["device_hours"] <= wall_hours  # of one device


@pytest.mark.thorough
def test_an_interrupted_study_resumes_on_both(tmp_path: Path) -> None:
    store = fresh_store(tmp_path)
    with two_nodes() as environment:
        words = ("hyperband", "--benchmark", write_slow_synthetic(tmp_path, 0.3), "--budget", 4)
        driver = study_of(tmp_path, environment, *words)
        wait_for_trials(store, "RUNNING")
        driver.send_signal(signal.SIGINT)
        assert finish(driver)[0] == 1
        [run_id] = [path.name for path in (tmp_path / "unfinished").iterdir()]
        changes = {name: value for name, value in environment.items() if os.environ.get(name) != value}
        status, _, err = finish(start(store, run_id, verb="resume", folder=tmp_path, **changes))
    assert status == 0, err
    assert_whole(store, 36)


@pytest.mark.timeout(600)
@pytest.mark.thorough  # test_ranks has a kill on the trial's own node
def test_a_rank_that_the_kernel_kills_on_the_other_node_was_out_of_memory(
    tmp_path: Path, small_nano: Callable[..., Benchmark]
) -> None:
    file = tmp_path / "benchmark.json"
    file.write_text(small_nano(ranks_per_trial=2).model_dump_json())
    command = [sys.executable, str(Path(__file__).parent / "killed_elsewhere.py"), str(file)]
    with two_nodes(ROOT) as environment:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == ["ActorDiedError", "MemoryError"]


def test_a_folder_that_a_node_cannot_see_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    with two_nodes(tmp_path) as environment:
        words = ("random", "--benchmark", "synthetic", "--budget", 1)
        status, out, err = finish(study_of(tmp_path, environment, *words))
    assert status == 2, out
    assert "1 node of the cluster (" in err
    assert f"cannot see {tmp_path}/unfinished/" in err
    assert "start the study in a folder that all nodes share" in err
    assert "Traceback" not in err
