"""Importances: the decomposition against closed forms and Optuna's, and which stored trials count."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from itertools import combinations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from sklearn.ensemble import RandomForestRegressor

from benchmarks import spec
from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar, Uniform
from benchmarks.spec import Benchmark
from hpo.analysis import importance
from hpo.analysis.forest import decompose
from hpo.analysis.importance import Importances, importances, position
from hpo.analysis.studies import StudyRecord
from hpo.core.study import Study
from hpo.store.files import trials_csv, units_csv
from tests.hpo.told import Told

FEW = 3
"""Resamples, where the intervals are not what is tested."""


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return spec.load("synthetic")


class TestDecompose:
    """By the exact shares of functions whose decomposition is known."""

    def shares(self, function: Callable[..., float], dimensions: int, points: int = 24) -> np.ndarray:
        """Compute the shares of a forest on a full grid of cell centres, which it learns all but exactly."""
        axes = np.meshgrid(*[(np.arange(points) + 0.5) / points] * dimensions)
        positions = np.stack([axis.ravel() for axis in axes], axis=1)
        values = np.array([function(*row) for row in positions])
        return decompose(RandomForestRegressor(4, bootstrap=False, random_state=0).fit(positions, values))

    def test_a_sum_has_no_interaction(self) -> None:
        """Variance of 2x + y: 4/12 and 1/12."""
        assert self.shares(lambda x, y: 2 * x + y, 2) == pytest.approx([0.8, 0.2, 0.0], abs=0.01)

    def test_a_centred_product_is_nothing_but_interaction(self) -> None:
        assert self.shares(lambda x, y: (x - 0.5) * (y - 0.5), 2) == pytest.approx([0.0, 0.0, 1.0], abs=0.01)

    def test_a_product_is_both(self) -> None:
        """The variance of xy is 7/144: 3/144 for each factor alone, 1/144 for both together."""
        assert self.shares(lambda x, y: x * y, 2) == pytest.approx([3 / 7, 3 / 7, 1 / 7], abs=0.01)

    def test_what_does_not_matter_has_no_share(self) -> None:
        alone_and_pairs = self.shares(lambda x, y, z: x, 3, points=8)
        assert alone_and_pairs == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-9)

    def test_shares_of_two_hyperparameters_add_up_to_all(self) -> None:
        assert self.shares(lambda x, y: math.sin(5 * x) * math.exp(y), 2).sum() == pytest.approx(1.0, abs=1e-9)

    def test_a_forest_that_is_flat_has_no_shares(self) -> None:
        forest = RandomForestRegressor(4, random_state=0).fit(np.random.default_rng(0).random((9, 2)), np.ones(9))
        assert list(decompose(forest)) == [0, 0, 0]

    @pytest.mark.slow
    def test_a_hyperparameter_alone_is_what_optuna_says(self) -> None:
        rng = np.random.default_rng(1)
        positions = rng.random((60, 3))
        values = np.sin(6 * positions[:, 0]) + 3 * positions[:, 1] * positions[:, 2] + 0.1 * rng.normal(size=60)
        forest = RandomForestRegressor(64, max_depth=64, random_state=5).fit(positions, values)
        assert decompose(forest)[:3] == pytest.approx(optuna_shares(positions, values, seed=5), abs=1e-9)

    def test_pairs_come_in_the_order_of_combinations(self) -> None:
        shares = self.shares(lambda x, y, z: (x - 0.5) * (z - 0.5), 3, points=8)
        assert list(combinations("xyz", 2))[int(np.argmax(shares)) - 3] == ("x", "z")


def optuna_shares(positions: np.ndarray, values: np.ndarray, seed: int) -> list[float]:
    names = [f"x{k}" for k in range(positions.shape[1])]
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(names, map(float, row), strict=True)),
                distributions={name: FloatDistribution(0, 1) for name in names},
                value=float(value),
            )
            for row, value in zip(positions, values, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), normalize=False)
    return [found[name] for name in names]


@pytest.mark.parametrize(
    ("domain", "value", "place"),
    [
        (Uniform(type="uniform", low=1.0, high=5.0), 2.0, 0.25),
        (LogUniform(type="loguniform", low=1e-6, high=1e-2), 1e-5, 0.25),
        (LogUniform(type="loguniform", low=1e-6, high=1e-2), 1e-2, 1.0),
        (Integer(type="int", low=1, high=4), 1, 0.125),
        (Integer(type="int", low=1, high=4), 4, 0.875),
        (Choice(type="choice", values=(16, 4, 8)), 4, 1 / 6),
        (Choice(type="choice", values=(16, 4, 8)), 16, 5 / 6),
        (Choice(type="choice", values=("linear", "cosine")), "cosine", 0.75),
    ],
)
def test_positions_are_even_in_the_domain(domain: Domain, value: Scalar, place: float) -> None:
    assert position(domain, value) == pytest.approx(place)


def draw(benchmark: Benchmark, number: int, seed: int = 0) -> list[Config]:
    rng = random.Random(seed)
    return [
        {
            "learning_rate": 10 ** rng.uniform(-6, -1),
            "batch_size_per_device": rng.choice([4, 8, 16]),
            "weight_decay": rng.choice([0.0, 0.01]),
        }
        for _ in range(number)
    ]


def loss_of(config: Config) -> float:
    """The learning rate's logarithm is nearly all that matters; batch sizes do a little, weight decay not at all."""
    return (
        1 + abs(math.log10(float(config["learning_rate"])) + 3) + 0.02 * float(config.get("batch_size_per_device", 8))
    )


