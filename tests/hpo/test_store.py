"""Two studies at once share one tracking store that did not exist before."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

REPOSITORY = Path(__file__).parents[2]
SEEDS = (0, 1)
LIMIT_SECONDS = 240


@dataclass(frozen=True)
class Both:
    """What two studies at once left behind: exit statuses, stderr, and the store."""

    statuses: list[int]
    errors: list[str]
    store: MlflowClient

    @property
    def runs(self) -> list[Run]:
        experiment = self.store.get_experiment_by_name("shared")
        assert experiment is not None
        return list(self.store.search_runs([experiment.experiment_id]))

    @property
    def studies(self) -> list[Run]:
        found = [run for run in self.runs if run.data.tags["hpo.kind"] == "study"]
        return sorted(found, key=lambda run: run.data.tags["hpo.seed"])

    def trials_of(self, study: Run) -> list[Run]:
        return [run for run in self.runs if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Two processes, each with a Ray of its own, started together in a folder with a space and a quote in its name."""
    folder = tmp_path_factory.mktemp("it's shared")
    content = yaml.safe_load((REPOSITORY / "benchmarks" / "synthetic.yaml").read_text())
    (folder / "shared.yaml").write_text(yaml.safe_dump({**content, "name": "shared"}, sort_keys=False))
    uri = f"sqlite:///{folder}/fresh/mlflow.db"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": uri, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("MLFLOW_RUN_ID", None)
    command = [sys.executable, "-m", "hpo", "run", "random", "--benchmark", "shared.yaml", "--budget", "2", "--seed"]
    processes = [
        subprocess.Popen(
            [*command, str(seed)],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in SEEDS
    ]
    try:
        errors = [process.communicate(timeout=LIMIT_SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return Both([process.returncode for process in processes], errors, MlflowClient(uri))


@pytest.mark.slow  # two processes start Ray and create the store's tables: about 30 s on two cores
class TestTwoStudiesAtOnce:
    def test_both_reach_their_end(self, both: Both) -> None:
        assert both.statuses == [0, 0], both.errors

    def test_neither_prints_a_traceback(self, both: Both) -> None:
        assert not [error for error in both.errors if "Traceback" in error]

    def test_both_are_stored_as_finished(self, both: Both) -> None:
        found = [(study.data.tags["hpo.seed"], study.info.status) for study in both.studies]
        assert found == [(str(seed), "FINISHED") for seed in SEEDS]

    def test_neither_has_the_other_s_trials(self, both: Both) -> None:
        numbers = [sorted(run.data.tags["hpo.trial"] for run in both.trials_of(study)) for study in both.studies]
        assert numbers == [[str(i) for i in range(int(s.data.metrics["num_trials"]))] for s in both.studies]

    def test_every_unit_of_both_is_stored(self, both: Both) -> None:
        for study in both.studies:
            histories = [
                both.store.get_metric_history(run.info.run_id, "device_seconds") for run in both.trials_of(study)
            ]
            assert sum(map(len, histories)) == study.data.metrics["units"]

    def test_both_have_their_files(self, both: Both) -> None:
        for study in both.studies:
            files = {item.path for item in both.store.list_artifacts(study.info.run_id)}
            assert files >= {"trials.csv", "ledger.csv", "best_config.json"}
