"""Earlier studies as a searcher gets them, read from a real store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.tune.search import Searcher

from benchmarks import identity, spec
from benchmarks.space import Choice, Config, Domain, Integer, LogUniform, Scalar, Uniform, value_in
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.results import Outcome
from hpo.core.study import Study
from hpo.search import registry
from hpo.store import queries
from hpo.store.queries import stored_runs
from hpo.store.stored_trials import PastTrial, past_trials
from hpo.store.tracker import Tracker
from tests.hpo.told import Told
from tests.stores import working_in

REPOSITORY = Path(__file__).parents[3]
GOOD: Config = {"learning_rate": 0.0012345678901234567, "batch_size_per_device": 8, "weight_decay": 0.01}
OTHER: Config = {"learning_rate": 2e-05, "batch_size_per_device": 16, "weight_decay": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give all tests one store; each has an experiment of its own."""
    folder = tmp_path_factory.mktemp("history")
    with working_in(folder):
        yield


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """Name the synthetic benchmark after the test."""
    return spec.load("synthetic").model_copy(update={"name": request.node.name})


@dataclass(frozen=True)
class Stored:
    """A trial to be stored: metrics by unit, None for one that could not be stored."""

    config: Config
    outcome: Outcome = "completed"
    losses: tuple[float | None, ...] = (3.0, 1.5)
    number: int = 0
    params: dict[str, Scalar] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def write_study(benchmark: Benchmark, *trials: Stored, start_time: int = 0, **tags: str) -> None:
    """Write a study's run and its trials', as far as they are read; the layout is that of `hpo.store.tracker`."""
    client = MlflowClient()
    found = client.get_experiment_by_name(benchmark.name)
    experiment = found.experiment_id if found else client.create_experiment(benchmark.name)
    study_tags = {"kind": "study", "benchmark_digest": identity.digest(benchmark), **tags}
    study = client.create_run(experiment, start_time, {f"hpo.{key}": value for key, value in study_tags.items()})
    for trial in trials:
        trial_tags = {"hpo.kind": "trial", "hpo.trial": str(trial.number), "mlflow.parentRunId": study.info.run_id}
        trial_tags |= trial.tags
        if trial.outcome != "running":
            trial_tags["hpo.outcome"] = trial.outcome
        run = client.create_run(experiment, tags=trial_tags).info.run_id
        for name, value in {**trial.config, **trial.params}.items():
            client.log_param(run, name, str(value))
        for unit, loss in enumerate(trial.losses, start=1):
            if loss is not None:
                client.log_metric(run, "eval_loss", loss, step=unit)
                client.log_metric(run, "f1", 1 / (1 + loss), step=unit)


def configs(benchmark: Benchmark) -> list[Config]:
    return [trial.config for trial in past_trials(benchmark)]


