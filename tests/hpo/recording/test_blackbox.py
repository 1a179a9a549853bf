"""A bank as Syne Tune's blackbox: its files as Syne Tune lays them out, and read back by Syne Tune itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from hpo.app.cli import main
from hpo.recording import blackbox
from tests.benchmarks.banks import made

PACKAGES = ("syne-tune==0.16.0", "fastparquet", "cramjam", "fsspec", "dill", "sortedcontainers")
READ = """
import json, sys
from syne_tune.blackbox_repository.blackbox_tabular import deserialize
[(task, found)] = deserialize(sys.argv[1]).items()
curve = found.objective_function(found.hyperparameters.iloc[1].to_dict(), seed=1)
print(json.dumps([task, found.objectives_names, found.num_seeds, curve.tolist()]))
"""


def export(folder: Path, seeds: int = 1) -> tuple[int, int]:
    return blackbox.export(made.bank(), seeds, folder / "blackbox")


def with_space() -> banks.Bank:
    """Return the bank with a search space of two hyperparameters: Syne Tune looks none up by one alone."""
    space = {
        "learning_rate": {"type": "loguniform", "low": 1e-4, "high": 4.0},
        "batch_size_per_device": {"type": "choice", "values": [8, 16]},
    }
    bank = made.bank()
    return banks.Bank(bank.header.model_copy(update={"space": space}), bank.trainings)


def test_every_sound_configuration_is_in_it(tmp_path: Path) -> None:
    assert export(tmp_path) == (4, 1)
    evaluations = np.load(tmp_path / "blackbox/objectives_evaluations.npy")
    assert (evaluations.shape, evaluations.dtype) == ((1, 4, 1, 3, 3), np.float32)
    curve = [[4.125, 0.5, 0.75], [2.125, 0.5, 1.5], [4 / 3 + 0.125, 0.5, 2.25]]
    assert evaluations[0, 0, 0] == pytest.approx(np.array(curve))
    table = pd.read_parquet(tmp_path / "blackbox/hyperparameters.parquet")
    assert table.to_dict("list") == {"learning_rate": [0.125, 0.25, 0.5, 1.0]}


def test_a_diverged_training_is_the_worst_of_the_bank_from_its_end_on(tmp_path: Path) -> None:
    export(tmp_path)
    lost = np.load(tmp_path / "blackbox/objectives_evaluations.npy")[0, 3, 0]
    assert lost[:, 0].tolist() == [5.0, 5.0, 5.0]
    assert lost[:, 2].tolist() == [0.75, 1.5, 1.5]


def test_configurations_with_fewer_seeds_are_left_out(tmp_path: Path) -> None:
    assert export(tmp_path, seeds=2) == (3, 2)
    with pytest.raises(BenchmarkError, match="no configuration of made has 3 seeds"):
        blackbox.export(made.bank(), 3, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    export(tmp_path)
    with pytest.raises(BenchmarkError, match="is there already"):
        export(tmp_path)


def test_the_space_is_written_as_syne_tune_writes_it(tmp_path: Path) -> None:
    blackbox.export(with_space(), 1, tmp_path / "box")
    found = json.loads((tmp_path / "box/configspace.json").read_text())
    assert found["learning_rate"] == {
        "domain_cls": "Float",
        "domain_kwargs": {"lower": 1e-4, "upper": 4.0},
        "sampler_cls": "LogUniform",
        "sampler_kwargs": {"base": 2.718281828459045},
    }
    assert found["batch_size_per_device"]["domain_kwargs"] == {"categories": [8, 16]}


def test_the_command_takes_the_path_of_a_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    banks.write(made.bank(), tmp_path / "made.parquet")
    words = ["bank", "export", "--output", str(tmp_path / "box"), "--bank"]
    assert main([*words, str(tmp_path / "made.parquet")]) == 0
    assert "4 configurations with 1 seeds written" in capsys.readouterr().out
    assert main([*words, "none"]) == 2
    assert "no bank named 'none'" in capsys.readouterr().err


@pytest.mark.thorough  # it downloads Syne Tune; test_every_sound_configuration_is_in_it holds the layout
def test_syne_tune_reads_it(tmp_path: Path) -> None:
    target = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Syne Tune cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    blackbox.export(with_space(), 2, tmp_path / "blackbox")
    environment = {**os.environ, "PYTHONPATH": str(target)}
    read = [sys.executable, "-c", READ, str(tmp_path / "blackbox")]
    found = subprocess.run(read, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr[-2000:]
    task, names, seeds, curve = json.loads(found.stdout.strip().splitlines()[-1])
    assert (task, names, seeds) == ("made", ["eval_loss", "f1", "elapsed_time"], 2)
    assert [row[0] for row in curve] == pytest.approx([4.0 / unit + 0.25 + 1 / 128 for unit in (1, 2, 3)])
