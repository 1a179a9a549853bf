"""The DeepSpeed study in a SLURM job of two nodes, submitted by the script of its page."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest

from tests.slurm.testbed.drills import REPOSITORY, SECONDS, wait_for_end
from tests.stores import fresh_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]
SHORT = "--configurations zero2 --examples 32 --eval-examples 8 --epochs 1"


@pytest.mark.thorough
def test_ranks_on_two_nodes_train_as_one_does(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(work.parent))  # MLflow makes none in a folder with a quote
    page = (REPOSITORY / "docs/deepspeed.md").read_text()
    [script] = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, flags=re.DOTALL)
    (work / "deepspeed.sh").write_text(script)
    here = ["--gpus-per-node=0", "--cpus-per-task=1", "--time=10", "--export=ALL"]
    words = ["sbatch", "--parsable", *here, "deepspeed.sh", "--nodes", "1,2", *SHORT.split()]
    job = subprocess.run(words, cwd=work, capture_output=True, text=True, check=True).stdout.strip()
    wait_for_end(job)
    log = (work / f"deepspeed-{job}.out").read_text()
    assert "2/2 zero2 (2 x 1, strong): train loss " in log, log
    one, two = csv.DictReader((work / "deepspeed/deepspeed.csv").open())
    assert (one["nodes"], two["nodes"], one["outcome"], two["outcome"]) == ("1", "2", "completed", "completed")
    for loss in ("train_loss", "eval_loss"):
        assert float(two[loss]) == pytest.approx(float(one[loss]), abs=1e-3)
    assert two["base_ranks"] == "1.0"
    faster = float(two["train_samples_per_second"]) / float(one["train_samples_per_second"])
    assert float(two["speed_up"]) == pytest.approx(faster)
    assert float(two["efficiency"]) == pytest.approx(faster / 2)
    ranks = (work / "deepspeed/rows/zero2-2x1-strong").glob("rank-*.json")
    assert sorted(path.name for path in ranks) == ["rank-0.json", "rank-1.json"]
