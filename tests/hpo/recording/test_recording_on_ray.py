"""Recordings whose trainings run on Ray: several at once, and with several ranks each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank
from hpo.recording import log as logs
from tests.stores import fresh_store
from tests.studies import start, write_benchmark

MAX_SECONDS = 800
"""Time that a recording may take on a machine that has other work too; half a minute on a quiet one."""
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(2 * MAX_SECONDS)]
UNITS = 2


def write_short(folder: Path, ranks: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    resource = {"unit_samples": 32, "max_units": UNITS}
    return write_benchmark(folder, limit=16, finetune={"ranks_per_trial": ranks}, resource=resource)


def record(folder: Path, configs: int, *words: object, ranks: int = 1) -> tuple[str, Bank]:
    """Record a few short trainings in a process; return the lines that it prints, and the bank."""
    benchmark = write_short(folder, ranks)
    sizes = ("--configs", configs, "--seeds", 1)
    process = start(fresh_store(folder), "record", "--benchmark", benchmark, *sizes, *words, verb="bank", folder=folder)
    out, err = process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == 0, err
    return out, banks.read(folder / "banks/short.parquet")


def losses(bank: Bank) -> dict[Any, list[float]]:
    return {one.identity: [unit.metrics["eval_loss"] for unit in one.units] for one in bank.trainings}


def assert_whole(bank: Bank, configs: int) -> None:
    assert [training.outcome for training in bank.trainings] == ["completed"] * configs
    for training in bank.trainings:
        assert len(training.units) == UNITS
        assert training.test["f1"] >= 0
        assert len(training.each) > 1
        assert all(unit.train_seconds and unit.evaluate_seconds for unit in training.units)


def test_two_devices_record_what_one_records(tmp_path: Path) -> None:
    out, both = record(tmp_path / "both", 2, "--devices", 2)
    assert "2/2 trainings" in out
    assert_whole(both, 2)
    assert [session.devices for session in both.header.sessions] == [2]
    _, one = record(tmp_path / "one", 2, "--devices", 1)
    assert losses(both).keys() == losses(one).keys()
    for identity, curve in losses(one).items():
        assert losses(both)[identity] == pytest.approx(curve, rel=1e-4)


def test_a_recording_that_is_told_to_end_writes_its_bank(tmp_path: Path) -> None:
    words = ("record", "--benchmark", write_short(tmp_path), "--configs", 200, "--seeds", 1, "--devices", 2)
    process = start(fresh_store(tmp_path), *words, verb="bank", folder=tmp_path)
    log = tmp_path / "banks/short.jsonl"
    while not (log.exists() and logs.read(log).trainings):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.terminate()
    out, err = process.communicate(timeout=MAX_SECONDS)
    assert "trainings are left; the same command resumes" in out, err
    assert process.returncode == 0
    assert 0 < len(banks.read(tmp_path / "banks/short.parquet").trainings) < 200


def test_two_ranks_record_a_training_together(tmp_path: Path) -> None:
    _, bank = record(tmp_path, 1, ranks=2)
    assert_whole(bank, 1)
    assert [session.devices for session in bank.header.sessions] == [2]
    out, again = record(tmp_path, 1, ranks=2)
    assert "0 of 1 trainings are due" in out
    assert losses(again) == losses(bank)