def study_of(
    benchmark: Benchmark, configs: list[Config], units: tuple[int, ...] = (9,), run_id: str = "run"
) -> StudyRecord:
    """A study whose trials all were scored at `units`, as records have it."""
    told = Told(Study("random", benchmark))
    for number, config in enumerate(configs):
        told.begin(str(number), config)
        for unit in units:
            metrics = {"eval_loss": loss_of(config) + 9 - unit, "train_loss": 1.0}
            told.report(str(number), {"units": unit, "objective": metrics["eval_loss"], **metrics})
        told.end(str(number))
    files = {"trials.csv": trials_csv(benchmark, told.books.rows), "units.csv": units_csv(benchmark, told.books.units)}
    return StudyRecord(run_id, "random", "", 0, 12, {}, {}, 0, files)


def found(studies: list[StudyRecord], benchmark: Benchmark, **options: int) -> Importances:
    result = importances(studies, benchmark, **{"resamples": FEW, **options})
    assert isinstance(result, Importances), result
    return result


@pytest.fixture(scope="module")
def of_sixty(benchmark: Benchmark) -> Importances:
    return found([study_of(benchmark, draw(benchmark, 60))], benchmark, resamples=importance.RESAMPLES)


@pytest.mark.slow
class TestImportances:
    def test_the_largest_comes_first(self, of_sixty: Importances) -> None:
        assert of_sixty.hyperparameters[0].name == "learning_rate"
        shares = [each.share.value for each in of_sixty.hyperparameters]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 0.8

    def test_intervals_hold_what_resamples_found(self, of_sixty: Importances) -> None:
        for each in of_sixty.hyperparameters:
            interval = each.share.interval
            assert interval is not None
            assert 0 <= interval.low <= interval.high <= 1
            assert interval.confidence == importance.CONFIDENCE

    def test_every_pair_has_a_share(self, of_sixty: Importances) -> None:
        assert {frozenset((pair.a, pair.b)) for pair in of_sixty.interactions} == {
            frozenset(pair) for pair in combinations(("learning_rate", "batch_size_per_device", "weight_decay"), 2)
        }

    def test_no_more_than_all_is_explained(self, of_sixty: Importances) -> None:
        alone, together = of_sixty.hyperparameters, of_sixty.interactions
        effects = [*(one.share.value for one in alone), *(pair.share.value for pair in together)]
        assert 0.9 < sum(effects) <= 1 + 1e-9

    def test_it_says_how_well_the_forest_predicts(self, benchmark: Benchmark, of_sixty: Importances) -> None:
        assert 0.8 < of_sixty.r_squared < 1
        shuffled = study_of(benchmark, draw(benchmark, 60))
        rows = shuffled.trials
        rows["eval_loss"] = rows["eval_loss"].sample(frac=1, random_state=0).to_numpy()
        assert found([shuffled], benchmark).r_squared < 0.2

    def test_one_seed_gives_one_result(self, benchmark: Benchmark) -> None:
        studies = [study_of(benchmark, draw(benchmark, 30))]
        assert found(studies, benchmark, seed=1) == found(studies, benchmark, seed=1)
        assert found(studies, benchmark, seed=1) != found(studies, benchmark, seed=2)

    def test_studies_are_pooled(self, benchmark: Benchmark) -> None:
        studies = [study_of(benchmark, draw(benchmark, 12, seed), run_id=str(seed)) for seed in (0, 1)]
        assert found(studies, benchmark).num_trials == 24

    def test_a_hyperparameter_with_one_value_has_no_share(self, benchmark: Benchmark) -> None:
        configs: list[Config] = [{**config, "weight_decay": 0.0} for config in draw(benchmark, 30)]
        result = found([study_of(benchmark, configs)], benchmark)
        assert {each.name for each in result.hyperparameters} == {"learning_rate", "batch_size_per_device"}

    def test_a_search_of_one_hyperparameter_has_no_pairs(self, benchmark: Benchmark) -> None:
        configs: list[Config] = [{"learning_rate": config["learning_rate"]} for config in draw(benchmark, 30)]
        result = found([study_of(benchmark, configs)], benchmark)
        assert result.interactions == []
        assert result.hyperparameters[0].share.value == pytest.approx(1.0)


