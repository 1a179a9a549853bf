"""The check of a bank's model: configurations that it was not fitted to, beside what a second seed would tell."""

from __future__ import annotations

import math

import pytest

from benchmarks import spec
from benchmarks.banks.bank import Bank
from hpo.recording.model_check import correlations, coverage, error, left_out, section
from tests.benchmarks.banks import synthetic_bank

BENCHMARK = spec.load("synthetic")
BANK = synthetic_bank.bank(BENCHMARK, configs=40, seeds=2)


@pytest.mark.slow
def test_a_sound_model_is_nearly_as_good_as_a_second_seed() -> None:
    answers = left_out(BANK, BENCHMARK)
    completed = {t.identity[0] for t in BANK.trainings if t.outcome == "completed"}
    assert len(answers) == len(completed)
    for model, ceiling in correlations(answers):
        assert 0.8 < model <= 1.0
        assert 0.95 < ceiling <= 1.0
    assert 0.6 < coverage(answers) <= 1.0
    assert 0.0 < error(answers) < 0.5
    text = section(BANK, BENCHMARK)
    assert f"{len(answers)} configurations, each predicted by a model of the others (5 parts)" in text
    assert "| 9 | " in text
    assert "holds" in text


@pytest.mark.slow
def test_a_model_of_shuffled_curves_is_no_better_than_chance() -> None:
    lots = [training for training in BANK.trainings if training.outcome == "completed"]
    moved = [lots[(i + len(lots) // 2) % len(lots)].model_copy(update={"config": t.config}) for i, t in enumerate(lots)]
    answers = left_out(Bank(BANK.header, tuple(moved)), BENCHMARK)
    assert abs(correlations(answers)[-1][0]) < 0.5


@pytest.mark.slow
def test_one_seed_tells_no_ceiling_and_no_noise() -> None:
    single = Bank(BANK.header, tuple(training for training in BANK.trainings if training.seed == 0))
    answers = left_out(single, BENCHMARK)
    assert all(math.isnan(ceiling) for _, ceiling in correlations(answers))
    assert "Each configuration has one seed, so the model has no noise." in section(single, BENCHMARK)


def test_a_small_bank_has_no_such_section() -> None:
    assert section(Bank(BANK.header, BANK.trainings[:20]), BENCHMARK) == ""
