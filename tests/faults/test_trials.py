"""Faults of a trial: each of its processes dies, hangs, or runs out of memory; its loss explodes."""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import spec
from tests.faults.conftest import SIMULATED, Record
from tests.studies import (
    assert_nothing_is_left,
    finish,
    processes_of,
    read,
    start,
    wait_for_training,
    write_benchmark,
)

TIMEOUT_SECONDS = 45
pytestmark = pytest.mark.slow


def write_grid(folder: Path, rates: list[float]) -> Path:
    path = folder / "space.yaml"
    domain = {"type": "loguniform", "low": 1e-9, "high": 1e30}
    path.write_text(yaml.safe_dump({"space": {"learning_rate": domain}, "grid": {"learning_rate": rates}}))
    return path


@pytest.mark.thorough  # test_concurrency has deaths at every kind of call, in process
@pytest.mark.timeout(1200)  # ranks start eight times, one after the other
def test_each_of_a_trial_s_processes_may_fail(tmp_path: Path, store: str, record: Record) -> None:
    """Tune's order decides which trial has which fault, and whether one trial has two; the third of four has none."""
    long = {"unit_samples": 480, "max_units": 3}
    benchmark = write_benchmark(tmp_path, finetune={"timeout_seconds": TIMEOUT_SECONDS}, resource=long)
    out_of_cuda = 3e-5
    grid = write_grid(tmp_path, [1e-3, 3e-4, 1e-4, out_of_cuda])  # once another has shown that its like fits
    words = ("manual", "--benchmark", benchmark, "--budget", 4, "--concurrency", 1, "--space", grid, "--shift", "false")
    driver = start(store, *words, python_path=SIMULATED, FAIL_AT_LEARNING_RATE=str(out_of_cuda))
    seen: set[int] = set()
    wait_for_training(driver.pid, seen).kill()
    wait_for_training(driver.pid, seen).send_signal(signal.SIGSTOP)
    wait_for_training(driver.pid, seen)
    [actor] = processes_of(driver.pid, "ray::ResourceTrainable")
    actor.kill()
    starve_one_trial(wait_for_training(driver.pid, seen), store)
    descendants = psutil.Process(driver.pid).children(recursive=True)
    status, out, err = finish(driver)
    assert status == 0, err
    assert "Trials did not complete" not in err  # Tune's line, with names that nothing else shows
    study, trials = read(store)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["device_hours_failed"] > 0
    assert_nothing_is_left(tmp_path, descendants)
    for trial in trials:
        is_simulated = float(trial.data.params["learning_rate"]) == out_of_cuda
        hits = attempts_that_failed(trial)
        is_out = trial.data.tags["hpo.reason"].startswith("out of memory: ")
        tried_again = out.count(f"trial {trial.data.tags['hpo.trial']} failed and is tried again: ")
        assert tried_again == len(hits) - (trial.data.tags["hpo.outcome"] == "failed")
        assert trial.data.tags["hpo.outcome"] == ("failed" if is_out or len(hits) == 2 else "completed")
        assert any("CUDA out of memory" in hit for hit in hits) == is_simulated
        files = [file.path for file in MlflowClient(store).list_artifacts(trial.info.run_id)]
        assert files == ["error.txt"] * bool(hits)
    hits = sorted(hit for trial in trials for hit in attempts_that_failed(trial))
    kinds = [hit.partition(":")[0] for hit in hits]
    assert [kind for kind in kinds if kind != "out of memory"] == [*["ActorDiedError"] * 2, "TimeoutError"]
    lost = [hit for hit in hits if hit.startswith("out of memory: ")]
    rescued = [trial for trial in trials if "hpo.micro_batch" in trial.data.tags]
    assert len(lost) + len(rescued) == 2
    assert sum("CUDA out of memory" in hit for hit in lost) == 1
    hits = [hit for hit in hits if hit not in lost]
    assert f"rank 0 did not answer for {TIMEOUT_SECONDS} s (timeout_seconds of the benchmark)" in hits[-1]
    outcome = "the trial is tried again once, and completed; one that is hit twice is a `failed` row with both reasons"
    record("a rank dies", "`kill -9`", outcome)
    record("a trial's actor dies", "`kill -9`", outcome)
    record("a rank hangs", "SIGSTOP for longer than the benchmark's `timeout_seconds`", f"it is ended; {outcome}")
    fits = "the trial goes on with smaller micro-batches; if none fits, it is a `failed` row, and is not tried again"
    record("no memory for a rank", "RLIMIT_DATA of half of its memory", fits)
    outcome = "a `failed` row that names the memory asked for; the trial is not tried again"
    simulated = "simulated: `torch.OutOfMemoryError` raised in the rank for every micro-batch"
    record("no memory on the GPU", simulated, outcome)