class TestWhatIsRead:
    def test_a_completed_trial_comes_back_as_it_was_proposed(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD))
        (trial,) = past_trials(benchmark)
        assert trial == PastTrial(GOOD, 1.5)
        assert {name: type(value) for name, value in trial.config.items()} == {
            "learning_rate": float,
            "batch_size_per_device": int,
            "weight_decay": float,
        }

    def test_what_counts_is_the_last_unit_not_the_best(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD, losses=(3.0, 0.5, 2.0)))
        assert past_trials(benchmark) == [PastTrial(GOOD, 2.0)]

    def test_it_is_the_benchmark_s_metric(self, benchmark: Benchmark) -> None:
        by_f1 = benchmark.model_copy(update={"metric": "f1", "mode": "max"})
        write_study(by_f1, Stored(GOOD, losses=(3.0, 1.0)))
        assert past_trials(by_f1) == [PastTrial(GOOD, 0.5)]

    def test_a_diverged_trial_has_the_worst_objective(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD, "diverged", losses=(3.0, None)))
        assert past_trials(benchmark) == [PastTrial(GOOD, benchmark.diverged_above)]

    def test_so_it_has_where_the_metric_is_maximised(self, benchmark: Benchmark) -> None:
        by_f1 = benchmark.model_copy(update={"metric": "f1", "mode": "max"})
        write_study(by_f1, Stored(GOOD, "diverged", losses=(3.0, None)))
        assert past_trials(by_f1) == [PastTrial(GOOD, -1.0)]

    @pytest.mark.parametrize("outcome", ["stopped", "failed", "interrupted", "running"])
    def test_a_trial_without_a_full_training_is_left_out(self, benchmark: Benchmark, outcome: Outcome) -> None:
        write_study(benchmark, Stored(OTHER, outcome), Stored(GOOD, number=1))
        assert configs(benchmark) == [GOOD]

    def test_a_trial_whose_result_was_not_stored_is_left_out(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD, losses=()))
        assert past_trials(benchmark) == []

    def test_a_trial_that_took_over_another_is_left_out(self, benchmark: Benchmark) -> None:
        """Its result belongs to no single configuration; that of a member that never did does."""
        exploiting = Stored(OTHER, tags={"hpo.exploits": "2"})
        write_study(benchmark, exploiting, Stored(GOOD, number=1, tags={"hpo.exploits": "0"}))
        assert configs(benchmark) == [GOOD]

    def test_every_method_and_seed_counts(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD), start_time=1, method="random", seed="0")
        write_study(benchmark, Stored(OTHER), start_time=2, method="asha", seed="7")
        assert configs(benchmark) == [GOOD, OTHER]

    def test_a_study_of_a_benchmark_that_has_changed_is_left_out(self, benchmark: Benchmark) -> None:
        longer = benchmark.model_copy(update={"resource": spec.Resource(unit_samples=640, max_units=27)})
        write_study(longer, Stored(OTHER))
        write_study(benchmark, Stored(GOOD))
        assert (configs(benchmark), configs(longer)) == ([GOOD], [OTHER])

    def test_what_is_no_study_is_left_out(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD), kind="launch")
        assert past_trials(benchmark) == []

    def test_studies_come_by_their_start_and_trials_by_number(self, benchmark: Benchmark) -> None:
        later = [Stored({**GOOD, "learning_rate": number * 1e-4}, number=number) for number in (2, 10, 1)]
        write_study(benchmark, *later, start_time=2_000)
        write_study(benchmark, Stored(OTHER), start_time=1_000)
        assert [config["learning_rate"] for config in configs(benchmark)] == [2e-05, 1e-4, 2e-4, 10 * 1e-4]

    def test_more_runs_than_fit_a_page_are_all_read(
        self, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "PAGE", 2)
        write_study(benchmark, *(Stored(GOOD, number=number) for number in range(5)))
        assert configs(benchmark) == [GOOD] * 5

    def test_what_the_tracker_writes_is_read(self, benchmark: Benchmark) -> None:
        study = Study("random", benchmark)
        told = Told(study, Tracker(study, "cpu", "python -m hpo run random"))
        told.begin("a", GOOD)
        for units, loss in ((1, 3.0), (study.max_units, 1.25)):
            told.report("a", {"units": units, "train_loss": loss, "eval_loss": loss})
        told.end("a")
        told.finish()
        assert past_trials(benchmark) == [PastTrial(GOOD, 1.25)]


class TestTheSearchSpace:
    """A stored trial counts where this space could have proposed it."""

    def with_space(self, benchmark: Benchmark, **domains: Domain | None) -> Benchmark:
        space = {name: domain for name, domain in {**benchmark.space, **domains}.items() if domain is not None}
        return benchmark.model_copy(update={"space": space})

    def test_a_configuration_outside_is_left_out(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(OTHER), Stored(GOOD, number=1))
        narrower = self.with_space(benchmark, learning_rate=LogUniform(type="loguniform", low=1e-4, high=1e-1))
        assert configs(narrower) == [GOOD]

    def test_a_hyperparameter_that_a_trial_left_alone_was_at_its_default(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(OTHER), Stored(GOOD, number=1, params={"warmup_ratio": 0.25}))
        wider = self.with_space(benchmark, warmup_ratio=Uniform(type="uniform", low=0.0, high=0.5))
        assert configs(wider) == [{**OTHER, "warmup_ratio": 0.0}, {**GOOD, "warmup_ratio": 0.25}]

    def test_a_hyperparameter_whose_default_lies_outside_the_space_is_not_made_up(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(OTHER))
        wider = self.with_space(benchmark, warmup_ratio=Uniform(type="uniform", low=0.1, high=0.5))
        assert configs(wider) == []

    def test_what_the_space_leaves_out_must_have_been_at_its_default(self, benchmark: Benchmark) -> None:
        """Else its results would be put down to the hyperparameters that are searched."""
        write_study(
            benchmark, Stored(GOOD), Stored(OTHER, number=1), Stored(GOOD, number=2, params={"adam_beta1": 0.5})
        )
        without_decay = self.with_space(benchmark, weight_decay=None)
        assert configs(without_decay) == [{"learning_rate": 2e-05, "batch_size_per_device": 16}]

    def test_a_default_that_was_logged_is_no_hindrance(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD, params={"adam_beta1": 0.9, "lr_scheduler": "linear"}))
        assert configs(benchmark) == [GOOD]


