"""Whole studies as users start them, with real training; what may go wrong with one is in tests/faults."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from transformers import AutoTokenizer

from benchmarks import spec
from tests.stores import fresh_store
from tests.studies import finish, read, start, write_benchmark

REPOSITORY = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


def write_data(folder: Path) -> dict[str, Any]:
    """Write a JSON-lines file per split: of ten contexts, as many as the split's number are too long."""
    splits = {}
    for too_long, name in enumerate(("validation", "train", "test")):
        contexts = ["Mara Velt drew it." + " old" * (200 if i < too_long else i) for i in range(10)]
        rows = [{"question": "Who drew it?", "context": context, "answers": ["Mara Velt"]} for context in contexts]
        splits[name] = {"file": str(folder / f"{name}.jsonl")}
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return splits


def test_what_the_data_are_like_is_printed_once_and_stored(tmp_path: Path, store: str) -> None:
    resource = {"unit_samples": 16, "max_units": 1}
    path = write_benchmark(tmp_path, finetune={"data": write_data(tmp_path), "precision": "auto"}, resource=resource)
    status, out, err = finish(start(store, "random", "--budget", 2, "--benchmark", path))
    assert status == 0, err
    assert out.count("tokens of prompt and answer, at most 160") == 1
    assert out.index("contexts") < out.index("random on short")
    study, _ = read(store)
    shares = {name: study.data.metrics[f"{name}_truncated_share"] for name in ("train", "validation", "test")}
    assert shares == {"train": 0.1, "validation": 0.0, "test": 0.2}
    assert study.data.tags["hpo.precision"] == "fp32"  # auto, without a GPU
    lines = MlflowClient(store).download_artifacts(study.info.run_id, "tokens.csv", str(tmp_path))
    rows = {row["split"]: row for row in csv.DictReader(Path(lines).read_text().splitlines())}
    tokenizer = AutoTokenizer.from_pretrained(spec.load(str(path)).finetune.model)
    short = len(tokenizer("Question: Who drew it? Context: Mara Velt drew it. Answer: Mara Velt")["input_ids"]) + 1
    expected = sum(short + i for i in range(10)) / 10
    assert float(rows["validation"]["mean"]) == study.data.metrics["validation_mean_tokens"] == expected
    assert {name: int(row["longest"]) <= 160 for name, row in rows.items()} == dict.fromkeys(rows, True)
    assert {(row["questions"], row["max_length"], row["cut_answers_share"]) for row in rows.values()} == {
        ("10", "160", "0.0")
    }


@pytest.mark.thorough  # test_experiments chooses it, in process
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
