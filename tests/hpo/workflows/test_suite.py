"""Suites: the studies that they run and those that they keep, and the cost of a failure."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from mlflow import MlflowClient
from rich.console import Console

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis import records
from hpo.analysis.studies import StudyRecord
from hpo.app import cli
from hpo.cluster.ray import detect
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.planning import contest
from hpo.search import registry
from hpo.search.plan import MethodArguments, Plan
from hpo.search.registry import Method
from hpo.store.queries import stored_runs
from hpo.workflows import suite
from hpo.workflows.suite import Outcome
from tests.hpo.engine.in_process import synthetic
from tests.stores import fresh_store, working_in

REPOSITORY = Path(__file__).parents[3]


class TestContestants:
    def test_all_is_every_method_and_random_search_with_twice_the_budget(self) -> None:
        found = [(c.method, c.budget) for c in contest.parse_methods("all", 12)]
        assert found == [*((name, 12) for name in registry.names()), ("random", 24)]

    def test_arguments_and_a_budget_go_with_a_method(self) -> None:
        [contestant] = contest.parse_methods("asha:searcher=optuna:reduction-factor=4:budget=6", 12)
        assert contestant == contest.SuiteMethod("asha", {"searcher": "optuna", "reduction_factor": "4"}, 6)

    def test_a_method_named_twice_runs_once(self) -> None:
        assert [c.method for c in contest.parse_methods("random, asha,random", 12)] == ["random", "asha"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "must name at least one"),
            ("randm", "no method named 'randm'"),
            ("asha:searcher", "METHOD:NAME=VALUE"),
            ("asha:searcher=grid", "argument 'searcher' is 'grid'"),
            ("asha:seeds=3", "argument 'seeds'"),
            ("random:budget=many", "whole number of full trainings"),
        ],
    )
    def test_what_cannot_be_run_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(BenchmarkError, match=message):
            contest.parse_methods(text, 12)

    @pytest.mark.parametrize("text", ["", "a", "1.5", "-1", "0;1"])
    def test_seeds_are_whole_numbers(self, text: str) -> None:
        with pytest.raises(BenchmarkError, match="such as 0,1,2"):
            contest.parse_seeds(text)

    def test_seeds_are_taken_in_their_order_and_once(self) -> None:
        assert contest.parse_seeds("3, 0,3") == [3, 0]

    def test_the_command_runs_the_same_study(self) -> None:
        [contestant] = contest.parse_methods("asha:searcher=optuna", 12)
        given = contest.GivenBenchmark(spec.load("synthetic"), "my files/it.yaml", "space.yaml")
        expected = "python -m hpo run asha --benchmark 'my files/it.yaml' --budget 12 --seed 3 --space space.yaml"
        assert contestant.command(given, 3, 0.5) == f"{expected} --gpu-hours 0.5 --searcher optuna"

    def test_a_variant_is_what_differs_from_the_defaults(self) -> None:
        [contestant] = contest.parse_methods("asha:searcher=optuna:grace_units=1", 12)
        study = contestant.study(spec.load("synthetic"), 3, None)
        assert (study.variant, study.name) == ("searcher=optuna", "asha searcher=optuna seed 3")


class TestFingerprint:
    def test_is_the_same_for_the_same_study(self) -> None:
        assert self.of("asha", 0) == self.of("asha", 0)

    def test_differs_by_method_seed_budget_and_arguments(self) -> None:
        prints = [
            self.of("asha", 0),
            self.of("asha", 1),
            self.of("random", 0),
            self.of("asha:searcher=optuna", 0),
            self.of("asha:budget=5", 0),
        ]
        assert len(set(prints)) == len(prints)

    @staticmethod
    def of(text: str, seed: int) -> str:
        [contestant] = contest.parse_methods(text, 4)
        return contestant.study(spec.load("synthetic"), seed, None).fingerprint("digest")


# ---- suites in this process


def run_here(
    folder: Path, methods: str, *seeds: int, benchmark: Benchmark | None = None, force: bool = False
) -> tuple[Outcome, str]:
    """Run a suite in a folder, with the store there; returns what became of it and what it prints."""
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    given = contest.GivenBenchmark(benchmark or synthetic(), "synthetic")
    with working_in(folder):
        contestants = contest.parse_methods(methods, 2)
        outcome = suite.run_suite(contestants, given, seeds, None, force, console, InProcess(devices=2))
        console.print(suite.summary(outcome))
    return outcome, printed.getvalue()


def finished_in(folder: Path) -> list[StudyRecord]:
    with working_in(folder):
        return list(records.finished("synthetic"))


@pytest.fixture(scope="class")
def every_method(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, str]:
    """Run a suite of all methods with one seed; returns its folder, what became of it and what it prints."""
    folder = tmp_path_factory.mktemp("every")
    return folder, *run_here(folder, "all", 0)


@pytest.mark.slow
class TestEveryMethod:
    def test_every_method_is_run(self, every_method: tuple[Path, Outcome, str]) -> None:
        folder, outcome, _ = every_method
        assert outcome.failures == []
        found = sorted((study.method, study.budget) for study in finished_in(folder))
        assert found == sorted([*((name, 2) for name in registry.names()), ("random", 4)])

    def test_units_and_device_hours_of_every_method_are_shown(self, every_method: tuple[Path, Outcome, str]) -> None:
        assert_shown(every_method[2].splitlines(), len(registry.names()) + 1)

    def test_none_exceeds_its_budget_by_more_than_a_unit_a_device(
        self, every_method: tuple[Path, Outcome, str]
    ) -> None:
        for study in finished_in(every_method[0]):
            assert study.metrics["units"] <= 9 * study.budget + 2, study.method


def assert_shown(printed: list[str], contestants: int) -> None:
    """Look at the rows of the table; random search and ASHA are among them."""
    [heading] = [line for line in printed if "device-hours" in line and "useful" in line][:1]
    rows = [line.split() for line in printed if " 1 of 1 " in line and "|" not in line]
    assert heading.index("units") < heading.index("device-hours")
    assert len(rows) == contestants
    assert ("asha", "18", "18") in [(row[0], row[7], row[8]) for row in rows]
    random = sorted(tuple(row[7:9]) for row in rows if row[0] == "random")
    assert random == [("18", "18"), ("36", "36")][: len(random)]


@pytest.mark.slow
class TestAgain:
    def test_what_is_finished_is_kept(self, tmp_path: Path) -> None:
        run_here(tmp_path, "random,asha", 0)
        outcome, printed = run_here(tmp_path, "random,asha", 0, 1)
        assert outcome.failures == []
        assert [line for line in printed.splitlines() if " 2 of 2 " in line and "|" not in line], printed
        found = [(study.method, study.seed) for study in finished_in(tmp_path)]
        assert sorted(found) == [("asha", 0), ("asha", 1), ("random", 0), ("random", 1)]
        assert "2 of 4 studies are finished already" in printed
        assert len([line for line in printed.splitlines() if "device-hours," in line]) == 2

    def test_what_is_finished_runs_again_if_forced(self, tmp_path: Path) -> None:
        run_here(tmp_path, "random", 0)
        _, printed = run_here(tmp_path, "random", 0, force=True)
        assert "finished already" not in printed
        assert len([line for line in printed.splitlines() if "device-hours," in line]) == 1


# ---- suites as commands


def run_suite(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": fresh_store(folder),
        "PYTHONPATH": str(REPOSITORY),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "hpo", "suite", "--budget", "2", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
class TestCommand:
    @pytest.mark.thorough  # test_readme runs the command, in process and on Ray
    def test_it_runs_on_one_ray_and_ends_with_the_next_command(self, tmp_path: Path) -> None:
        """Every method on Ray's actors is in test_methods_contract."""
        done = run_suite(tmp_path, "--benchmark", "synthetic", "--methods", "random,asha", "--seeds", "0")
        assert (done.returncode, done.stderr) == (0, "")
        assert_shown(done.stdout.splitlines(), 2)
        assert done.stdout.rstrip().endswith("python -m hpo compare --benchmark synthetic --budget 2")

    @pytest.mark.thorough  # a part that raises is such a line too, in process
    def test_a_study_that_cannot_run_is_a_line_and_the_others_run(self, tmp_path: Path) -> None:
        content = yaml.safe_load((REPOSITORY / "benchmarks/synthetic.yaml").read_text())
        content |= {"name": "odd", "resource": {"unit_samples": 640, "max_units": 7}}
        (tmp_path / "odd.yaml").write_text(yaml.safe_dump(content))
        done = run_suite(tmp_path, "--benchmark", "odd.yaml", "--methods", "hyperband,random", "--seeds", "0")
        assert done.returncode == 1
        assert "hyperband seed 0: not run; reduction_factor is 3, but must divide max_units, which is 7" in done.stdout
        assert "random seed 0: best eval_loss" in done.stdout
        assert done.stderr.startswith("error: hyperband seed 0 did not reach its end (reduction_factor is 3")
        assert "Traceback" not in done.stderr

    def test_a_mistake_starts_nothing(self, tmp_path: Path) -> None:
        done = run_suite(tmp_path, "--methods", "asha,bogus")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: no method named 'bogus'")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of its own, for suites that run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield tmp_path
    ray.shutdown()


