"""Seconds of another accelerator: as recorded there, by a model for other configurations, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.banks.training import BankSession, BankTraining
from benchmarks.clock import VirtualClock
from benchmarks.files import BenchmarkError
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import RecordedTrial, extent_warnings
from tests.benchmarks.banks import synthetic_bank

CONFIGS, BOTH, FASTER = 24, 16, 4.0
"""Configurations of the bank, those of them that the second accelerator trained too, and its speed."""
GPU = BankSession(key="2026-01-02T00:00:00Z 1", accelerator="A GPU")
BANK = synthetic_bank.bank(spec.load("synthetic"), configs=CONFIGS, seeds=1)


def faster(training: BankTraining, seed: int) -> BankTraining:
    """Record a training on the GPU: each unit in a quarter of the time."""
    units = tuple(
        unit.model_copy(update={"train_seconds": (unit.train_seconds or 0.0) / FASTER}) for unit in training.units
    )
    return training.model_copy(update={"session": GPU.key, "seed": seed, "units": units, "startup_seconds": 0.5})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Banks of the CPU alone, of the GPU alone, and of both."""
    folder = tmp_path_factory.mktemp("banks")
    on_gpu = [faster(training, seed=1) for training in BANK.trainings[:BOTH]]
    both = BANK.header.model_copy(update={"sessions": (synthetic_bank.SESSION, GPU)})
    mixed = [[one, *(other for other in on_gpu if other.config == one.config)] for one in BANK.trainings]
    banks.write(BANK, folder / "cpu.parquet")
    banks.write(banks.Bank(BANK.header.model_copy(update={"sessions": (GPU,)}), tuple(on_gpu)), folder / "gpu.parquet")
    banks.write(banks.Bank(both, tuple(one for of_one in mixed for one in of_one)), folder / "both.parquet")
    return folder


def replayed(bank: Path, **recorded: Any) -> Benchmark:
    return synthetic_bank.recorded(bank, recorded=recorded)


def first_unit(benchmark: Benchmark, training: BankTraining) -> tuple[dict[str, float], float]:
    """Train the first unit; return its result, and the time on the clock."""
    clock = VirtualClock(began_at=0.0)
    trial = RecordedTrial(benchmark, clock)
    trial.start(training.config, training.seed)
    return trial.run_unit(), clock.now()


KNOWN = next(one for one in BANK.trainings[:BOTH] if one.outcome == "completed")
UNKNOWN = next(one for one in BANK.trainings[BOTH:] if one.outcome == "completed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bank", "recorded"),
    [("both", {"accelerator": "A GPU"}), ("cpu", {"seconds_of": "gpu"}), ("cpu", {"seconds_of": "gpu", "slower": 2.0})],
)
@pytest.mark.parametrize("between", ["table", "surrogate"])
def test_a_configuration_that_was_trained_there_takes_its_own_seconds(
    folder: Path, bank: str, recorded: dict[str, Any], between: str
) -> None:
    if "seconds_of" in recorded:
        recorded = {**recorded, "seconds_of": str(folder / f"{recorded['seconds_of']}.parquet")}
    benchmark = replayed(folder / f"{bank}.parquet", between=between, **recorded)
    own, _ = first_unit(replayed(folder / f"{bank}.parquet", between=between), KNOWN)
    found, now = first_unit(benchmark, KNOWN)
    slower = recorded.get("slower", 1.0)
    recorded_seconds = KNOWN.units[0].train_seconds
    assert recorded_seconds is not None
    assert found["train_seconds"] == pytest.approx(slower * recorded_seconds / FASTER)
    assert now == pytest.approx(slower * (0.5 + recorded_seconds / FASTER))
    assert found["eval_loss"] == own["eval_loss"]


@pytest.mark.slow
def test_any_other_takes_those_of_a_model(folder: Path) -> None:
    """All trainings of the synthetic benchmark take alike, so that the model's answer is plain."""
    found, _ = first_unit(replayed(folder / "cpu.parquet", seconds_of=str(folder / "gpu.parquet")), UNKNOWN)
    recorded_seconds = UNKNOWN.units[0].train_seconds
    assert recorded_seconds is not None
    assert found["train_seconds"] == pytest.approx(recorded_seconds / FASTER, rel=0.05)


@pytest.mark.parametrize(
    ("bank", "recorded", "message"),
    [
        (
            "both",
            {"accelerator": "TPU"},
            r"accelerator is 'TPU', but .*both\.parquet has trainings on 'A GPU' and 'cpu'",
        ),
        ("cpu", {"accelerator": "A GPU"}, r"accelerator is 'A GPU', but .*cpu\.parquet has trainings on 'cpu'; name"),
        ("cpu", {"seconds_of": "both"}, r"no accelerator is named, and .*both\.parquet has trainings on 'A GPU' and"),
        ("cpu", {"seconds_of": "other"}, r"other\.parquet: seconds are taken from trainings of the same benchmark"),
        ("cpu", {"seconds_of": "few"}, r"synthetic on A GPU: 3 configurations were trained there, but .* needs 10"),
    ],
)
def test_what_a_bank_cannot_tell_is_refused(
    folder: Path, tmp_path: Path, bank: str, recorded: dict[str, Any], message: str
) -> None:
    gpu = banks.read(folder / "gpu.parquet")
    other = gpu.header.model_copy(update={"digest": "0" * 16})
    banks.write(banks.Bank(other, gpu.trainings), tmp_path / "other.parquet")
    banks.write(banks.Bank(gpu.header, gpu.trainings[:3]), tmp_path / "few.parquet")
    if name := recorded.get("seconds_of"):
        recorded = {"seconds_of": str((folder if name == "both" else tmp_path) / f"{name}.parquet")}
    with pytest.raises(BenchmarkError, match=message):
        first_unit(replayed(folder / f"{bank}.parquet", **recorded), KNOWN)


def test_other_seconds_are_another_version_of_the_benchmark(folder: Path) -> None:
    plain = replayed(folder / "both.parquet")
    others = [
        replayed(folder / "both.parquet", accelerator="A GPU"),
        replayed(folder / "both.parquet", seconds_of=str(folder / "gpu.parquet")),
    ]
    assert len({digest(one) for one in (plain, *others)}) == 3
    assert [len(extent_warnings(one)) for one in (plain, *others)] == [1, 0, 0]
    assert "has seconds of A GPU and cpu" in extent_warnings(plain)[0]