@pytest.mark.parametrize(
    ("domain", "text", "value"),
    [
        (Uniform(type="uniform", low=0.0, high=0.5), "0.5", 0.5),
        (Uniform(type="uniform", low=0.0, high=0.5), "0", 0.0),
        (Uniform(type="uniform", low=0.0, high=0.5), "0.51", None),
        (Uniform(type="uniform", low=0.0, high=0.5), "nan", None),
        (Uniform(type="uniform", low=0.0, high=0.5), "half", None),
        (LogUniform(type="loguniform", low=1e-6, high=1e-1), "1e-06", 1e-6),
        (LogUniform(type="loguniform", low=1e-6, high=1e-1), "0.0012345678901234567", 0.0012345678901234567),
        (LogUniform(type="loguniform", low=1e-6, high=1e-1), "1e-7", None),
        (Integer(type="int", low=2, high=8), "8", 8),
        (Integer(type="int", low=2, high=8), "8.0", 8),
        (Integer(type="int", low=2, high=8), "9", None),
        (Integer(type="int", low=2, high=8), "2.5", None),
        (Choice(type="choice", values=("linear", "cosine")), "cosine", "cosine"),
        (Choice(type="choice", values=("linear", "cosine")), "constant", None),
        (Choice(type="choice", values=(0.0, 0.01)), "0.01", 0.01),
        (Choice(type="choice", values=(0.0, 0.01)), "0", 0.0),
        (Choice(type="choice", values=(0, 0.01)), "0.0", 0),
        (Choice(type="choice", values=(4, 8)), "16", None),
        (Choice(type="choice", values=(False, True)), "True", True),
        (Choice(type="choice", values=(False, True)), "False", False),
        (Choice(type="choice", values=("8", "16")), "8", "8"),
    ],
)
def test_text_becomes_the_domain_s_own_value(domain: Domain, text: str, value: Scalar | None) -> None:
    found = value_in(domain, text)
    assert (found, type(found)) == (value, type(value))


class TestAStoreWithNothing:
    def test_an_unknown_experiment_has_no_trials(self, benchmark: Benchmark) -> None:
        assert past_trials(benchmark) == []

    def test_a_store_that_is_not_there_yet_is_not_made(
        self, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        assert past_trials(benchmark) == []
        assert list(tmp_path.iterdir()) == []

    def test_a_store_that_cannot_be_read_is_an_error(
        self, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        with pytest.raises(BenchmarkError, match="set MLFLOW_TRACKING_URI"):
            past_trials(benchmark)

    def test_all_runs_of_an_experiment_are_found_without_a_condition(self, benchmark: Benchmark) -> None:
        write_study(benchmark, Stored(GOOD), Stored(OTHER, "failed", number=1))
        assert len(stored_runs(benchmark.name)) == 3
        assert stored_runs("no such experiment") == []


@pytest.mark.parametrize("name", ["hyperopt", "optuna"])
class TestWarmStart:
    """From the store to the proposals."""

    def proposals(self, name: str, benchmark: Benchmark, **arguments: Any) -> list[Any]:
        """List the first proposal after the default of each of 15 seeds."""
        arguments = {**arguments, "start_with_default": False}
        firsts = []
        for seed in range(15):
            searcher = registry.get(name).make_plan(Study(name, benchmark, seed, arguments=arguments)).searcher
            assert isinstance(searcher, Searcher)
            firsts.append(searcher.suggest("first"))
        return firsts

    @pytest.mark.slow
    def test_proposals_gather_where_stored_trials_were_good(self, name: str, benchmark: Benchmark) -> None:
        rates = [10**-exponent for exponent in (1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.4, 4.8, 5.2, 5.6)]
        trials = [
            Stored({**GOOD, "learning_rate": rate}, losses=(abs(math.log10(rate) + 5.2),), number=number)
            for number, rate in enumerate(rates)
        ]
        write_study(benchmark, *trials)

        def share_near(**arguments: Any) -> float:
            rates = [config["learning_rate"] for config in self.proposals(name, benchmark, **arguments)]
            return sum(abs(math.log10(rate) + 5.2) < 1 for rate in rates) / len(rates)

        assert share_near() < 0.6
        assert share_near(warm_start=True) > 0.8

    def test_with_nothing_stored_it_changes_nothing(self, name: str, benchmark: Benchmark) -> None:
        assert self.proposals(name, benchmark, warm_start=True) == self.proposals(name, benchmark)
