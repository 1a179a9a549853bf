"""A recording: every outcome is a row, and it resumes from its log, its bank, or half of either."""

from __future__ import annotations

import dataclasses
import io
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.cluster.devices import Devices
from hpo.recording import log as logs
from hpo.recording.configurations import configurations
from hpo.recording.files import Files, only_recorder
from hpo.recording.processes import places_of
from hpo.recording.recorder import Recording, Tally
from tests.studies import REPOSITORY, write_slow_synthetic

TWO_CORES = Devices(2, None, 2)


def synthetic(**settings: Any) -> Benchmark:
    whole = spec.load("synthetic")
    assert whole.synthetic is not None
    block = whole.synthetic.model_copy(update={"seconds_per_unit": 0.0, **settings})
    return whole.model_copy(update={"synthetic": block})


def record(
    folder: Path, configs: int = 14, seeds: int = 2, benchmark: Benchmark | None = None, devices: int = 1
) -> tuple[Tally, Bank]:
    benchmark = benchmark or synthetic()
    files = Files(folder, benchmark.name)
    folder.mkdir(exist_ok=True)
    recording = Recording(benchmark, files, configurations(benchmark, configs, 0), seeds, Console(file=io.StringIO()))
    tally = recording.run(places_of(benchmark, TWO_CORES, devices), hours=None)
    return tally, banks.read(files.bank)


def contents(bank: Bank) -> dict[Any, Any]:
    """Return all figures of each training that do not depend on the clock."""
    found = {}
    for training in bank.trainings:
        units = [(unit.unit, str(unit.metrics), unit.train_loss) for unit in training.units]
        found[training.identity] = (training.outcome, training.source, units, training.test, training.micro_batch)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_every_training_of_the_list_is_recorded_in_full(tmp_path: Path, devices: int) -> None:
    tally, bank = record(tmp_path, devices=devices)
    assert tally.ended.total() == tally.due == 28
    assert [len(of_one) for of_one in bank.configurations()] == [2] * 14
    for training in bank.trainings:
        process = SyntheticTrial(synthetic())
        process.start(training.config, training.seed)
        curve = [process.run_unit()["eval_loss"] for _ in training.units]
        assert str([unit.metrics["eval_loss"] for unit in training.units]) == str(curve)
        if training.outcome == "completed":
            assert len(training.units) == 9
            assert training.test["eval_loss"] == process.evaluate("test")["eval_loss"]
    assert (tmp_path / "synthetic.md").read_text().startswith("# synthetic: recorded trainings")


def test_a_diverged_training_is_a_row_with_its_reason(tmp_path: Path) -> None:
    _, bank = record(tmp_path, configs=18, seeds=1, benchmark=synthetic(diverge_above=0.001))
    lost = [training for training in bank.trainings if training.outcome == "diverged"]
    assert lost
    assert all(training.config["learning_rate"] > 0.001 and len(training.units) == 2 for training in lost)
    assert all("diverged at unit 2" in training.reason and not training.test for training in lost)


@pytest.mark.slow
def test_a_training_without_memory_is_rescued_as_in_a_study(tmp_path: Path) -> None:
    _, bank = record(tmp_path, benchmark=synthetic(memory_limit=4.0))
    sizes = {(t.config["batch_size_per_device"], t.micro_batch, t.outcome) for t in bank.trainings}
    assert {(8, 4, "completed"), (4, None, "completed")} <= sizes
    assert all(training.failed_seconds > 0 for training in bank.trainings if training.micro_batch)


def test_a_training_without_memory_is_a_row_where_nothing_rescues_it(tmp_path: Path) -> None:
    benchmark = synthetic(memory_limit=4.0).model_copy(update={"rescue": False})
    _, bank = record(tmp_path, benchmark=benchmark)
    lost = [training for training in bank.trainings if training.outcome == "out_of_memory"]
    assert {training.config["batch_size_per_device"] for training in lost} == {8, 16}
    assert all(training.reason.startswith("out of memory") and not training.units for training in lost)


@pytest.mark.slow
def test_what_is_recorded_is_not_trained_again(tmp_path: Path) -> None:
    _, before = record(tmp_path)
    tally, after = record(tmp_path, configs=16, seeds=2)
    assert tally.ended.total() == tally.due == 4
    assert contents(before).items() <= contents(after).items()


