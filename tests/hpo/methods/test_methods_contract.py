"""The contract of every method. The methods are found by their files, so a new one is held to it at once.

Each runs a small study on two devices, on closed-form learning curves of which a third diverges: at
`diverge_above: 1e-3` every larger learning rate gives NaN from its second unit on. Actors run in this process, and
for one method that pauses, stops and clones them, on Ray as well.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.ledger import PARTS
from hpo.core.results import TrialRow
from hpo.core.study import PROTOCOL, Study, training_of
from hpo.engine.in_process import InProcess
from hpo.engine.runner import Executor, Finished, OnRay, run
from hpo.search import plan, registry
from hpo.search.searchers import proposals
from tests.hpo.engine.in_process import run as run_in_process
from tests.stores import working_in

BUDGET, SEED = 4, 3
DIVERGE_ABOVE = 1e-3
SECTIONS = (
    "Behaviour",
    "Limits",
    "Arguments and the paper's symbols",
    "When to use it",
    "Logged metrics",
    "Cost",
)
ON_RAY = ("pbt",)
"""Methods whose study runs on Ray as well."""
FINITE = ("manual", "default")
"""Methods that propose what they have and no more."""
STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}
STUDY_METRICS = set(
    "device_hours gpu_hours wall_seconds num_trials units best_eval_loss best_exact_match best_f1 utilization".split()
)
TRIAL_METRICS = set(
    "eval_loss perplexity exact_match f1 train_loss samples_per_second device_seconds peak_memory_mb".split()
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give all studies one tracking store."""
    with working_in(tmp_path_factory.mktemp("contract")):
        yield


@dataclass(frozen=True)
class Ran:
    """A study that has run, and what MLflow has of it."""

    study: Study
    finished: Finished
    printed: str

    @property
    def rows(self) -> list[TrialRow]:
        return self.finished.books.rows

    @cached_property
    def parent(self) -> Run:
        return MlflowClient().get_run(self.finished.run_id)

    @cached_property
    def children(self) -> list[Run]:
        """Read the trials' runs, by number of the trial."""
        wanted = f"tags.mlflow.parentRunId = '{self.finished.run_id}'"
        found = MlflowClient().search_runs([self.parent.info.experiment_id], filter_string=wanted)
        return sorted(found, key=lambda child: int(child.data.tags["hpo.trial"]))

    def artifact(self, name: str) -> str:
        folder = MlflowClient().download_artifacts(self.finished.run_id, name)
        return Path(folder).read_text()

    def steps(self, child: Run, metric: str) -> list[int]:
        """List the units at which a trial's run has a metric."""
        return sorted(point.step for point in MlflowClient().get_metric_history(child.info.run_id, metric))


def a_third_diverges() -> Benchmark:
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    synthetic = benchmark.synthetic.model_copy(update={"seconds_per_unit": 0.001, "diverge_above": DIVERGE_ABOVE})
    grid = {"weight_decay": (0.0, 0.01), "learning_rate": (1e-4, 1e-2, 1e-3)}
    return benchmark.model_copy(update={"synthetic": synthetic, "grid": grid})


def is_above(config: dict[str, Any]) -> bool:
    """Tell whether a configuration diverges, from its second unit on."""
    return float(config["learning_rate"]) > DIVERGE_ABOVE


def run_study(method: str, executor: Executor) -> Ran:
    out = io.StringIO()
    study = Study(method, a_third_diverges(), seed=SEED, budget=BUDGET)
    finished = run(study, f"python -m hpo run {method}", Console(file=out, width=160), executor)
    return Ran(study, finished, out.getvalue())


@pytest.fixture(scope="module", params=registry.names())
def method(request: pytest.FixtureRequest) -> registry.Method:
    return registry.get(request.param)


@pytest.fixture(
    scope="module",
    params=[*((name, "in process") for name in registry.names()), *((name, "on Ray") for name in ON_RAY)],
    ids=" ".join,
)
def ran(request: pytest.FixtureRequest, store: None) -> Ran:
    name, where = request.param
    if where == "in process":
        return run_study(name, InProcess(devices=2))
    request.getfixturevalue("ray_of_two")
    return run_study(name, OnRay())


