"""A checkpoint is read as weights, and only where its own study wrote it: what it might run does not run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core import ownership as origin
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[2]


class Hostile:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mknod, (str(self._path),)


def test_the_pickle_of_these_tests_does_run_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)  # of a rank that was here before
    torch.save(Hostile(tmp_path / "ran"), tmp_path / "checkpoint")
    torch.load(tmp_path / "checkpoint", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_weights_are_read_and_a_pickle_that_runs_code_is_refused(
    stage: int, small_nano: Callable[..., Benchmark], process_group: None, tmp_path: Path
) -> None:
    """Each of the files that DeepSpeed writes, at each stage."""
    from benchmarks.training.session import Session

    session = Session(small_nano(stage=stage))
    session.start({}, 0)
    session.run_unit()
    session.save(tmp_path / "checkpoint")
    session.start({}, 0)
    session.load(tmp_path / "checkpoint")
    files = sorted((tmp_path / "checkpoint").rglob("*.pt"))
    assert len(files) == (2 if stage else 1)
    for file in files:
        sound = file.read_bytes()
        torch.save({"module": Hostile(tmp_path / "ran"), "dp_world_size": 1}, file)
        session.start({}, 0)
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            session.load(tmp_path / "checkpoint")
        file.write_bytes(sound)
    assert not (tmp_path / "ran").exists()
    session.close()


@pytest.mark.slow
def test_the_state_of_fp16_is_read_too(process_group: None, tmp_path: Path) -> None:
    """Its scaler is written by GPUs alone."""
    from deepspeed.runtime.fp16.loss_scaler import CreateLossScaler

    arguments = {"init_scale": 2**16, "scale_window": 10, "min_scale": 1, "delayed_shift": 2}
    arguments["consecutive_hysteresis"] = False
    made = CreateLossScaler(torch.float16, 0, True, arguments)
    torch.save({"loss_scaler": made, "dynamic_loss_scale": True}, tmp_path / "scaler.pt")
    read = torch.load(tmp_path / "scaler.pt", weights_only=True)["loss_scaler"]
    assert type(read) is type(made)
    assert vars(read) == vars(made)


class TestOrigin:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        home = tmp_path / "unfinished" / ("a" * 32)
        (home / "checkpoint").mkdir(parents=True)
        home.chmod(0o700)
        (home / "checkpoint/weights").write_text("")
        origin.mark(home / "checkpoint", home)
        return home

    def test_the_study_s_own_is_read(self, home: Path) -> None:
        origin.require_mark(home / "checkpoint", home)

    def test_one_that_others_may_have_written_is_refused(self, home: Path) -> None:
        home.chmod(0o770)
        with pytest.raises(BenchmarkError, match="others may write it"):
            origin.require_mark(home / "checkpoint", home)

    def test_one_of_another_study_is_refused(self, home: Path) -> None:
        (home / "checkpoint" / origin.MARK).write_text("b" * 32)
        with pytest.raises(BenchmarkError, match=r"not this study's own: it was written by study b{32}"):
            origin.require_mark(home / "checkpoint", home)

    def test_one_without_a_mark_is_refused(self, home: Path) -> None:
        (home / "checkpoint" / origin.MARK).unlink()
        with pytest.raises(BenchmarkError, match="it was written by no study"):
            origin.require_mark(home / "checkpoint", home)

    def test_one_from_elsewhere_is_refused(self, home: Path, tmp_path: Path) -> None:
        (home / "checkpoint").rename(tmp_path / "checkpoint")
        with pytest.raises(BenchmarkError, match="it does not lie in"):
            origin.require_mark(tmp_path / "checkpoint", home)

    def test_a_link_is_refused(self, home: Path, tmp_path: Path) -> None:
        (home / "checkpoint/weights").unlink()
        (home / "checkpoint/weights").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BenchmarkError, match="weights is a link, or another user's"):
            origin.require_mark(home / "checkpoint", home)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
    def test_somebody_else_s_file_is_refused(self, home: Path) -> None:
        os.chown(home / "checkpoint/weights", 12345, 12345)
        with pytest.raises(BenchmarkError, match="weights is a link, or another user's"):
            origin.require_mark(home / "checkpoint", home)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_pickle_beside_a_checkpoint_fails_the_trial_and_runs_nothing(tmp_path: Path) -> None:
    """Tune would unpickle a file of this name itself, before the trial is asked; paused trials come back to it."""
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content |= {"name": "slow", "synthetic": {"seconds_per_unit": 0.1}}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(content))
    store = fresh_store(tmp_path)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "hpo", "run", "hyperband", "--benchmark", "slow.yaml", "--budget", "3"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        planted: set[Path] = set()
        while driver.poll() is None:
            with suppress(FileNotFoundError):  # the study deletes what it needs no more
                for mark in tmp_path.glob(f"unfinished/*/tune/study/*/checkpoint_*/{origin.MARK}"):
                    if mark.parent not in planted:
                        (mark.parent / origin.PICKLED_BY_TUNE).write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
                        planted.add(mark.parent)
            time.sleep(0.01)
    assert planted
    assert not (tmp_path / "ran").exists()
    client = MlflowClient(store)
    found = client.get_experiment_by_name("slow")
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.`hpo.outcome` = 'failed'")
    reasons = {run.data.tags["hpo.reason"] for run in runs}
    assert reasons
    assert all("not this study's own: it holds dict_checkpoint.pkl" in reason for reason in reasons), reasons
