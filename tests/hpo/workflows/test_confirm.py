"""Confirmations: the trainings that are due, schedules that are replayed, and the one score on test at the end."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.spec import BenchmarkError
from benchmarks.trials.synthetic import SyntheticTrial
from hpo.analysis import compare, records
from hpo.analysis.records import Records
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.app.cli import main
from hpo.core.study import (
    CONFIRMS,
    SCHEDULE,
    TRAINING_SEED,
    Study,
    default_schedule,
    fresh_seeds,
    schedule_digest,
    training_of,
    training_seeds,
)
from hpo.engine.in_process import InProcess
from hpo.planning import contest
from hpo.store.queries import stored_runs
from hpo.workflows import confirm, suite
from tests.stores import working_in

BENCHMARK = spec.load("synthetic")
GOOD: Config = {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.01}
OTHER: Config = {"learning_rate": 2e-3, "batch_size_per_device": 4, "weight_decay": 0.0}


def study(method: str, seed: int, config: Config, schedule: list[dict[str, Any]] | None = None) -> StudyRecord:
    best = {"config": config, "metrics": {"f1": 0.5}, **({"schedule": schedule} if schedule else {})}
    return StudyRecord(method, method, "", seed, 4, {}, {}, 0, {"best_config.json": json.dumps(best)})


def stored(studies: list[StudyRecord], trainings: list[Confirmation] | None = None) -> Records:
    return Records(BENCHMARK, "digest", studies, trainings or [], 0.0, [])


class TestFreshSeeds:
    def test_are_the_same_for_every_method_of_a_block_and_differ_between_blocks(self) -> None:
        assert fresh_seeds(0, 5) == fresh_seeds(0, 5)
        assert len({*fresh_seeds(0, 5), *fresh_seeds(1, 5)}) == 10

    def test_fewer_are_the_first_of_more(self) -> None:
        assert fresh_seeds(7, 20)[:5] == fresh_seeds(7, 5)

    def test_are_none_that_a_study_trains_with(self) -> None:
        assert not {*fresh_seeds(0, 100)} & {*training_seeds(0, 100)}


class TestSchedules:
    def test_two_that_mean_the_same_have_one_checksum(self) -> None:
        spelled_out = BENCHMARK.hyperparameters(GOOD).model_dump()
        assert schedule_digest(BENCHMARK, [(0, GOOD)]) == schedule_digest(BENCHMARK, [(0, spelled_out)])
        assert schedule_digest(BENCHMARK, [(0, GOOD)]) != schedule_digest(BENCHMARK, [(0, GOOD), (3, OTHER)])
        assert schedule_digest(BENCHMARK, [(0, GOOD), (3, OTHER)]) != schedule_digest(
            BENCHMARK, [(0, GOOD), (4, OTHER)]
        )

    def test_a_proposal_of_a_method_is_a_training_of_one_configuration(self) -> None:
        training = training_of(Study("asha", BENCHMARK, seed=4), {"learning_rate": 1e-3})
        assert training.seed == 4
        assert [units for units, _ in training.schedule] == [0]
        assert training.config["learning_rate"] == 1e-3

    def test_a_proposal_to_confirm_has_its_own_seed_and_schedule(self) -> None:
        proposal = {CONFIRMS: {TRAINING_SEED: 9, SCHEDULE: [[0, GOOD], [3, OTHER]]}}
        training = training_of(Study("confirm", BENCHMARK, seed=4), proposal)
        assert (training.seed, [units for units, _ in training.schedule]) == (9, [0, 3])
        assert training.config["learning_rate"] == GOOD["learning_rate"]


class TestDue:
    def test_every_incumbent_and_the_default_with_the_fresh_seeds_of_their_block(self) -> None:
        due = confirm.due(stored([study("asha", 0, GOOD), study("asha", 1, OTHER)]), [], 2)
        default = [[0, default_schedule(BENCHMARK)[0][1]]]
        assert [(proposal[TRAINING_SEED], proposal[SCHEDULE]) for proposal in due] == [
            *((seed, [[0, GOOD]]) for seed in fresh_seeds(0, 2)),
            *((seed, [[0, OTHER]]) for seed in fresh_seeds(1, 2)),
            *((seed, default) for block in (0, 1) for seed in fresh_seeds(block, 2)),
        ]

    def test_one_configuration_that_two_methods_came_to_is_trained_once(self) -> None:
        both = confirm.due(stored([study("asha", 0, GOOD), study("bohb", 0, dict(GOOD))]), [], 3)
        assert len(both) == 6

    def test_what_the_store_has_is_not_due(self) -> None:
        digest = schedule_digest(BENCHMARK, [(0, GOOD)])
        there = Confirmation(digest, fresh_seeds(0, 1)[0], False, {}, 1.0)
        assert len(confirm.due(stored([study("asha", 0, GOOD)], [there]), [], 3)) == 5

    def test_only_the_methods_asked_for(self) -> None:
        due = confirm.due(stored([study("asha", 0, GOOD), study("bohb", 1, OTHER)]), ["bohb"], 1)
        assert [proposal[TRAINING_SEED] for proposal in due] == fresh_seeds(1, 1) * 2

    @pytest.mark.parametrize(
        ("methods", "repeats", "message"),
        [(["pbt"], 1, "no finished study of 'pbt'; there are: asha"), ([], 0, "repeats is 0, but must be >= 1")],
    )
    def test_what_cannot_be_done_is_refused(self, methods: list[str], repeats: int, message: str) -> None:
        with pytest.raises(BenchmarkError, match=message):
            confirm.due(stored([study("asha", 0, GOOD)]), methods, repeats)

    def test_another_version_of_the_benchmark_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="ran another version of it"):
            confirm.require_same(BENCHMARK, stored([study("asha", 0, GOOD)]))


# ---- a real one


METHODS = "pbt:interval_units=2:exploit_share=0.5,random"


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Records, int]]:
    """A suite with a population and random search, confirmed twice over; what is stored, and what was due again."""
    folder = tmp_path_factory.mktemp("confirm")
    with working_in(folder):
        console = Console(file=io.StringIO())
        given = contest.GivenBenchmark(BENCHMARK, "synthetic")
        plan = contest.SuiteOptions(METHODS, "0", 4, None, "random", 1).plan(BENCHMARK)
        here, contestants = InProcess(devices=2), contest.methods_of(plan)
        outcome = suite.run_suite(contestants, given, [0], None, False, console, here, plan.text)
        assert outcome.failures == []
        proposals = confirm.due(records.read("synthetic"), [], 2)
        assert confirm.train_again(BENCHMARK, proposals, None, "python -m hpo confirm", console, here).reached_end
        found = records.read("synthetic")
        yield found, len(confirm.due(found, [], 2))


def one(found: Records, method: str) -> StudyRecord:
    return next(record for record in found.studies if record.method == method)


@pytest.mark.slow
class TestRun:
    def test_every_incumbent_and_the_default_are_confirmed(self, confirmed: tuple[Records, int]) -> None:
        found, due = confirmed
        assert due == 0
        for record in found.studies:
            assert [training.seed for training in found.confirmations_of(record)] == fresh_seeds(0, 2), record.method
        assert len(found.confirmations_with(default_schedule(BENCHMARK), 0)) == 2

    def test_a_confirmation_is_the_schedule_trained_with_the_fresh_seed(
        self, confirmed: tuple[Records, int], tmp_path: Path
    ) -> None:
        """Each configuration takes over through a checkpoint, as in the member of the population."""
        found, _ = confirmed
        record = one(found, "pbt")
        assert record.schedule is not None
        assert len(record.schedule) > 1
        begin, due = record.schedule[0][1], dict(record.schedule[1:])
        for training in found.confirmations_of(record):
            trial = SyntheticTrial(BENCHMARK)
            trial.start(begin, training.seed)
            for unit in range(BENCHMARK.resource.max_units):
                if unit in due:
                    trial.save(tmp_path)
                    trial.start(due[unit], training.seed)
                    trial.load(tmp_path)
                last = trial.run_unit()
            assert training.metrics["eval_loss"] == last["eval_loss"]
            assert training.metrics["test_eval_loss"] == trial.evaluate("test")["eval_loss"]

    def test_it_has_a_ledger_of_its_own(self, confirmed: tuple[Records, int]) -> None:
        found, _ = confirmed
        assert found.confirmation_hours > 0
        [run] = stored_runs("synthetic", "tags.hpo.kind = 'confirmation'")
        parts = sum(value for key, value in run.data.metrics.items() if key.startswith("device_hours_"))
        assert parts == pytest.approx(run.data.metrics["device_hours"], rel=0.01)
        assert run.data.metrics["units"] == 6 * BENCHMARK.resource.max_units

    def test_test_is_scored_at_the_full_resource_alone(self, confirmed: tuple[Records, int]) -> None:
        [run] = stored_runs("synthetic", "tags.hpo.kind = 'confirmation'")
        for trial in stored_runs("synthetic", f"tags.mlflow.parentRunId = '{run.info.run_id}'"):
            history = MlflowClient().get_metric_history(trial.info.run_id, "test_f1")
            assert [metric.step for metric in history] == [BENCHMARK.resource.max_units]

    def test_it_is_no_study(self, confirmed: tuple[Records, int]) -> None:
        found, _ = confirmed
        assert [record.method for record in found.studies] == ["pbt", "random"]

    def test_no_study_has_seen_the_test_split(self, confirmed: tuple[Records, int]) -> None:
        found, _ = confirmed
        for record in found.studies:
            assert not [name for name in record.trials if "test" in name]

    def test_the_comparison_has_scores_of_all(self, confirmed: tuple[Records, int]) -> None:
        result = compare.compare(confirmed[0])
        assert {found.name.split()[0] for found in result.standings if found.confirmed.test["test_f1"]} == {
            "pbt",
            "random",
            "default",
        }
        [pair] = result.pairs  # the default configuration is no part of the family
        assert (pair.a.split()[0], pair.b) == ("pbt", "random")
        assert set(result.verdicts.beats_default) == {pair.a, "random"}

    def test_the_plan_is_kept_with_each_study_and_told(self, confirmed: tuple[Records, int], tmp_path: Path) -> None:
        found, _ = confirmed
        [plan] = {record.plan for record in found.studies}
        assert compare.compare(found).plan.sentence.startswith(f"As planned (plan {plan}: 2 contestants x 1 seed, ")
        for look in (1, 1):  # the same scores again are no further look
            assert main(["compare", "--benchmark", "synthetic", "--output", str(tmp_path)]) == 0
            told = json.loads((tmp_path / "comparison.json").read_text())["plan"]
            assert (told["checksum"], told["looks"], told["differences"]) == (plan, look, [])
        evidence = {run.data.tags["hpo.evidence"] for run in stored_runs("synthetic", "tags.hpo.kind = 'comparison'")}
        assert evidence == {compare.compare(found).evidence}
