"""Studies at once share one tracking store that did not exist before."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import spec
from hpo.core.study import Study
from hpo.search import registry
from hpo.store.tracker import Tracker
from tests.hpo.told import Told

REPOSITORY = Path(__file__).parents[3]
LIMIT_SECONDS = 540
SECONDS_TO_END = 60
"""After the drivers' end: Ray's agents look after half a minute."""
BUDGET, MAX_UNITS = 2, 9
FILES = {"trials.csv", "units.csv", "ledger.csv", "devices.csv", "best_config.json", "benchmark.json", "events.jsonl"}
WRITERS, TRIALS = 10, 4
TEN = [name for name in registry.names() if name != "manual"]  # its grid is larger than the budget


@dataclass(frozen=True)
class Stored:
    """The studies of the benchmark "shared" in a store."""

    store: MlflowClient
    runs: list[Run]

    @classmethod
    def read(cls, uri: str) -> Stored:
        store = MlflowClient(uri)
        [experiment] = [found for found in store.search_experiments() if found.name != "Default"]
        return cls(store, list(store.search_runs([experiment.experiment_id], max_results=10_000)))

    @property
    def studies(self) -> list[Run]:
        return [run for run in self.runs if run.data.tags["hpo.kind"] == "study"]

    def trials_of(self, study: Run) -> list[Run]:
        found = [run for run in self.runs if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]
        return sorted(found, key=lambda run: int(run.data.tags["hpo.trial"]))

    def steps_of(self, trial: Run, metric: str) -> list[int]:
        return [point.step for point in self.store.get_metric_history(trial.info.run_id, metric)]

    def assert_whole(self, trials: list[Run]) -> int:
        """Make sure that trials are numbered without a gap and have each unit's metrics once; returns their units."""
        assert [run.data.tags["hpo.trial"] for run in trials] == [str(number) for number in range(len(trials))]
        steps = [self.steps_of(trial, "eval_loss") for trial in trials]
        assert steps == [list(range(1, len(found) + 1)) for found in steps]
        assert [self.steps_of(trial, "device_seconds") for trial in trials] == steps
        return sum(map(len, steps))


@dataclass(frozen=True)
class Together:
    """Traces of studies that ran at once.

    Attributes:
        statuses: exit status of each.
        errors: stderr of each.
        stored: the store.
        folder: the working directory of all.
        temporary: the temporary folder of all.
        survivors: processes that outlived them.
    """

    statuses: list[int]
    errors: list[str]
    stored: Stored
    folder: Path
    temporary: Path
    survivors: list[psutil.Process]


@contextmanager
def run_together(folder: Path, commands: list[list[str]]) -> Iterator[Together]:
    """Start processes together, each with a Ray of its own, in one folder with one temporary folder."""
    content = yaml.safe_load((REPOSITORY / "benchmarks" / "synthetic.yaml").read_text())
    (folder / "shared.yaml").write_text(yaml.safe_dump({**content, "name": "shared"}, sort_keys=False))
    uri = f"sqlite:///{folder}/fresh/mlflow.db"
    with tempfile.TemporaryDirectory(prefix="hpo-") as temporary:  # a short path: Ray's sockets lie in it
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": uri}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": temporary, "RAY_TMPDIR": temporary}
        environment.pop("MLFLOW_RUN_ID", None)
        command = [sys.executable, "-m", "hpo", "run", "--benchmark", "shared.yaml", "--budget", str(BUDGET)]
        files = [(folder / f"errors{number}").open("w+") for number in range(len(commands))]
        processes = [
            subprocess.Popen(
                [*command[:4], *own, *command[4:]], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=file
            )
            for own, file in zip(commands, files, strict=True)
        ]
        try:
            deadline = time.monotonic() + LIMIT_SECONDS
            statuses = [process.wait(timeout=max(1.0, deadline - time.monotonic())) for process in processes]
        finally:
            for process in processes:
                process.kill()
        _, survivors = psutil.wait_procs(_processes_in(temporary), timeout=SECONDS_TO_END)
        errors = [(folder / f"errors{number}").read_text() for number in range(len(commands))]
        yield Together(statuses, errors, Stored.read(uri), folder, Path(temporary), survivors)


