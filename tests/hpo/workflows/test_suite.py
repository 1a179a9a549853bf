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
from hpo import methods
from hpo.analysis import records
from hpo.core.study import Study
from hpo.engine import runner
from hpo.search import registry
from hpo.search.plan import MethodArguments, Plan
from hpo.search.registry import Method
from hpo.store.queries import stored_runs
from hpo.workflows import suite
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[3]


class TestContestants:
    def test_all_is_every_method_and_random_search_with_twice_the_budget(self) -> None:
        found = [(c.method, c.budget) for c in suite.parse_methods("all", 12)]
        assert found == [*((name, 12) for name in registry.names()), ("random", 24)]

    def test_arguments_and_a_budget_go_with_a_method(self) -> None:
        [contestant] = suite.parse_methods("asha:searcher=optuna:reduction-factor=4:budget=6", 12)
        assert contestant == suite.SuiteMethod("asha", {"searcher": "optuna", "reduction_factor": "4"}, 6)

    def test_a_method_named_twice_runs_once(self) -> None:
        assert [c.method for c in suite.parse_methods("random, asha,random", 12)] == ["random", "asha"]

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
            suite.parse_methods(text, 12)

    @pytest.mark.parametrize("text", ["", "a", "1.5", "-1", "0;1"])
    def test_seeds_are_whole_numbers(self, text: str) -> None:
        with pytest.raises(BenchmarkError, match="such as 0,1,2"):
            suite.parse_seeds(text)

    def test_seeds_are_taken_in_their_order_and_once(self) -> None:
        assert suite.parse_seeds("3, 0,3") == [3, 0]

    def test_the_command_runs_the_same_study(self) -> None:
        [contestant] = suite.parse_methods("asha:searcher=optuna", 12)
        given = suite.GivenBenchmark(spec.load("synthetic"), "my files/it.yaml", "space.yaml")
        expected = "python -m hpo run asha --benchmark 'my files/it.yaml' --budget 12 --seed 3 --space space.yaml"
        assert contestant.command(given, 3, 0.5) == f"{expected} --gpu-hours 0.5 --searcher optuna"

    def test_a_variant_is_what_differs_from_the_defaults(self) -> None:
        [contestant] = suite.parse_methods("asha:searcher=optuna:grace_units=1", 12)
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
        [contestant] = suite.parse_methods(text, 4)
        return contestant.study(spec.load("synthetic"), seed, None).fingerprint("digest")


# ---- real suites


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory and a store of its own."""
    return tmp_path_factory.mktemp("suite")


def run_suite(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": fresh_store(folder),
        "PYTHONPATH": str(REPOSITORY),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "hpo", "suite", "--budget", "2", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def every_method(folder: Path) -> subprocess.CompletedProcess[str]:
    """A suite of all methods with one seed."""
    return run_suite(folder, "--benchmark", "synthetic", "--methods", "all", "--seeds", "0")


@pytest.mark.slow
class TestSuite:
    """In the order of the file: later tests find what earlier ones have stored."""

    SMALL = ("--benchmark", "synthetic", "--methods", "random,asha", "--seeds", "0,1")

    def test_runs_every_method(
        self, every_method: subprocess.CompletedProcess[str], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert (every_method.returncode, every_method.stderr) == (0, "")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        found = sorted((study.method, study.budget) for study in records.finished("synthetic"))
        assert found == sorted([*((name, 2) for name in registry.names()), ("random", 4)])
        assert every_method.stdout.rstrip().endswith("python -m hpo compare --benchmark synthetic --budget 2")

    def test_shows_units_and_device_hours_of_every_method(self, every_method: subprocess.CompletedProcess[str]) -> None:
        printed = every_method.stdout.splitlines()
        [heading] = [line for line in printed if "device-hours" in line and "useful" in line][:1]
        rows = [line.split() for line in printed if " 1 of 1 " in line and "|" not in line]
        assert heading.index("units") < heading.index("device-hours")
        assert len(rows) == len(registry.names()) + 1
        assert ("asha", "18", "18") in [(row[0], row[7], row[8]) for row in rows]
        assert sorted(tuple(row[7:9]) for row in rows if row[0] == "random") == [("18", "18"), ("36", "36")]

    def test_none_exceeds_its_budget_by_more_than_a_unit_a_device(
        self, every_method: subprocess.CompletedProcess[str], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for study in records.finished("synthetic"):
            assert study.metrics["units"] <= 9 * study.budget + runner.detect().count, study.method

    def test_keeps_what_is_finished(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done = run_suite(folder, *self.SMALL)
        assert done.returncode == 0
        assert [line for line in done.stdout.splitlines() if " 2 of 2 " in line and "|" not in line], done.stdout
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        found = {(study.method, study.seed) for study in records.finished("synthetic")}
        assert {("asha", 0), ("asha", 1), ("random", 0), ("random", 1)} <= found
        assert "2 of 4 studies are finished already" in done.stdout
        assert len([line for line in done.stdout.splitlines() if "device-hours," in line]) == 2

    def test_runs_again_what_is_finished_if_forced(self, folder: Path) -> None:
        done = run_suite(folder, *self.SMALL, "--methods", "random", "--seeds", "0", "--force")
        assert "finished already" not in done.stdout
        assert len([line for line in done.stdout.splitlines() if "device-hours," in line]) == 1

    def test_a_study_that_cannot_run_is_a_line_and_the_others_run(self, folder: Path) -> None:
        content = yaml.safe_load((REPOSITORY / "benchmarks/synthetic.yaml").read_text())
        content |= {"name": "odd", "resource": {"unit_samples": 640, "max_units": 7}}
        (folder / "odd.yaml").write_text(yaml.safe_dump(content))
        done = run_suite(folder, "--benchmark", "odd.yaml", "--methods", "hyperband,random", "--seeds", "0")
        assert done.returncode == 1
        assert "hyperband seed 0: not run; reduction_factor is 3, but must divide max_units, which is 7" in done.stdout
        assert "random seed 0: best eval_loss" in done.stdout
        assert done.stderr.startswith("error: hyperband seed 0 did not reach its end (reduction_factor is 3")
        assert "Traceback" not in done.stderr

    def test_a_mistake_starts_nothing(self, folder: Path) -> None:
        done = run_suite(folder, "--methods", "asha,bogus")
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
    monkeypatch.setattr(methods, "get", lambda name: parts.get(name) or find(name))
    contestants = [suite.SuiteMethod(name, {}, 3) for name in (*parts, "random")]
    given = suite.GivenBenchmark(spec.load("synthetic"), "synthetic")
    outcome = suite.run_suite(contestants, given, [0], None, False, Console(quiet=True))
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


@pytest.mark.slow
def test_ranks_stay_warm_from_study_to_study(store: Path, small_nano: Callable[..., Benchmark]) -> None:
    """Started once, before the first study: no ledger has the imports, which are most of the warm-up."""
    given = suite.GivenBenchmark(small_nano(), "nano")
    contestants = suite.parse_methods("random,manual", 2)
    console = Console(file=io.StringIO(), width=200)
    outcome = suite.run_suite(contestants, given, [0], None, False, console)
    assert outcome.failures == []
    assert isinstance(console.file, io.StringIO)
    printed = re.search(r"ranks warm after (\d+) s, which count to no study", console.file.getvalue())
    assert printed
    warm_up_seconds = int(printed[1])
    assert warm_up_seconds > 1
    for study in records.finished("nano"):
        startup_seconds = study.metrics["device_hours_startup"] * 3600 / runner.detect().count
        assert startup_seconds < warm_up_seconds / 2, study.method