class Raising(MethodArguments):
    """No arguments."""


@pytest.mark.slow
def test_a_part_that_raises_ends_its_study_with_a_reason_and_keeps_its_results(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A searcher, then a scheduler; the study after them runs as if nothing had been."""
    find = registry.get

    def plan_of(part: str) -> Callable[[Study, Any], Plan]:
        def plan(study: Study, arguments: Raising) -> Plan:
            made = find("asha").make_plan(Study("asha", study.benchmark, study.seed, study.budget))
            victim: Any = getattr(made, part)
            name = "next_trial" if part == "searcher" else "on_trial_result"
            works = getattr(victim, name)
            left = iter(range(5))

            def raising(*given: Any) -> Any:
                if next(left, None) is None:
                    raise ArithmeticError("the density is negative")
                return works(*given)

            setattr(victim, name, raising)
            return made

        return plan

    parts = {part: Method(part, "A method with a fault.", Raising, plan_of(part)) for part in ("searcher", "scheduler")}
    monkeypatch.setattr(registry, "get", lambda name: parts.get(name) or find(name))
    contestants = [contest.SuiteMethod(name, {}, 3) for name in (*parts, "random")]
    given = contest.GivenBenchmark(spec.load("synthetic"), "synthetic")
    outcome = suite.run_suite(contestants, given, [0], None, False, Console(quiet=True), InProcess(devices=2))
    assert [(study.method, reason) for study, reason in outcome.failures] == [
        (part, f"{part} raised ArithmeticError: the density is negative") for part in parts
    ]
    [finished] = records.finished("synthetic")
    assert finished.method == "random"
    for part in parts:
        [failed] = stored_runs("synthetic", f"tags.hpo.kind = 'study' and tags.hpo.method = '{part}'")
        trials = stored_runs("synthetic", f"tags.mlflow.parentRunId = '{failed.info.run_id}'")
        units = sum(len(MlflowClient().get_metric_history(trial.info.run_id, "device_seconds")) for trial in trials)
        assert failed.info.status == "FAILED"
        assert failed.data.metrics["units"] == units >= 5
        assert all(trial.data.tags["hpo.outcome"] in ("completed", "stopped", "interrupted") for trial in trials)


@pytest.mark.parametrize(("failed", "confirms"), [(2, False), (1, True), (0, True)])
def test_a_suite_that_found_nothing_names_nothing_to_confirm(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failed: int, confirms: bool
) -> None:
    studies = [Study("random", synthetic(), seed, budget=2) for seed in (0, 1)]
    outcome = Outcome(studies, [(study, "every trial fails: why") for study in studies[:failed]])
    monkeypatch.setattr(suite, "run_suite", lambda *_, **__: outcome)
    assert cli.main(["suite", "--benchmark", "synthetic", "--methods", "random", "--seeds", "0,1"]) == (failed > 0)
    shown = capsys.readouterr().out
    assert ("confirm on test" in shown, "compare the methods" in shown) == (confirms, confirms)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_cannot_start_are_a_reason_and_no_traceback(
    store: Path, small_nano: Callable[..., Benchmark], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first study, where no trial is that could fail."""
    given = contest.GivenBenchmark(small_nano(timeout_seconds=1e-3), "nano")
    outcome = suite.run_suite(contest.parse_methods("random", 1), given, [0], None, False, Console(quiet=True))
    silent = "TimeoutError: rank 0 did not answer for 0.001 s (timeout_seconds of the benchmark)"
    assert [reason for _, reason in outcome.failures] == [f"every trial fails: {silent}"]
    assert capsys.readouterr().err.splitlines() == [
        f"warning: ranks could not be warmed up ({silent}); each study starts its own"
    ]
    [study] = stored_runs("nano", "tags.hpo.kind = 'study'")
    assert study.info.status == "FAILED"


@pytest.mark.thorough  # test_ranks has the next trial on the same ranks
@pytest.mark.slow
def test_ranks_stay_warm_from_study_to_study(store: Path, small_nano: Callable[..., Benchmark]) -> None:
    """Started once, before the first study: no ledger has the imports, which are most of the warm-up."""
    given = contest.GivenBenchmark(small_nano(), "nano")
    contestants = contest.parse_methods("random,manual", 2)
    console = Console(file=io.StringIO(), width=200)
    outcome = suite.run_suite(contestants, given, [0], None, False, console)
    assert outcome.failures == []
    assert isinstance(console.file, io.StringIO)
    printed = re.search(r"ranks warm after (\d+) s, which count to no study", console.file.getvalue())
    assert printed
    warm_up_seconds = int(printed[1])
    assert warm_up_seconds > 1
    for study in records.finished("nano"):
        startup_seconds = study.metrics["device_hours_startup"] * 3600 / detect().count
        assert startup_seconds < warm_up_seconds / 2, study.method