class TestModule:
    """Claims about a method's module; nothing runs."""

    def test_summary_is_a_sentence_in_one_line(self, method: registry.Method) -> None:
        assert method.summary.endswith(".")

    def test_docstring_cites_a_source(self, method: registry.Method) -> None:
        assert "https://" in method.page

    def test_page_explains_every_argument(self, method: registry.Method) -> None:
        """Except the one that all searches share, which docs/methods.md explains."""
        own = set(method.arguments.model_fields) - set(plan.SearchArguments.model_fields)
        lacking = [name for name in sorted(own) if f"`{name}`" not in method.page]
        assert lacking == []

    @pytest.mark.parametrize("section", SECTIONS)
    def test_docstring_has_every_section(self, method: registry.Method, section: str) -> None:
        assert f"\n{section}: " in method.page

    def test_arguments_are_strict_and_immutable(self, method: registry.Method) -> None:
        assert method.arguments.model_config.get("extra") == "forbid"
        assert method.arguments.model_config.get("frozen") is True

    def test_every_argument_has_a_description(self, method: registry.Method) -> None:
        lacking = [name for name, field in method.arguments.model_fields.items() if not field.description]
        assert lacking == []

    def test_every_argument_has_a_default(self, method: registry.Method) -> None:
        assert isinstance(method.parse({}), plan.MethodArguments)

    def test_arguments_may_be_given_as_text(self, method: registry.Method) -> None:
        texts = {name: str(value) for name, value in method.arguments().model_dump().items()}
        assert method.parse(texts) == method.arguments()

    def test_an_unknown_argument_is_refused_with_the_known_ones(self, method: registry.Method) -> None:
        known = ", ".join(method.arguments.model_fields) or "none"
        with pytest.raises(BenchmarkError, match="'no_such_argument'") as refused:
            method.parse({"no_such_argument": 7})
        assert f"(arguments of {method.name}: {known})" in str(refused.value)

    def test_an_unknown_argument_of_a_study_is_refused(self, method: registry.Method) -> None:
        study = Study(method.name, a_third_diverges(), arguments={"no_such_argument": 7})
        with pytest.raises(BenchmarkError, match="'no_such_argument'"):
            method.make_plan(study)

    def test_makes_a_plan(self, method: registry.Method) -> None:
        assert isinstance(method.make_plan(Study(method.name, a_third_diverges())), plan.Plan)

    def test_makes_a_plan_for_the_largest_seed(self, method: registry.Method) -> None:
        study = Study(method.name, a_third_diverges(), seed=2**32 - 1)
        assert isinstance(method.make_plan(study), plan.Plan)

    def test_makes_a_plan_where_the_metric_is_maximised(self, method: registry.Method) -> None:
        benchmark = a_third_diverges().model_copy(update={"metric": "f1", "mode": "max"})
        plan = method.make_plan(Study(method.name, benchmark))
        assert getattr(plan.searcher, "mode", None) in (None, "max")


