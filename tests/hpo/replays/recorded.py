"""A recorded benchmark for replays: the synthetic one, with curves of a small bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.spec import Benchmark
from hpo.planning.replay_request import ReplayRequest, request
from tests.benchmarks.banks import synthetic_bank

SECONDS_PER_UNIT = 10.0


def source() -> Benchmark:
    """Return the synthetic benchmark, whose units take ten seconds."""
    whole = spec.load("synthetic")
    assert whole.synthetic is not None
    block = whole.synthetic.model_copy(update={"seconds_per_unit": SECONDS_PER_UNIT})
    return whole.model_copy(update={"synthetic": block})


def write(folder: Path, configs: int = 24, seeds: int = 2, **changes: Any) -> Path:
    """Write bank and benchmark into a folder; return the benchmark's file."""
    path = folder / "own.parquet"
    bank = synthetic_bank.bank(source(), configs, seeds)
    banks.write(bank, path)
    recorded = {"digest": bank.header.digest, **changes.pop("recorded", {})}
    content = synthetic_bank.content(path, recorded=recorded, **changes)
    file = folder / "own_recorded.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def asked(benchmark: Benchmark, **changes: Any) -> ReplayRequest:
    """Ask for a small replay."""
    options: dict[str, Any] = {"methods": "random", "seeds": "0", "budgets": "2", "devices": 2, "repeats": 2}
    return request(benchmark, **{**options, **changes})
