"""Curves between recorded ones: close to the truth, with the seeds' noise, and the same whenever they are asked for."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import spec
from benchmarks.banks.curves import RecordedCurves
from benchmarks.banks.surrogate import MIN_CONFIGURATIONS, ProcessMean, Surrogate, fit_process
from benchmarks.files import BenchmarkError
from benchmarks.space import Config
from tests.benchmarks.banks import synthetic_bank
from tests.benchmarks.banks.synthetic_bank import train

BENCHMARK = spec.load("synthetic")
METRICS = BENCHMARK.metrics
UNITS = BENCHMARK.resource.max_units
BANK = synthetic_bank.bank(BENCHMARK, configs=60, seeds=3)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(BANK.configurations(), BENCHMARK.space, METRICS, UNITS)


def others(number: int) -> list[Config]:
    """Draw configurations that the bank does not have."""
    lot = random.Random(1)
    return [BENCHMARK.complete(synthetic_bank.draw(BENCHMARK, lot)) for _ in range(number)]


def losses(surrogate: Surrogate, config: Config, seed: int = 0) -> list[float]:
    return [unit.metrics["eval_loss"] for unit in surrogate.curve(config, seed).units]


def test_new_configurations_are_ranked_as_the_truth_ranks_them(surrogate: Surrogate) -> None:
    pairs = []
    for config in others(60):
        real, modelled = train(BENCHMARK, config, 9), surrogate.curve(config, 9)
        if real.outcome == modelled.outcome == "completed":
            pairs.append([[unit.metrics["eval_loss"] for unit in curve.units] for curve in (real, modelled)])
    by_unit = np.array(pairs).transpose(2, 1, 0)  # (units, real and modelled, configurations)
    for unit in (0, 2, UNITS - 1):
        assert spearmanr(*by_unit[unit]).statistic > 0.93


@pytest.mark.slow
def test_a_curve_is_the_same_in_another_model_of_the_bank(surrogate: Surrogate) -> None:
    again = Surrogate(BANK.configurations(), BENCHMARK.space, METRICS, UNITS)
    [config] = others(1)
    assert losses(surrogate, config, 3) == pytest.approx(losses(again, config, 3), rel=1e-9)
    assert losses(surrogate, config, 3) != losses(surrogate, config, 4)


def test_seeds_spread_as_recorded_seeds_do(surrogate: Surrogate) -> None:
    config = BANK.trainings[0].config
    real = [train(BENCHMARK, config, seed).units[-1].metrics["eval_loss"] for seed in range(40)]
    modelled = [losses(surrogate, config, seed)[-1] for seed in range(40)]
    assert 0.4 < stdev(modelled) / stdev(real) < 2.5
    assert fmean(modelled) == pytest.approx(fmean(real), rel=0.1)


def test_no_score_leaves_its_bounds(surrogate: Surrogate) -> None:
    for config in others(20):
        for unit in surrogate.curve(config, 0).units:
            assert 0.0 <= unit.metrics["f1"] <= 1.0


def test_seconds_follow_the_configuration(surrogate: Surrogate) -> None:
    [config] = others(1)
    sizes = [{**config, "batch_size_per_device": size} for size in (4, 16)]
    seconds = [surrogate.curve(one, 0).units[0].train_seconds for one in sizes]
    recorded = [train(BENCHMARK, one, 0).units[0].train_seconds for one in sizes]
    assert seconds == pytest.approx(recorded, rel=0.1)


def test_rates_that_diverge_nearby_diverge(surrogate: Surrogate) -> None:
    limit = BENCHMARK.space["learning_rate"]
    config = {**BENCHMARK.complete({}), "learning_rate": limit.high}  # type: ignore[union-attr]
    curve = surrogate.curve(config, 0)
    assert curve.outcome == "diverged"
    assert math.isnan(curve.units[-1].metrics["eval_loss"])
    assert surrogate.curve(BENCHMARK.complete({}), 0).outcome == "completed"


@pytest.mark.slow
def test_one_seed_per_configuration_gives_curves_without_noise() -> None:
    one = [of_one[:1] for of_one in BANK.configurations()]
    smooth = Surrogate(one, BENCHMARK.space, METRICS, UNITS)
    assert losses(smooth, BENCHMARK.complete({}), 0) == losses(smooth, BENCHMARK.complete({}), 1)


def test_a_small_bank_has_no_model() -> None:
    few = [of_one for of_one in BANK.configurations() if of_one[0].outcome == "completed"][: MIN_CONFIGURATIONS - 1]
    with pytest.raises(BenchmarkError, match=r"has 9 configurations that completed, .* needs 10; record more"):
        Surrogate(few, BENCHMARK.space, METRICS, UNITS)


def test_the_mean_of_the_process_is_that_of_scikit_learn() -> None:
    lot = np.random.default_rng(0)
    points, outputs = lot.random((30, 3)), lot.random((30, 4)) * 10
    model = fit_process(points, outputs)
    mean = ProcessMean.of(model)
    for point in lot.random((20, 3)):
        assert mean.at(point) == pytest.approx(model.predict(point[np.newaxis])[0], rel=1e-9)


class TestTable:
    TABLE = RecordedCurves(BANK.configurations())

    def test_a_recorded_seed_gives_its_curve(self) -> None:
        training = BANK.trainings[1]
        curve = self.TABLE.curve(training.config, training.seed)
        assert [unit.metrics for unit in curve.units] == [unit.metrics for unit in training.units]

    def test_another_seed_gives_the_curve_of_a_recorded_one(self) -> None:
        training = BANK.trainings[0]
        known = [t.units[-1].metrics for t in BANK.trainings[:3]]
        found = [self.TABLE.curve(training.config, seed).units[-1].metrics for seed in range(100, 130)]
        assert all(one in known for one in found)
        assert all(one in found for one in known)

    def test_a_configuration_that_was_not_recorded_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match=r"is not in the bank, .* take `between: surrogate`"):
            self.TABLE.curve(others(1)[0], 0)