@pytest.mark.slow  # more than a second each
class TestStudy:
    """Claims about a study of the method, once it has ended."""

    def test_reaches_its_end(self, ran: Ran) -> None:
        assert ran.finished.reason == ""
        assert ran.finished.reached_end

    def test_spends_no_more_than_its_budget(self, ran: Ran) -> None:
        assert sum(row.trained_units for row in ran.rows) <= ran.study.budget_units

    def test_leaves_no_more_than_it_could_not_use(self, ran: Ran) -> None:
        """Nothing where a new trial reserves a unit; else less than a full training; proposals may run out."""
        plan = registry.get(ran.study.method).make_plan(ran.study)
        stops_anywhere = plan.scheduler is not None and plan.admission is None
        left = ran.study.budget_units - sum(row.trained_units for row in ran.rows)
        assert ran.study.method in FINITE or left < (1 if stops_anywhere else ran.study.max_units)

    def test_no_trial_goes_beyond_the_full_resource(self, ran: Ran) -> None:
        assert max(row.units for row in ran.rows) <= ran.study.max_units

    def test_no_trial_fails(self, ran: Ran) -> None:
        assert [row.reason for row in ran.rows if row.outcome == "failed"] == []

    def test_every_trial_has_a_unit(self, ran: Ran) -> None:
        assert min(row.units for row in ran.rows) >= 1

    def test_proposals_lie_in_the_search_space(self, ran: Ran) -> None:
        space = ran.study.benchmark.space
        configs = [config for row in ran.rows for config in (row.config, *(later for _, later in row.schedule))]
        assert all(domain.contains(config[n]) for config in configs for n, domain in space.items() if n in config)

    def test_one_seed_gives_the_same_first_proposals(self, ran: Ran) -> None:
        """Whatever the budget, and whatever actors run on."""
        study = Study(ran.study.method, ran.study.benchmark, seed=SEED, budget=2)
        again = run_in_process(study, InProcess(devices=2))
        assert [row.config for row in again.books.rows[:2]] == [row.config for row in ran.rows[:2]]

    def test_what_needs_no_results_can_be_proposed_without_running(self, ran: Ran) -> None:
        """So that jobs without Ray train the same trials."""
        if ran.study.method not in ("manual", "random", "default"):
            with pytest.raises(BenchmarkError, match="learns from results"):
                proposals(ran.study)
            return
        proposed = [training_of(ran.study, config) for config in proposals(ran.study)]
        found = [(row.seed, row.config) for row in ran.rows]
        assert [(training.seed, training.config) for training in proposed] == found[: len(proposed)]

    # ---- divergence

    def test_a_trial_above_the_limit_is_tagged_diverged(self, ran: Ran) -> None:
        """It is so from the second unit on; a method may have stopped it before."""
        proposed = [row.config for row in ran.rows]
        assert ran.study.method == "default" or any(is_above(config) for config in proposed), "this seed should do"
        diverging = [row for row in ran.rows if is_above(row.last_config) and row.units > 1]
        assert {row.outcome for row in diverging} <= {"diverged"}

    def test_a_diverged_trial_ends_where_it_diverged_or_takes_over_another(self, ran: Ran) -> None:
        assert {row.units for row in ran.rows if row.outcome == "diverged" and not row.varies} <= {2}

    def test_no_other_trial_is_tagged_diverged(self, ran: Ran) -> None:
        assert [row for row in ran.rows if row.outcome == "diverged" and not is_above(row.last_config)] == []

    def test_the_incumbent_has_not_diverged(self, ran: Ran) -> None:
        incumbent = ran.finished.books.incumbent()
        assert incumbent is not None
        assert incumbent.outcome in ("completed", "stopped")
        assert not is_above(incumbent.last_config) or incumbent.units == 1

    # ---- the study's run in MLflow

    def test_the_study_s_run_is_finished(self, ran: Ran) -> None:
        assert ran.parent.info.status == "FINISHED"

    def test_the_study_s_run_lies_in_the_benchmark_s_experiment(self, ran: Ran) -> None:
        assert MlflowClient().get_experiment(ran.parent.info.experiment_id).name == ran.study.benchmark.name

    def test_the_study_s_tags(self, ran: Ran) -> None:
        expected = {
            "hpo.kind": "study",
            "hpo.method": ran.study.method,
            "hpo.benchmark": "synthetic",
            "hpo.seed": str(SEED),
            "hpo.budget": str(BUDGET),
            "hpo.accelerator": "cpu",
            "hpo.protocol": PROTOCOL,
        }
        assert {key: ran.parent.data.tags.get(key) for key in expected} == expected

    def test_the_study_s_metrics(self, ran: Ran) -> None:
        assert set(ran.parent.data.metrics) >= STUDY_METRICS

    def test_the_study_s_totals_are_its_trials(self, ran: Ran) -> None:
        metrics = ran.parent.data.metrics
        assert (metrics["num_trials"], metrics["units"]) == (
            len(ran.rows),
            sum(row.trained_units for row in ran.rows),
        )

    def test_the_study_s_best_is_the_incumbent(self, ran: Ran) -> None:
        incumbent = ran.finished.books.incumbent()
        assert incumbent is not None
        best = {key: ran.parent.data.metrics[f"best_{key}"] for key in ("eval_loss", "exact_match", "f1")}
        assert best == {key: incumbent.metrics[key] for key in best}

    def test_no_gpu_hours_without_a_gpu(self, ran: Ran) -> None:
        assert ran.parent.data.metrics["gpu_hours"] == 0.0

    def test_the_ledger_s_parts_add_up_to_the_device_hours(self, ran: Ran) -> None:
        metrics = ran.parent.data.metrics
        parts = sum(metrics[f"device_hours_{part}"] for part in PARTS)
        assert parts == pytest.approx(metrics["device_hours"], rel=0.01)

    def test_trials_measured_no_more_than_was_reserved(self, ran: Ran) -> None:
        shares = (
            ran.finished.shares
        )  # idle is the remainder and never negative, so too much measured time shows in the sum
        assert sum(shares.seconds.values()) <= shares.reserved_seconds * 1.001

    def test_device_hours_are_devices_times_the_study_s_length(self, ran: Ran) -> None:
        metrics = ran.parent.data.metrics
        devices = metrics["device_hours"] * 3600 / metrics["wall_seconds"]
        assert devices == pytest.approx(round(devices))
        assert round(devices) in (1, 2)

    def test_the_study_s_files(self, ran: Ran) -> None:
        files = {item.path for item in MlflowClient().list_artifacts(ran.finished.run_id)}
        assert files >= {"trials.csv", "ledger.csv", "best_config.json"}

    def test_trials_csv_has_a_line_a_trial(self, ran: Ran) -> None:
        lines = list(csv.DictReader(io.StringIO(ran.artifact("trials.csv"))))
        found = [(int(line["trial"]), line["outcome"], int(line["units"]), line["reason"]) for line in lines]
        assert found == [(row.number, row.outcome, row.units, row.reason) for row in ran.rows]

    def test_ledger_csv_adds_up(self, ran: Ran) -> None:
        lines = {line["part"]: line for line in csv.DictReader(io.StringIO(ran.artifact("ledger.csv")))}
        assert list(lines) == [*PARTS, "reserved"]
        parts = sum(float(lines[part]["device_seconds"]) for part in PARTS)
        rounded = 0.0005 * len(lines)
        assert parts == pytest.approx(float(lines["reserved"]["device_seconds"]), rel=0.01, abs=rounded)

    def test_best_config_json_is_the_incumbent(self, ran: Ran) -> None:
        incumbent = ran.finished.books.incumbent()
        assert incumbent is not None
        expected: dict[str, Any] = {
            "benchmark": "synthetic",
            "method": ran.study.method,
            "seed": SEED,
            "units": incumbent.units,
            "config": incumbent.last_config,
            "metrics": incumbent.metrics,
            "run_id": ran.children[incumbent.number].info.run_id,
        }
        if incumbent.exploits:
            expected["schedule"] = [{"units": units, "config": config} for units, config in incumbent.schedule]
        assert json.loads(ran.artifact("best_config.json")) == expected

    # ---- the trials' runs in MLflow

    def test_every_trial_has_a_run(self, ran: Ran) -> None:
        assert [int(child.data.tags["hpo.trial"]) for child in ran.children] == [row.number for row in ran.rows]

    def test_every_trial_s_run_is_tagged_as_one(self, ran: Ran) -> None:
        assert {child.data.tags["hpo.kind"] for child in ran.children} == {"trial"}

    def test_every_trial_s_run_has_outcome_and_reason(self, ran: Ran) -> None:
        tags = [(child.data.tags["hpo.outcome"], child.data.tags["hpo.reason"]) for child in ran.children]
        assert tags == [(row.outcome, row.reason) for row in ran.rows]

    def test_every_trial_s_run_is_closed(self, ran: Ran) -> None:
        assert [child.info.status for child in ran.children] == [STATUS[row.outcome] for row in ran.rows]

    def test_every_trial_s_run_has_its_hyperparameters(self, ran: Ran) -> None:
        params = [child.data.params for child in ran.children]
        assert params == [{key: str(value) for key, value in row.config.items()} for row in ran.rows]

    def test_every_trial_s_run_has_the_metrics(self, ran: Ran) -> None:
        sound = [child for child, row in zip(ran.children, ran.rows, strict=True) if row.outcome != "diverged"]
        assert [TRIAL_METRICS - set(child.data.metrics) for child in sound] == [set()] * len(sound)

    def test_every_unit_of_every_trial_is_stored(self, ran: Ran) -> None:
        steps = [ran.steps(child, "device_seconds") for child in ran.children]
        assert [(len(units), units[-1]) for units in steps] == [(row.trained_units, row.units) for row in ran.rows]
        assert [units for units, row in zip(steps, ran.rows, strict=True) if not row.varies] == [
            list(range(1, row.units + 1)) for row in ran.rows if not row.varies
        ]

    def test_every_loss_but_nan_is_stored(self, ran: Ran) -> None:
        pairs = [(child, row) for child, row in zip(ran.children, ran.rows, strict=True) if not row.varies]
        finite = [row.units - (row.outcome == "diverged") for _, row in pairs]
        steps = [ran.steps(child, "eval_loss") for child, _ in pairs]
        assert steps == [list(range(1, units + 1)) for units in finite]

    # ---- what is shown

    def test_the_report_shows_the_best_trial(self, ran: Ran) -> None:
        shown = json.loads(ran.printed[ran.printed.index("best trial:") :].partition("\n")[2])
        assert shown["run_id"] == json.loads(ran.artifact("best_config.json"))["run_id"]

    def test_the_report_says_why_trials_diverged(self, ran: Ran) -> None:
        reasons = [f"trial {row.number} diverged: {row.reason}" for row in ran.rows if row.outcome == "diverged"]
        assert all(reason in ran.printed for reason in reasons)
