"""Trials that read a bank: the units, seconds and scores of the recording, on a clock that jumps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.banks.training import BankTraining
from benchmarks.check.start import check_start
from benchmarks.clock import VirtualClock
from benchmarks.files import BenchmarkError
from benchmarks.identity import digest
from benchmarks.trials.recorded import RecordedTrial, read_bank
from tests.benchmarks.banks import synthetic_bank

SYNTHETIC = spec.load("synthetic")
BANK = synthetic_bank.bank(SYNTHETIC, configs=24, seeds=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "own.parquet"
    banks.write(BANK, path)
    return path


def started(path: Path, training: BankTraining, **changes: Any) -> tuple[RecordedTrial, VirtualClock]:
    clock = VirtualClock(began_at=0.0)
    trial = RecordedTrial(synthetic_bank.recorded(path, **changes), clock)
    trial.start(training.config, training.seed)
    return trial, clock


TABLE = {"recorded": {"between": "table"}}
SOUND = next(training for training in BANK.trainings if training.outcome == "completed")
DIVERGED = next(training for training in BANK.trainings if training.outcome == "diverged")


def test_a_trial_is_the_recorded_training(path: Path) -> None:
    trial, clock = started(path, SOUND, **TABLE)
    for number, unit in enumerate(SOUND.units, start=1):
        result = trial.run_unit()
        assert result["units"] == number
        assert {name: result[name] for name in unit.metrics} == unit.metrics
        assert result["train_seconds"] == pytest.approx(unit.train_seconds)
        assert result["perplexity"] == pytest.approx(math.exp(unit.metrics["eval_loss"]))
    assert clock.now() == pytest.approx(sum(unit.train_seconds for unit in SOUND.units))
    test = trial.evaluate("test")
    assert {name: test[name] for name in SOUND.test} == SOUND.test


def test_a_slower_accelerator_takes_longer(path: Path) -> None:
    trial, clock = started(path, SOUND, recorded={"between": "table", "slower": 3.0})
    seconds = trial.run_unit()["train_seconds"]
    assert seconds == pytest.approx(3 * SOUND.units[0].train_seconds)
    assert clock.now() == pytest.approx(seconds)


def test_a_diverged_training_has_no_loss_from_where_it_had_none(path: Path) -> None:
    trial, _ = started(path, DIVERGED, **TABLE)
    losses = [trial.run_unit()["eval_loss"] for _ in range(len(DIVERGED.units) + 1)]
    assert [math.isnan(loss) for loss in losses[-2:]] == [True, True]
    assert math.isfinite(losses[0])


def test_a_training_that_ran_out_of_memory_does_so_again(tmp_path: Path) -> None:
    lost = SOUND.model_copy(update={"outcome": "out_of_memory", "units": (), "test": {}})
    banks.write(banks.Bank(BANK.header, (lost,)), tmp_path / "own.parquet")
    trial, _ = started(tmp_path / "own.parquet", lost, **TABLE)
    with pytest.raises(MemoryError, match="out of memory, as recorded"):
        trial.run_unit()


def test_a_paused_trial_goes_on(path: Path, tmp_path: Path) -> None:
    trial, _ = started(path, SOUND, **TABLE)
    trial.run_unit()
    trial.save(tmp_path)
    other, _ = started(path, SOUND, **TABLE)
    other.load(tmp_path)
    assert other.run_unit() == trial.run_unit()


def test_other_hyperparameters_on_the_way_are_refused(path: Path, tmp_path: Path) -> None:
    trial, _ = started(path, SOUND)
    trial.run_unit()
    trial.save(tmp_path)
    trial.start({**SOUND.config, "weight_decay": 0.01 - float(SOUND.config["weight_decay"])}, SOUND.seed)
    with pytest.raises(BenchmarkError, match=r"weight_decay changes within a trial, for which no curve was recorded"):
        trial.load(tmp_path)


def test_test_scores_are_those_of_a_whole_training(path: Path) -> None:
    trial, _ = started(path, SOUND)
    trial.run_unit()
    with pytest.raises(BenchmarkError, match=r"test scores are those at the end of complete trainings"):
        trial.evaluate("test")
    assert trial.evaluate("validation")["eval_loss"] > 0


# ---- the block


def test_the_model_answers_any_configuration_of_the_space(path: Path) -> None:
    benchmark = synthetic_bank.recorded(path)
    assert check_start(benchmark) == []
    trial = RecordedTrial(benchmark, VirtualClock())
    trial.start({"learning_rate": 1.234e-3}, 5)
    assert trial.run_unit()["units"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"recorded": {"digest": "0" * 16}},
            r"its benchmark has the digest \w+, but own_recorded names 0+; take the bank",
        ),
        (
            {"resource": {"unit_samples": 1, "max_units": 4}},
            r"its trainings have 9 units, but .* max_units 4; set it to 9",
        ),
        ({"recorded": {"task": "classification"}}, r"its metrics are eval_loss, exact_match, f1, but .* `task`"),
        (
            {"space": {"learning_rate": {"type": "loguniform", "low": 1e-9, "high": 1e-8}}, "grid": {}},
            r"no recorded configuration lies in its search space",
        ),
    ],
)
def test_a_bank_of_something_else_is_refused_before_the_start(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        check_start(synthetic_bank.recorded(path, **changes))


def test_a_bank_that_is_not_there_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"nowhere.parquet: cannot be read"):
        check_start(synthetic_bank.recorded(tmp_path / "nowhere.parquet"))


def test_a_digest_is_sixteen_hexadecimal_digits(path: Path) -> None:
    with pytest.raises(ValidationError, match="digest"):
        synthetic_bank.recorded(path, recorded={"digest": "later"})


def test_the_bank_s_content_decides_the_identity(path: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.parquet", tmp_path / "other.parquet"
    copy.write_bytes(path.read_bytes())
    banks.write(banks.Bank(BANK.header, BANK.trainings[:20]), other)
    digests = [digest(synthetic_bank.recorded(one)) for one in (path, copy, other)]
    assert digests[0] == digests[1] != digests[2]


def test_an_incomplete_bank_is_warned_of_once(tmp_path: Path) -> None:
    header = BANK.header.model_copy(update={"planned": (30, 2)})
    banks.write(banks.Bank(header, BANK.trainings), tmp_path / "own.parquet")
    benchmark = synthetic_bank.recorded(tmp_path / "own.parquet")
    [warning] = check_start(benchmark)
    assert "it has 48 of 60 planned trainings, of 24 configurations" in warning
    assert "see its card, own.md" in warning
    assert check_start(benchmark) == []


@pytest.mark.slow  # banks grow
@pytest.mark.parametrize("name", [name for name in spec.names() if name.endswith("_recorded")])
def test_a_shipped_recorded_benchmark_is_another_with_its_curves(name: str) -> None:
    source, replayed = spec.load(name.removesuffix("_recorded")), spec.load(name)
    same = ("metric", "mode", "resource", "default", "space", "grid", "diverged_above")
    assert {name: getattr(replayed, name) for name in same} == {name: getattr(source, name) for name in same}
    assert replayed.recorded is not None
    assert replayed.recorded.digest == digest(source)
    bank = read_bank(replayed)
    assert bank.header.name == source.name
    page = (spec.HERE.parent / "docs/benchmarks.md").read_text()
    configs, seeds = bank.header.planned
    row = f"| [`{name}`](../benchmarks/banks/{source.name}.md) | {len(bank.trainings)} of {configs * seeds:,} | "
    assert row in page