def starve_one_trial(rank: psutil.Process, store: str) -> None:
    """Take half of a rank's memory until a trial shows it; a rank that is alone goes on with the next trial.

    A trial has finished a unit before. Otherwise the study would train none of the others, which ask for as much.
    """
    wait_for_trial(store, lambda trial: "eval_loss" in trial.data.metrics)
    rank.rlimit(psutil.RLIMIT_DATA, (rank.memory_info().rss // 2, resource.RLIM_INFINITY))
    wait_for_trial(store, is_short_of_memory)
    rank.rlimit(psutil.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def wait_for_trial(store: str, is_seen: Callable[[Run], bool]) -> None:
    deadline = time.monotonic() + 300
    while not any(is_seen(trial) for trial in read(store)[1]):
        assert time.monotonic() < deadline, "no such trial"
        time.sleep(0.1)


def is_short_of_memory(trial: Run) -> bool:
    tags = trial.data.tags
    return "hpo.micro_batch" in tags or tags.get("hpo.reason", "").startswith("out of memory: ")


@pytest.mark.thorough  # test_rescue has the losses of real sessions, test_out_of_memory studies in process
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [1, 2])
def test_trials_that_do_not_fit_train_in_smaller_micro_batches(ranks: int, tmp_path: Path, store: str) -> None:
    """And so does a training of the exported configuration, with or without the micro-batch that fitted."""
    finetune = {"ranks_per_trial": ranks}
    benchmark = write_benchmark(tmp_path, finetune=finetune, resource={"unit_samples": 64, "max_units": 2})
    grid = write_grid(tmp_path, [1e-3, 3e-4])
    words = ("manual", "--benchmark", benchmark, "--budget", 2, "--space", grid, "--shift", "false")
    simulated = {"python_path": SIMULATED, "FAIL_ABOVE_MICRO_BATCH": "4"}
    status, out, err = finish(start(store, *words, **simulated))
    assert status == 0, err
    study, trials = read(store)
    assert [trial.data.tags["hpo.outcome"] for trial in trials] == ["completed"] * 2
    assert [trial.data.tags["hpo.micro_batch"] for trial in trials] == ["4"] * 2
    assert "was rescued from running out of memory: micro-batch 4 x 4 accumulation steps in place of 16 x 1" in out
    assert study.data.metrics["device_hours_failed"] > 0
    assert (study.data.metrics["units"], study.data.metrics["skipped_proposals"]) == (4, 0)
    status, _, err = finish(start(store, *words, "--experiment", "whole"))
    assert status == 0, err
    _, whole = read(store, "whole")
    losses = [[trial.data.metrics["eval_loss"] for trial in found] for found in (trials, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    best = min(losses[0])

    status, _, err = finish(start(store, "--benchmark", benchmark, "--method", "manual shift=False", verb="export"))
    assert status == 0, err
    file = tmp_path / "exported/best_config.json"
    exported = json.loads(file.read_text())
    assert exported["micro_batch"] == 4
    arguments = json.loads((tmp_path / "exported/training_arguments.json").read_text())
    assert (arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]) == (4, 4)
    for known in (True, False):
        file.write_text(json.dumps({**exported, "micro_batch": 4 if known else None}))
        words = ("--config", file, "--benchmark", benchmark, "--output", f"trained-{known}")
        status, out, err = finish(start(store, *words, verb="train", **simulated))
        assert status == 0, err
        assert out.count("the training begins again in micro-batches of") == (0 if known else 2)  # 8, then 4
        report = json.loads((tmp_path / f"trained-{known}/training.json").read_text())
        assert report["validation"]["eval_loss"] == pytest.approx(best, abs=1e-5)


def attempts_that_failed(trial: Run) -> list[str]:
    """List the reason of each attempt that failed."""
    tags = trial.data.tags
    last = [tags["hpo.reason"]] if tags["hpo.outcome"] == "failed" else []
    return [*tags.get("hpo.failures", "").splitlines(), *last]


@pytest.mark.thorough  # test_methods_contract has trials that diverge, in process
def test_a_trial_whose_loss_explodes_is_a_row_and_never_the_best(tmp_path: Path, store: str, record: Record) -> None:
    defaults = {**spec.load("nano").default.model_dump(), "max_grad_norm": 0.0}
    benchmark = write_benchmark(tmp_path, default=defaults)
    grid = write_grid(tmp_path, [1e30, 0.5, 1e-3])
    words = ("manual", "--benchmark", benchmark, "--space", grid, "--shift", "false", "--start-with-default", "false")
    status, _, err = finish(start(store, *words))
    assert status == 0, err
    study, trials = read(store)
    outcomes = [trial.data.tags["hpo.outcome"] for trial in trials]
    assert outcomes == ["diverged", "diverged", "completed"]
    not_a_number, exploded, sound = trials
    assert "nan" in not_a_number.data.tags["hpo.reason"]
    assert exploded.data.metrics["eval_loss"] > 25
    assert study.data.metrics["best_eval_loss"] == sound.data.metrics["eval_loss"]
    assert study.data.metrics["units"] == 5
    outcome = "a `diverged` row, ended at that unit, never the best"
    record("the loss is NaN", "learning rate 1e30 without clipping", outcome)
    record("the loss explodes", "learning rate 0.5 without clipping", outcome)