@pytest.mark.slow
def test_it_resumes_from_the_bank_alone(tmp_path: Path) -> None:
    _, before = record(tmp_path, seeds=1)
    (tmp_path / "synthetic.jsonl").unlink()
    tally, after = record(tmp_path)
    assert tally.due == 14
    assert contents(after) == contents(record(tmp_path / "whole")[1])
    assert len(after.header.sessions) == 2
    assert before.header.sessions[0] in after.header.sessions


def test_it_resumes_from_a_log_that_is_cut_off_anywhere(tmp_path: Path) -> None:
    _, whole = record(tmp_path, configs=8, seeds=1)
    log = tmp_path / "synthetic.jsonl"
    text = log.read_bytes()
    for length in range(0, len(text), len(text) // 7):
        (tmp_path / "synthetic.parquet").unlink()
        log.write_bytes(text[:length])
        tally, bank = record(tmp_path, configs=8, seeds=1)
        assert tally.due == 8 - max(0, text[:length].count(b"\n") - 1)
        assert contents(bank) == contents(whole)


def test_a_failed_training_is_tried_again_and_then_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def run_unit(self: SyntheticTrial) -> dict[str, float]:
        if self._config.learning_rate == 1e-3:
            asked.append(self._config.learning_rate)
            raise OSError("the disk is gone")
        return whole(self)

    whole = SyntheticTrial.run_unit
    with monkeypatch.context() as patched:
        patched.setattr(SyntheticTrial, "run_unit", run_unit)
        _, bank = record(tmp_path, configs=6, seeds=1)
    lost = [training for training in bank.trainings if training.outcome == "failed"]
    assert {training.reason for training in lost} == {"OSError: the disk is gone"}
    assert len(asked) == 2 * len(lost)
    tally, after = record(tmp_path, configs=6, seeds=1)
    assert tally.due == len(lost)
    assert {training.outcome for training in after.trainings} == {"completed"}


def test_it_ends_where_every_training_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyntheticTrial, "run_unit", lambda self: 1 / 0)
    with pytest.raises(BenchmarkError, match="3 trainings failed one after the other: ZeroDivisionError"):
        record(tmp_path)
    assert len(logs.read(tmp_path / "synthetic.jsonl").trainings) == 3


@pytest.mark.slow
def test_another_version_of_the_benchmark_is_refused_and_nothing_written(tmp_path: Path) -> None:
    record(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for lost in ("synthetic.jsonl", "synthetic.parquet"):
        (tmp_path / lost).unlink()
        with pytest.raises(BenchmarkError, match=r"was recorded on another version of synthetic \(digest"):
            record(tmp_path, benchmark=synthetic(noise=0.5))
        (tmp_path / lost).write_bytes(files[tmp_path / lost])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "synthetic.jsonl").write_text('{"kind": "training", "colour": "red"}\n')
    with pytest.raises(BenchmarkError, match=r"synthetic\.jsonl, line 1: no line of a recording"):
        record(tmp_path)


def test_two_processes_never_record_into_the_same_files(tmp_path: Path) -> None:
    files = Files(tmp_path, "synthetic")
    with (
        only_recorder(files),
        pytest.raises(BenchmarkError, match="another process records into it"),
        only_recorder(dataclasses.replace(files)),
    ):
        pass


def test_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="devices is 3, but must be from 1 to 2"):
        places_of(synthetic(), TWO_CORES, 3)


def test_one_device_gets_no_more_cores_than_one_of_many() -> None:
    assert places_of(synthetic(), TWO_CORES, 1).allotment.cpus_per_rank == 1


@pytest.mark.slow
def test_a_recording_that_is_killed_loses_no_training_that_had_ended(tmp_path: Path) -> None:
    path = write_slow_synthetic(tmp_path, seconds_per_unit=0.01)
    words = ["bank", "record", "--benchmark", str(path), "--configs", "14", "--seeds", "1", "--devices", "1"]
    command = [sys.executable, "-m", "hpo", *words, "--output", str(tmp_path)]
    log = tmp_path / "short.jsonl"
    for seen in (4, 8):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        while len(logs.read(log).trainings) < seen:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "short.parquet").exists()
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    assert len(banks.read(tmp_path / "short.parquet").trainings) == len(logs.read(log).trainings) == 14
