"""The closed-form learning curves: repeatable, resumable, and as hard for a scheduler as the formula says."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Choice, Config, Space
from benchmarks.spec import Benchmark, load
from benchmarks.trials.synthetic import SyntheticTrial, expected_loss

CONFIG: Config = {"learning_rate": 2e-4, "batch_size_per_device": 4, "weight_decay": 0.01}
OTHER: Config = {"learning_rate": 5e-3, "batch_size_per_device": 16, "weight_decay": 0.0}
GOOD: Config = {"learning_rate": 5e-4, "batch_size_per_device": 8, "weight_decay": 0.01}
FAST_BUT_POOR: Config = {**GOOD, "learning_rate": 3e-3}


def benchmark_with(**changes: Any) -> Benchmark:
    """The shipped benchmark without sleeping, with other settings."""
    benchmark = load("synthetic")
    assert benchmark.synthetic is not None
    settings = benchmark.synthetic.model_copy(update={"seconds_per_unit": 0.0, **changes})
    return benchmark.model_copy(update={"synthetic": settings})


def started(config: Config, seed: int = 0, **changes: Any) -> SyntheticTrial:
    trial = SyntheticTrial(benchmark_with(**changes))
    trial.start(config, seed)
    return trial


def losses(trial: SyntheticTrial, units: int = 9) -> list[float]:
    return [trial.run_unit()["eval_loss"] for _ in range(units)]


def test_same_seed_and_configuration_give_the_same_curve() -> None:
    assert losses(started(CONFIG, seed=3)) == losses(started(CONFIG, seed=3))


@pytest.mark.parametrize(("config", "seed"), [(CONFIG, 1), ({**CONFIG, "weight_decay": 0.1}, 0)])
def test_other_seed_or_configuration_gives_another_curve(config: Config, seed: int) -> None:
    assert losses(started(config, seed)) != losses(started(CONFIG, seed=0))


def test_curve_does_not_depend_on_the_trial_before_it() -> None:
    trial = started(OTHER, seed=5)
    losses(trial, units=4)
    trial.start(CONFIG, seed=0)
    assert losses(trial) == losses(started(CONFIG, seed=0))


def test_curve_does_not_depend_on_trials_beside_it() -> None:
    trial, neighbour = started(CONFIG), started(OTHER)
    interleaved = [(trial.run_unit(), neighbour.run_unit())[0]["eval_loss"] for _ in range(9)]
    assert interleaved == losses(started(CONFIG))


def test_new_trial_starts_at_unit_one() -> None:
    trial = started(OTHER)
    losses(trial, units=4)
    trial.start(CONFIG, seed=0)
    assert trial.run_unit()["units"] == 1


def test_loaded_trial_continues_as_if_never_saved(tmp_path: Path) -> None:
    saved, resumed = started(CONFIG, seed=3), started(CONFIG, seed=4)
    losses(saved, units=4)
    saved.save(tmp_path)
    resumed.load(tmp_path)
    assert losses(resumed, units=5) == losses(saved, units=5)


def test_loaded_trial_continues_at_the_next_unit(tmp_path: Path) -> None:
    saved, resumed = started(CONFIG), started(CONFIG)
    losses(saved, units=4)
    saved.save(tmp_path)
    resumed.load(tmp_path)
    assert resumed.run_unit()["units"] == 5


def test_saving_does_not_change_the_curve(tmp_path: Path) -> None:
    trial = started(CONFIG)
    first = losses(trial, units=4)
    trial.save(tmp_path)
    assert first + losses(trial, units=5) == losses(started(CONFIG))


def with_change(before: Config, after: Config, unit: int, folder: Path) -> list[float]:
    """Train to a unit, then on with other hyperparameters from a checkpoint, as a population does."""
    trial = started(before, noise=0.0)
    first = losses(trial, units=unit)
    trial.save(folder)
    trial.start(after, seed=0)
    trial.load(folder)
    return first + losses(trial, units=9 - unit)


def test_loss_depends_on_the_path(tmp_path: Path) -> None:
    changed = with_change(CONFIG, OTHER, 4, tmp_path)
    assert changed[:4] == losses(started(CONFIG, noise=0.0), units=4)
    assert changed[-1] != pytest.approx(losses(started(OTHER, noise=0.0))[-1], abs=0.001)


def test_large_rates_first_and_small_ones_later_beat_every_constant_rate(tmp_path: Path) -> None:
    rates = [10 ** (-5 + step / 50) for step in range(200)]
    best = min(losses(started({**GOOD, "learning_rate": rate}, noise=0.0))[-1] for rate in rates)
    schedule = with_change({**GOOD, "learning_rate": 5e-3}, {**GOOD, "learning_rate": 1e-5}, 5, tmp_path)
    assert schedule[-1] < best - 0.03


def test_small_rates_first_and_large_ones_later_lose_to_the_reverse(tmp_path: Path) -> None:
    small, large = {**GOOD, "learning_rate": 1e-4}, {**GOOD, "learning_rate": 3e-3}
    assert with_change(small, large, 5, tmp_path)[-1] > with_change(large, small, 5, tmp_path)[-1] + 0.1


def test_diverged_trial_stays_diverged(tmp_path: Path) -> None:
    trial = started({**CONFIG, "learning_rate": 0.1}, diverge_above=0.03)
    losses(trial, units=2)
    trial.save(tmp_path)
    trial.start(CONFIG, seed=0)
    trial.load(tmp_path)
    assert math.isnan(losses(trial, units=1)[0])


def test_sound_trial_diverges_at_once_when_its_rate_gets_too_large(tmp_path: Path) -> None:
    changed = with_change(CONFIG, {**CONFIG, "learning_rate": 0.1}, 3, tmp_path)
    assert [math.isnan(loss) for loss in changed] == [False] * 3 + [True] * 6


def random_curves(number: int) -> list[list[float]]:
    """Curves of random configurations of the shipped benchmark; a diverged loss is infinite."""
    benchmark, generator = benchmark_with(), random.Random(0)
    configs = [draw(benchmark.space, generator) for _ in range(number)]
    trial = SyntheticTrial(benchmark)
    curves = []
    for seed, config in enumerate(configs):
        trial.start(config, seed)
        curves.append([loss if math.isfinite(loss) else math.inf for loss in losses(trial)])
    return curves


def draw(space: Space, generator: random.Random) -> Config:
    return {
        name: generator.choice(domain.values)
        if isinstance(domain, Choice)
        else math.exp(generator.uniform(math.log(domain.low), math.log(domain.high)))
        for name, domain in space.items()
    }


def test_first_rung_ranks_roughly_and_the_next_one_well() -> None:
    curves = random_curves(1000)
    first, third = (spearmanr([c[unit] for c in curves], [c[-1] for c in curves]).statistic for unit in (0, 2))
    assert 0.4 < first < 0.7 < third < 0.95


def test_diverging_rates_look_worst_at_the_first_unit() -> None:
    diverging = started({**CONFIG, "learning_rate": 0.05}).run_unit()["eval_loss"]
    slowest = started({**CONFIG, "learning_rate": 1e-6}).run_unit()["eval_loss"]
    assert slowest + 1 < diverging < benchmark_with().diverged_above


def test_loss_is_nan_above_the_limit_from_the_second_unit_on() -> None:
    curve = losses(started({**CONFIG, "learning_rate": 0.031}, diverge_above=0.03))
    assert [math.isnan(loss) for loss in curve] == [False] + [True] * 8


def test_loss_is_finite_at_the_limit_itself() -> None:
    assert all(map(math.isfinite, losses(started({**CONFIG, "learning_rate": 0.03}, diverge_above=0.03))))


def test_no_limit_means_no_divergence() -> None:
    assert all(map(math.isfinite, losses(started({**CONFIG, "learning_rate": 0.1}, diverge_above=None))))


def test_diverged_unit_scores_nothing() -> None:
    trial = started({**CONFIG, "learning_rate": 0.1}, diverge_above=0.03)
    trial.run_unit()
    result = trial.run_unit()
    assert (result["exact_match"], result["f1"], math.isnan(result["perplexity"])) == (0.0, 0.0, True)


@pytest.mark.parametrize(("batch_size", "best_log_rate"), [(2, -3.9), (4, -3.6), (8, -3.3), (16, -3.0), (32, -2.7)])
def test_best_learning_rate_shifts_with_the_batch_size(batch_size: int, best_log_rate: float) -> None:
    def loss(log_rate: float) -> float:
        rate = 10.0**log_rate
        return expected_loss(Hyperparameters(learning_rate=rate, batch_size_per_device=batch_size), progress=1.0)

    candidates = [best_log_rate + step / 100 for step in range(-100, 101)]
    assert min(candidates, key=loss) == pytest.approx(best_log_rate, abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "weight_decay", "progress", "loss"),
    [
        (10**-3.3, 0.01, 0.0, 6.0),
        (10**-3.3, 0.01, 1.0, 0.5 + 5.5 * math.exp(-5) + 0.065 * (1 - math.exp(-9))),
        (10**-3.3, 0.0, 1.0, 0.5 + 5.5 * math.exp(-5) + 0.115 * (1 - math.exp(-9))),
        (10**-2.3, 0.01, 0.5, 0.5 + 5.5 * math.exp(-2.5 * 10**0.35) + 0.65 * (1 - math.exp(-4.5))),
        (10**-4.3, 0.01, 0.5, 0.5 + 5.5 * math.exp(-2.5 * 10**-0.35) + 0.0065 * (1 - math.exp(-4.5))),
    ],
)
def test_expected_loss_follows_the_formula(rate: float, weight_decay: float, progress: float, loss: float) -> None:
    config = Hyperparameters(learning_rate=rate, batch_size_per_device=8, weight_decay=weight_decay)
    assert expected_loss(config, progress) == pytest.approx(loss, rel=1e-6)


def test_curve_without_noise_is_the_expected_loss() -> None:
    benchmark = benchmark_with(noise=0.0)
    expected = [expected_loss(benchmark.hyperparameters(CONFIG), unit / 9) for unit in range(1, 10)]
    assert losses(started(CONFIG, noise=0.0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_fast_learner_leads_early_and_loses_in_the_end(seed: int) -> None:
    slow, fast = losses(started(GOOD, seed)), losses(started(FAST_BUT_POOR, seed))
    assert (fast[0] < slow[0], fast[2] < slow[2], fast[8] > slow[8]) == (True, True, True)


def test_noise_has_the_standard_deviation_asked_for() -> None:
    trial, seeds = started(CONFIG, noise=0.1), range(400)
    expected = expected_loss(benchmark_with().hyperparameters(CONFIG), 1 / 9)
    squares = []
    for seed in seeds:
        trial.start(CONFIG, seed)
        squares.append((trial.run_unit()["eval_loss"] - expected) ** 2)
    assert math.sqrt(sum(squares) / len(squares)) == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(("batch_size", "factor"), [(4, 1.5), (8, 1.0), (16, 0.75)])
def test_small_batches_take_longer(batch_size: int, factor: float) -> None:
    trial = started({**CONFIG, "batch_size_per_device": batch_size}, seconds_per_unit=0.002)
    assert trial.run_unit()["train_seconds"] == pytest.approx(0.002 * factor)


def test_lower_loss_means_a_higher_score() -> None:
    trial = started(CONFIG, noise=0.0)
    first, last = [trial.run_unit() for _ in range(9)][::8]
    assert (first["exact_match"] < last["exact_match"], first["f1"] < last["f1"]) == (True, True)


def test_scores_stay_between_zero_and_one() -> None:
    trial = started(CONFIG, noise=2.0)
    results = [trial.run_unit() for _ in range(9)]
    assert all(0 <= result[metric] <= 1 for result in results for metric in ("exact_match", "f1"))


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    result = started(CONFIG).run_unit()
    assert result["perplexity"] == math.exp(result["eval_loss"])