def _processes_in(temporary: str) -> list[psutil.Process]:
    """List the processes that have this temporary folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += [process] * (process.environ().get("RAY_TMPDIR") == temporary)
    return found


@pytest.fixture(scope="class")
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """Run the commands of a test class, in a folder with a space and a quote in its name."""
    with run_together(tmp_path_factory.mktemp("it's shared"), list(request.cls.commands)) as left:
        yield left


class Contract:
    """Whatever studies run at once, each is as if it had run alone."""

    def test_all_reach_their_end(self, together: Together) -> None:
        assert together.statuses == [0] * len(together.statuses), together.errors
        assert [study.info.status for study in together.stored.studies] == ["FINISHED"] * len(together.statuses)

    def test_none_says_anything_on_stderr(self, together: Together) -> None:
        assert together.errors == [""] * len(together.errors)

    def test_every_trial_has_ended_and_belongs_to_one_study(self, together: Together) -> None:
        trials = [run for study in together.stored.studies for run in together.stored.trials_of(study)]
        assert len(trials) + len(together.stored.studies) == len(together.stored.runs)
        assert {run.info.status for run in trials} == {"FINISHED"}

    def test_every_unit_is_stored_once(self, together: Together) -> None:
        for study in together.stored.studies:
            trials = together.stored.trials_of(study)
            metrics = study.data.metrics
            assert (metrics["num_trials"], metrics["units"]) == (len(trials), together.stored.assert_whole(trials))
            assert 0 < metrics["units"] <= BUDGET * MAX_UNITS

    def test_the_files_hold_what_the_runs_hold(self, together: Together, tmp_path: Path) -> None:
        for study in together.stored.studies:
            trials = together.stored.trials_of(study)
            run_id = study.info.run_id
            assert {item.path for item in together.stored.store.list_artifacts(run_id)} == FILES
            there = Path(together.stored.store.download_artifacts(run_id, "", str(tmp_path)))
            tables = {name: list(csv.DictReader((there / name).open())) for name in ("trials.csv", "units.csv")}
            assert [row["trial"] for row in tables["trials.csv"]] == [run.data.tags["hpo.trial"] for run in trials]
            assert len(tables["units.csv"]) == study.data.metrics["units"]
            losses = [run.data.metrics["eval_loss"] for run in trials]
            assert [float(row["eval_loss"]) for row in tables["trials.csv"]] == losses
            best = json.loads((there / "best_config.json").read_text())
            assert best["run_id"] in {run.info.run_id for run in trials}
            assert best["metrics"]["eval_loss"] == study.data.metrics["best_eval_loss"]

    def test_nothing_is_left(self, together: Together) -> None:
        """Neither processes nor temporary files, nor anything that could be resumed."""
        assert together.survivors == []
        assert [path for path in together.temporary.rglob("*") if not path.is_dir()] == []
        assert not (together.folder / "unfinished").exists()


@pytest.mark.thorough  # test_ten_drivers_write_to_a_new_store_at_once is of the same kind
@pytest.mark.slow  # two processes start Ray and create the store's tables: about 40 s on two cores
@pytest.mark.timeout(600)
class TestTheSameStudyTwiceAtOnce(Contract):
    commands = (["random", "--seed", "3"], ["random", "--seed", "3"])

    def test_they_are_two_studies_with_the_same_results(self, together: Together) -> None:
        one, other = (
            [(run.data.params, run.data.metrics["eval_loss"]) for run in together.stored.trials_of(study)]
            for study in together.stored.studies
        )
        assert one == other


@pytest.mark.thorough  # ten Rays at once on two cores: three minutes
@pytest.mark.timeout(900)
class TestTenStudiesAtOnce(Contract):
    commands = tuple([method] for method in TEN)

    def test_each_method_has_its_study(self, together: Together) -> None:
        assert sorted(study.data.tags["hpo.method"] for study in together.stored.studies) == TEN


# ---- the store alone, under more load than ten studies make


def write_study(uri: str, seed: int, start: Any) -> None:
    """Write as a driver writes for a study, as fast as it can."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    benchmark = spec.load("synthetic").model_copy(update={"name": "shared"})
    study, metrics = Study("random", benchmark, seed=seed, budget=TRIALS), dict.fromkeys(("eval_loss", "f1"), 1.0)
    start.wait()
    told = Told(study, Tracker(study, "cpu", "python -m hpo"))
    for trial in map(str, range(TRIALS)):
        told.begin(trial, study.benchmark.default.model_dump())
        for unit in range(1, MAX_UNITS + 1):
            told.report(trial, {**metrics, "units": unit})
        told.end(trial)
    told.finish()


@pytest.mark.slow  # 400 units from ten processes: 20 s on two cores
def test_ten_drivers_write_to_a_new_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    uri, context = f"sqlite:///{tmp_path}/fresh/mlflow.db", multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start = context.Barrier(WRITERS)
    drivers = [context.Process(target=write_study, args=(uri, seed, start)) for seed in range(WRITERS)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(LIMIT_SECONDS)
    assert [driver.exitcode for driver in drivers] == [0] * WRITERS
    stored = Stored.read(uri)
    assert sorted(int(study.data.tags["hpo.seed"]) for study in stored.studies) == list(range(WRITERS))
    for study in stored.studies:
        assert study.info.status == "FINISHED"
        trials = stored.trials_of(study)
        assert (len(trials), stored.assert_whole(trials)) == (TRIALS, TRIALS * MAX_UNITS)
        assert {item.path for item in stored.store.list_artifacts(study.info.run_id)} == FILES