class TestWhichTrialsCount:
    def test_those_at_the_full_resource(self, benchmark: Benchmark) -> None:
        full = study_of(benchmark, draw(benchmark, 25), units=(3, 9))
        stopped = study_of(benchmark, draw(benchmark, 60, seed=1), units=(3,), run_id="stopped")
        result = found([full, stopped], benchmark)
        assert (result.units, result.num_trials, result.is_at_full_resource) == (9, 25, True)

    def test_or_where_too_few_got_there_the_largest_rung_with_enough(self, benchmark: Benchmark) -> None:
        full = study_of(benchmark, draw(benchmark, 5), units=(1, 3, 9))
        half = study_of(benchmark, draw(benchmark, 20, seed=1), units=(1, 3), run_id="half")
        early = study_of(benchmark, draw(benchmark, 60, seed=2), units=(1,), run_id="early")
        result = found([full, half, early], benchmark)
        assert (result.units, result.max_units, result.num_trials) == (3, 9, 25)
        assert not result.is_at_full_resource

    def test_too_few_is_a_sentence(self, benchmark: Benchmark) -> None:
        assert importances([study_of(benchmark, draw(benchmark, 19), units=(3, 9))], benchmark) == (
            "19 trials of synthetic with one configuration reached the full resource, and at no smaller one were 20 "
            "scored: too few to tell which hyperparameters matter"
        )

    def test_so_is_a_score_that_never_changes(self, benchmark: Benchmark) -> None:
        study = study_of(benchmark, draw(benchmark, 20))
        study.trials["eval_loss"] = 1.0
        assert importances([study], benchmark) == (
            "20 trials of synthetic at 9 units, but all have the same eval_loss: there is nothing to explain"
        )

    def test_and_a_configuration_that_never_changes(self, benchmark: Benchmark) -> None:
        study = study_of(benchmark, draw(benchmark, 1) * 20)
        assert importances([study], benchmark) == (
            "20 trials of synthetic at 9 units, but all have the same configuration: there is nothing to explain"
        )

    def test_members_that_took_over_others_do_not(self, benchmark: Benchmark) -> None:
        told = Told(Study("pbt", benchmark), varies=True)
        configs = draw(benchmark, 24)
        for number, config in enumerate(configs):
            told.begin(str(number), config)
        for number in range(4):
            told.exploit(str(number), "23", 3, configs[number])
        for number, config in enumerate(configs):
            told.report(str(number), {"units": 9, "eval_loss": loss_of(config)})
            told.end(str(number))
        study = StudyRecord("run", "pbt", "", 0, 24, {}, {}, 0, {"trials.csv": trials_csv(benchmark, told.books.rows)})
        assert found([study], benchmark).num_trials == 20

    def test_diverged_trials_and_configurations_outside_do_not(self, benchmark: Benchmark) -> None:
        outside: list[Config] = [{"learning_rate": 0.9}]
        study = study_of(benchmark, draw(benchmark, 22) + outside)
        study.trials.loc[0, ["outcome", "eval_loss"]] = ["diverged", math.nan]
        assert found([study], benchmark).num_trials == 21
