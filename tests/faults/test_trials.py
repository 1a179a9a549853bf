"""Faults of a trial: each of its processes dies, hangs, or runs out of memory; its loss explodes."""

from __future__ import annotations

import resource
import signal
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
@pytest.mark.timeout(600)  # ranks start eight times, one after the other
def test_each_of_a_trial_s_processes_may_fail(tmp_path: Path, store: str, record: Record) -> None:
    """Tune's order decides which trial has which fault, and whether one trial has two."""
    long = {"unit_samples": 480, "max_units": 3}
    benchmark = write_benchmark(tmp_path, finetune={"timeout_seconds": TIMEOUT_SECONDS}, resource=long)
    out_of_cuda = 3e-5
    grid = write_grid(tmp_path, [out_of_cuda, 1e-3, 3e-4, 1e-4])
    words = ("manual", "--benchmark", benchmark, "--budget", 4, "--concurrency", 1, "--space", grid)
    driver = start(store, *words, python_path=SIMULATED, FAIL_AT_LEARNING_RATE=str(out_of_cuda))
    seen: set[int] = set()
    wait_for_training(driver.pid, seen).kill()
    wait_for_training(driver.pid, seen).send_signal(signal.SIGSTOP)
    starving = wait_for_training(driver.pid, seen)
    half = starving.memory_info().rss // 2
    starving.rlimit(psutil.RLIMIT_DATA, (half, resource.RLIM_INFINITY))
    wait_for_training(driver.pid, seen)
    [actor] = processes_of(driver.pid, "ray::ResourceTrainable")
    actor.kill()
    descendants = psutil.Process(driver.pid).children(recursive=True)
    status, out, err = finish(driver)
    assert status == 0, err
    study, trials = read(store)
    assert study.info.status == "FINISHED"
    assert study.data.metrics["device_hours_failed"] > 0
    assert_nothing_is_left(tmp_path, descendants)
    for trial in trials:
        is_simulated = float(trial.data.params["learning_rate"]) == out_of_cuda
        hits = attempts_that_failed(trial)
        assert out.count(f"trial {trial.data.tags['hpo.trial']} failed and is tried again: ") == min(1, len(hits))
        assert trial.data.tags["hpo.outcome"] == ("failed" if len(hits) == 2 else "completed")
        assert all(("CUDA out of memory" in hit) == is_simulated for hit in hits)
        files = [file.path for file in MlflowClient(store).list_artifacts(trial.info.run_id)]
        assert files == ["error.txt"] * bool(hits)
    hits = sorted(hit for trial in trials for hit in attempts_that_failed(trial))
    assert [hit.partition(":")[0] for hit in hits] == [
        *["ActorDiedError"] * 2,
        *["OutOfMemoryError"] * 2,
        "RuntimeError",
        "TimeoutError",
    ]
    assert "can't allocate memory" in hits[-2]
    assert f"rank 0 did not answer for {TIMEOUT_SECONDS} s (timeout_seconds of the benchmark)" in hits[-1]
    outcome = "the trial is tried again once, and completed; one that is hit twice is a `failed` row with both reasons"
    record("a rank dies", "`kill -9`", outcome)
    record("a trial's actor dies", "`kill -9`", outcome)
    record("a rank hangs", "SIGSTOP for longer than the benchmark's `timeout_seconds`", f"it is ended; {outcome}")
    record("no memory for a rank", "RLIMIT_DATA of half of its memory", outcome)
    record("no memory on the GPU", "simulated: `torch.OutOfMemoryError` raised in the rank, twice", outcome)


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
    status, _, err = finish(start(store, "manual", "--benchmark", benchmark, "--space", grid))
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
