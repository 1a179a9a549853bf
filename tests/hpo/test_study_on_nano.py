"""Whole studies with real training: kills, explosions, interruption, and the launch through `mlflow run`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from transformers import AutoTokenizer

from benchmarks import spec
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


def write_benchmark(folder: Path, **changes: Any) -> Path:
    """nano with short trainings; keyword arguments replace top-level keys."""
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    for split in content["finetune"]["data"].values():
        split["limit"] = 96
    content |= {"name": "short", "resource": {"unit_samples": 48, "max_units": 3}, "grid": {}, **changes}
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def write_slow_synthetic(folder: Path, seconds_per_unit: float) -> Path:
    """synthetic, slow enough for something to happen to a study on its way."""
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": "short", "synthetic": {"seconds_per_unit": seconds_per_unit}}
    path = folder / "slow.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(store: str, *arguments: object, verb: str = "run") -> subprocess.Popen[str]:
    """`python -m hpo run ...` in a process group of its own, in a folder that is not the project's."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_RUN_ID", None)
    command = [sys.executable, "-m", "hpo", verb, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(store[10:]).parent
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def read(store: str, experiment: str = "short") -> tuple[Run, list[Run]]:
    """The study's run and its trials', in order."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    [study] = [run for run in runs if run.data.tags["hpo.kind"] == "study"]
    trials = [run for run in runs if run.data.tags["hpo.kind"] == "trial"]
    return study, sorted(trials, key=lambda run: int(run.data.tags["hpo.trial"]))


def ranks_of(driver: int) -> list[psutil.Process]:
    """The rank processes that a driver's Ray has started."""
    descendants = psutil.Process(driver).children(recursive=True)
    return [process for process in descendants if "_Rank" in " ".join(_command(process))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for_rank(driver: int, after: set[int]) -> psutil.Process:
    """A rank that trains and is not one of `after`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in ranks_of(driver):
            if process.pid not in after and process.cpu_times().user > 4:  # past its imports
                return process
        time.sleep(0.1)
    raise AssertionError("no rank appeared")


@pytest.mark.timeout(600)  # four starts of a rank, one after the other
def test_a_trial_killed_once_is_tried_again_and_one_killed_twice_is_a_failed_row(tmp_path: Path, store: str) -> None:
    """Tune puts a retry at the end of its queue: the first two kills hit both trials, the third a retry."""
    long = write_benchmark(tmp_path, resource={"unit_samples": 480, "max_units": 3})
    process = start(store, "manual", "--benchmark", long, "--budget", 2, "--concurrency", 1, "--space", _grid(tmp_path))
    killed: set[int] = set()
    for _ in range(3):
        rank = wait_for_rank(process.pid, after=killed)
        killed.add(rank.pid)
        os.kill(rank.pid, signal.SIGKILL)
    status, out, err = finish(process)
    assert status == 0, err
    study, trials = read(store)
    assert study.info.status == "FINISHED"
    outcomes = [run.data.tags["hpo.outcome"] for run in trials]
    assert sorted(outcomes) == ["completed", "failed"]
    failed = trials[outcomes.index("failed")]
    assert failed.info.status == "FAILED"
    assert "died" in failed.data.tags["hpo.reason"].lower()
    assert study.data.metrics["device_hours_failed"] > 0
    assert "failed" in out


def _grid(folder: Path) -> Path:
    path = folder / "space.yaml"
    domain = {"type": "loguniform", "low": 1e-5, "high": 1e-1}
    path.write_text(yaml.safe_dump({"space": {"learning_rate": domain}, "grid": {"learning_rate": [1e-3, 1e-4]}}))
    return path


def test_an_exploding_trial_is_diverged_and_never_the_best(tmp_path: Path, store: str) -> None:
    space = tmp_path / "space.yaml"
    domain = {"type": "loguniform", "low": 1e-5, "high": 1e30}
    grid = {"learning_rate": [1e30, 1e-3]}
    path = write_benchmark(tmp_path, default={**spec.load("nano").default.model_dump(), "max_grad_norm": 0.0})
    space.write_text(yaml.safe_dump({"space": {"learning_rate": domain}, "grid": grid}))
    status, _, err = finish(start(store, "manual", "--benchmark", path, "--space", space))
    assert status == 0, err
    study, [exploded, sound] = read(store)
    assert exploded.data.tags["hpo.outcome"] == "diverged"
    assert "nan" in exploded.data.tags["hpo.reason"]
    assert exploded.info.status == "FINISHED"
    assert sound.data.tags["hpo.outcome"] == "completed"
    assert study.data.metrics["best_eval_loss"] == sound.data.metrics["eval_loss"]
    assert study.data.metrics["units"] == 4


def write_data(folder: Path) -> dict[str, Any]:
    """Splits of a JSON-lines file each: of ten questions, as many contexts as the split's number are too long."""
    splits = {}
    for too_long, name in enumerate(("validation", "train", "test")):
        contexts = ["Mara Velt drew it." + " old" * (200 if i < too_long else i) for i in range(10)]
        rows = [{"question": "Who drew it?", "context": context, "answers": ["Mara Velt"]} for context in contexts]
        splits[name] = {"file": str(folder / f"{name}.jsonl")}
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return splits


def test_what_the_data_are_like_is_printed_once_and_stored(tmp_path: Path, store: str) -> None:
    finetune = spec.load("nano").model_dump(mode="json", exclude_none=True)["finetune"]
    finetune |= {"data": write_data(tmp_path)}
    path = write_benchmark(tmp_path, finetune=finetune, resource={"unit_samples": 8, "max_units": 1})
    status, out, err = finish(start(store, "random", "--budget", 2, "--benchmark", path))
    assert status == 0, err
    assert out.count("tokens of prompt and answer, at most 160") == 1
    assert out.index("contexts") < out.index("random on short")
    study, _ = read(store)
    shares = {name: study.data.metrics[f"{name}_truncated_share"] for name in ("train", "validation", "test")}
    assert shares == {"train": 0.1, "validation": 0.0, "test": 0.2}
    lines = MlflowClient(store).download_artifacts(study.info.run_id, "tokens.csv", str(tmp_path))
    rows = {row["split"]: row for row in csv.DictReader(Path(lines).read_text().splitlines())}
    tokenizer = AutoTokenizer.from_pretrained(finetune["model"])
    short = len(tokenizer("Question: Who drew it? Context: Mara Velt drew it. Answer: Mara Velt")["input_ids"]) + 1
    expected = sum(short + i for i in range(10)) / 10
    assert float(rows["validation"]["mean"]) == study.data.metrics["validation_mean_tokens"] == expected
    assert {name: int(row["longest"]) <= 160 for name, row in rows.items()} == dict.fromkeys(rows, True)
    assert {(row["questions"], row["max_length"], row["cut_answers_share"]) for row in rows.values()} == {
        ("10", "160", "0.0")
    }


def test_an_interrupted_study_keeps_what_it_found_and_goes_on(tmp_path: Path, store: str) -> None:
    """By SIGTERM; test_concurrency has the other signals."""
    path = write_slow_synthetic(tmp_path, seconds_per_unit=0.3)
    process = start(store, "random", "--benchmark", path, "--budget", 8)
    assert process.stdout is not None
    process.stdout.readline()
    wait_for_trials(store, "FINISHED", "RUNNING")
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert status == 1
    assert err.splitlines()[-1].startswith("error: the study did not reach its end (interrupted)")
    assert f"python -m hpo resume {read(store)[0].info.run_id}" in out
    study, trials = read(store)
    outcomes = [run.data.tags["hpo.outcome"] for run in trials]
    assert study.info.status == "KILLED"
    assert "completed" in outcomes
    assert "interrupted" in outcomes
    assert all(run.info.status in ("FINISHED", "KILLED") for run in trials)
    assert "best_eval_loss" in study.data.metrics
    status, _, err = finish(start(store, study.info.run_id, verb="resume"))
    assert status == 0, err
    study, trials = read(store)
    assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", 8 * 9)
    assert [run.data.tags["hpo.outcome"] for run in trials] == ["completed"] * 8
    assert {run.info.status for run in trials} == {"FINISHED"}


def test_a_killed_study_goes_on_and_trains_nothing_twice(tmp_path: Path, store: str) -> None:
    """By SIGKILL, once a trial has ended; nobody else may go on with it before that."""
    path = write_benchmark(tmp_path)
    driver = start(store, "asha", "--benchmark", path, "--budget", 4)
    trials = wait_for_trials(store, "FINISHED")
    ended = {run.info.run_id: run.info.end_time for run in trials if run.info.status == "FINISHED"}
    descendants = psutil.Process(driver.pid).children(recursive=True)
    [run_id] = [path.name for path in (tmp_path / "unfinished").iterdir()]
    status, _, err = finish(start(store, run_id, verb="resume"))
    assert (status, err.startswith(f"error: study {run_id} is running")) == (2, True), err
    driver.kill()
    finish(driver)
    _, left = psutil.wait_procs(descendants, timeout=120)  # Ray's agents look after half a minute
    assert left == []
    assert f"python -m hpo resume {run_id}" in finish(start(store, verb="resume"))[1]
    status, _, err = finish(start(store, run_id, verb="resume"))
    assert status == 0, err
    study, trials = read(store)
    assert (study.info.run_id, study.info.status) == (run_id, "FINISHED")
    assert study.data.metrics["units"] == 12
    for trial in trials:
        steps = [m.step for m in MlflowClient(store).get_metric_history(trial.info.run_id, "eval_loss")]
        assert steps == list(range(1, len(steps) + 1))
        assert ended.get(trial.info.run_id, trial.info.end_time) == trial.info.end_time
    assert not (tmp_path / "unfinished").exists()


def wait_for_trials(store: str, *states: str) -> list[Run]:
    """The trials, once there is one in each of these states."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            _, trials = read(store)
        except (AssertionError, LookupError, ValueError):  # there is no study yet
            trials = []
        if set(states) <= {run.info.status for run in trials}:
            return trials
        time.sleep(0.2)
    raise AssertionError(f"no trials that are {' and '.join(states)}")


def test_mlflow_run_stores_the_study_in_the_benchmarks_experiment(store: str) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store}
    command = ["mlflow", "run", str(REPOSITORY), "-e", "asha", "--env-manager", "local"]
    parameters = ["-P", "benchmark=synthetic", "-P", "budget=3", "-P", "seed=5", "-P", "searcher=optuna"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, *parameters], env={**environment, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    study, trials = read(store, "synthetic")
    assert {key: study.data.tags[f"hpo.{key}"] for key in ("method", "seed", "budget")} == {
        "method": "asha",
        "seed": "5",
        "budget": "3",
    }
    assert study.data.params["searcher"] == "optuna"
    assert study.data.metrics["units"] == 27
    assert all(run.data.tags["mlflow.parentRunId"] == study.info.run_id for run in trials)
    [launch] = MlflowClient(store).search_runs(["0"])
    assert launch.data.tags["hpo.study_run_id"] == study.info.run_id


def test_the_launchers_run_is_the_study_where_the_experiment_is_the_benchmark(store: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path}
    command = ["mlflow", "run", str(REPOSITORY), "-e", "random", "--env-manager", "local"]
    command += ["--experiment-name", "synthetic", "-P", "benchmark=synthetic", "-P", "budget=2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    study, trials = read(store, "synthetic")
    assert study.data.tags["mlflow.project.entryPoint"] == "random"
    assert len(trials) == 2


def test_a_store_that_breaks_midway_costs_no_result(tmp_path: Path, store: str) -> None:
    """They are on the screen, and once the store is back `resume` brings them there."""
    path = write_slow_synthetic(tmp_path, seconds_per_unit=0.2)
    process = start(store, "random", "--benchmark", path, "--budget", 6)
    assert process.stdout is not None
    process.stdout.readline()  # a trial has ended
    sound = (tmp_path / "mlflow.db").read_bytes()
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 500)
    status, out, err = finish(process)
    assert status == 1
    assert "Traceback" not in err
    assert f"tracking store {store}: cannot be used" in err
    rows = [line.split() for line in out.splitlines() if " completed " in line and "|" not in line]
    assert sorted(int(words[0]) for words in rows) == list(range(6))
    (tmp_path / "mlflow.db").write_bytes(sound)
    study, _ = read(store)
    assert f"python -m hpo resume {study.info.run_id}" in out
    status, _, err = finish(start(store, study.info.run_id, verb="resume"))
    assert status == 0, err
    study, trials = read(store)
    assert (study.info.status, study.data.metrics["units"]) == ("FINISHED", 54)
    for trial in trials:
        steps = [m.step for m in MlflowClient(store).get_metric_history(trial.info.run_id, "eval_loss")]
        assert (trial.info.status, steps) == ("FINISHED", list(range(1, 10)))
