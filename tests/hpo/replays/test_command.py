"""The command: studies over processes, an interruption that loses nothing, one run in the store, and its comparison."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.banks import bank as banks
from benchmarks.banks.training import BankSession
from hpo.analysis.replayed import table
from hpo.app import cli
from hpo.store.queries import stored_runs
from tests.hpo.replays import recorded
from tests.stores import working_in
from tests.studies import REPOSITORY

pytestmark = pytest.mark.slow


def words(file: Path, seeds: str) -> list[str]:
    options = ["--methods", "random,asha", "--seeds", seeds, "--budgets", "2,4", "--repeats", "1", "--processes", "2"]
    return ["replay", "--benchmark", str(file), *options]


def test_an_interrupted_replay_keeps_what_has_ended_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, log = recorded.write(tmp_path), tmp_path / "replays" / "own_recorded.jsonl"
    with working_in(tmp_path):
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo", *words(file, "0..999")],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 8):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1, errors
        assert "since the replay was interrupted; the same command resumes" in errors
        kept = table.read(log.with_suffix(".parquet"))
        assert 7 <= len(kept.studies) == log.read_text().count("\n") - 1 < 6000

        assert cli.main(words(file, "0")) == 0
        told = capsys.readouterr().out
        assert "4 of 4 studies are replayed already" in told
        log.unlink()
        assert cli.main(words(file, "0")) == 0  # from the table, as the log is lost
        assert "4 of 4 studies are replayed already" in capsys.readouterr().out
        statuses = {run.info.status for run in stored_runs("own_recorded", "tags.hpo.kind = 'replay'")}
        assert statuses == {"KILLED", "FINISHED"}

        assert cli.main(["compare", "--benchmark", str(file), "--budget", "4"]) == 0
        told = capsys.readouterr().out
        assert "REPLAYED" in told
        assert "export the winner" not in told
        assert "importance of hyperparameters" not in told
        frame = pd.read_parquet(log.with_suffix(".parquet"))
        assert set(frame["method"]) == {"random", "asha"}


def test_device_hours_are_those_of_the_accelerator_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, own = recorded.write(tmp_path), tmp_path / "own.parquet"
    faster = banks.read(own)
    gpu = BankSession(key=faster.header.sessions[0].key, accelerator="A GPU")
    trainings = [
        one.model_copy(
            update={"units": tuple(unit.model_copy(update={"train_seconds": 2.5}) for unit in one.units)},
        )
        for one in faster.trainings
    ]
    header = faster.header.model_copy(update={"sessions": (gpu,)})
    banks.write(banks.Bank(header, tuple(trainings)), tmp_path / "gpu.parquet")
    asked = ["replay", "--benchmark", str(file), "--methods", "random", "--seeds", "0..1", "--budgets", "2"]
    asked += ["--repeats", "1", "--processes", "1"]
    with working_in(tmp_path):
        assert cli.main([*asked, "--output", "cpu"]) == 0
        assert cli.main([*asked, "--output", "gpu", "--seconds-of", "gpu.parquet"]) == 0
        assert cli.main([*asked, "--output", "cpu", "--seconds-of", "gpu.parquet"]) == 2
        assert "give another folder with --output" in capsys.readouterr().err
        assert cli.main([*asked, "--output", "none", "--accelerator", "TPU"]) == 2
        assert "accelerator is 'TPU', but" in capsys.readouterr().err
        on_cpu, on_gpu = (table.read(tmp_path / name / "own_recorded.parquet") for name in ("cpu", "gpu"))
    assert on_gpu.header.source.endswith("with the seconds of A GPU in the bank synthetic")
    for slow, fast in zip(on_cpu.studies, on_gpu.studies, strict=True):
        assert fast.units == slow.units
        assert fast.best == slow.best
        assert fast.device_seconds == pytest.approx(slow.device_seconds / 4, rel=0.02)
