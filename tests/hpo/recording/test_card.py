"""The card of a bank says how far it is recorded, and what its benchmark is like."""

from __future__ import annotations

import re

import pytest
from scipy.stats import spearmanr

from benchmarks import spec
from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankSession, BankTraining, BankUnit, Source
from hpo.recording.card import card

NANO = spec.load("nano")
HEADER = Header(
    name="nano",
    digest="0123456789abcdef",
    max_units=9,
    hyperparameters=("learning_rate", "batch_size_per_device", "weight_decay", "warmup_ratio", "lr_scheduler"),
    metric="eval_loss",
    metrics=("eval_loss", "exact_match", "f1"),
    modes=("min", "max", "max"),
    sessions=(BankSession(key="one", accelerator="cpu"),),
    planned=(14, 3),
    space={name: NANO.space[name].model_dump(mode="json") for name in ("learning_rate", "batch_size_per_device")},
)


def made(number: int, seed: int, source: Source = "random", diverges: bool = False) -> BankTraining:
    """Make a training whose rank at unit 1 is another than at its end."""
    final, early = number / 16 + seed / 64, (number * 5) % 13
    config = {name: NANO.default.model_dump()[name] for name in HEADER.hyperparameters}
    scores = [{"eval_loss": early if unit == 1 else final, "exact_match": 0.5, "f1": 0.5} for unit in range(1, 10)]
    units = [BankUnit(unit=i, metrics=row, train_seconds=1.0, evaluate_seconds=0.5) for i, row in enumerate(scores, 1)]
    return BankTraining(
        source=source,
        config={**config, "learning_rate": 1e-4 * (1 + number)},
        seed=seed,
        session="one",
        outcome="diverged" if diverges else "completed",
        units=tuple(units[:2] if diverges else units),
        test={} if diverges else {"eval_loss": 1.0, "f1": 0.25 + seed / 4},
    )


def text(*more: BankTraining) -> str:
    of_two = [made(number, seed) for number in range(6) for seed in (0, 1)]
    of_one = [made(number, 0) for number in range(6, 12)]
    default = [made(13, seed, "default") for seed in (0, 1)]
    return card(Bank(HEADER, (*default, *of_two, *of_one, *more)))


def test_it_says_how_far_the_bank_is_recorded() -> None:
    found = text()
    assert "**Incomplete:** 22 of 42 planned trainings are missing." in found
    assert "1 x default, 12 x random. By number of seeds: 6 x 1, 7 x 2." in found


def test_early_looks_are_those_of_scipy() -> None:
    rho = spearmanr([(number * 5) % 13 for number in range(12)], range(12)).statistic
    assert re.search(rf"\| 1 \| {rho:.2f} \[", text())
    assert "| 2 | 1.00 [1.00, 1.00] | 100% |" in text()


def test_a_diverged_training_counts_as_the_worst_from_its_end_on() -> None:
    assert "12 random configurations" in text()
    found = text(made(12, 0, diverges=True))
    assert "13 random configurations" in found
    assert "1 x diverged, 20 x completed" in found or "20 x completed, 1 x diverged" in found
    assert "| 2 | 1.00 [1.00, 1.00] | 100% |" in found


def test_seeds_are_shown_at_the_best_and_at_the_default() -> None:
    found = text()
    deviation = (1 / 64) / 2**0.5
    assert f"| best | 2 | {1 / 128:.4f}, {deviation:.4f} | 0.5000, 0.0000 | 0.3750, 0.1768 |" in found
    assert f"| default | 2 | {13 / 16 + 1 / 128:.4f}, {deviation:.4f} |" in found


def test_seconds_are_those_of_a_unit() -> None:
    assert "| 16 | 20 | 1.500 (1.500 to 1.500) | - | - |" in text()


@pytest.mark.parametrize("number", [1, 2])
def test_a_bank_of_few_trainings_has_a_short_card(number: int) -> None:
    found = card(Bank(HEADER, tuple(made(i, 0) for i in range(number))))
    assert "Early looks" not in found
    assert "## Origin" in found


def test_importance_is_shown_once_there_are_enough_configurations() -> None:
    assert "## Importance" not in text()
    found = text(*(made(number, 0) for number in range(14, 40)))
    assert "over 39 configurations in the search space" in found
    assert re.search(r"\| learning_rate \| \d+% \|\n\| batch_size_per_device \| 0% \|", found)
