"""A task of one's own: one more file in `benchmarks/tasks`, from `run` to the report and the export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.benchmarks.tasks import own_task
from tests.stores import fresh_store
from tests.studies import finish, read, start

FOREIGN = ("exact_match", "Exact Match", "f1", "F1", "EM ")
"""Words of question answering."""


class Suite:
    """Commands on the benchmark of the task, in processes that find one more file in `benchmarks/tasks`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, fresh_store(folder)
        (folder / "tree").mkdir()
        self._tree = own_task.tree_with_task(folder / "tree")
        (folder / "own.yaml").write_text(yaml.safe_dump(own_task.content(folder)))

    def command(self, verb: str, *words: object) -> str:
        """Run a command to its end; returns its output."""
        given = (*words, "--benchmark", self.folder / "own.yaml")
        status, out, err = finish(start(self.store, *given, verb=verb, python_path=self._tree))
        assert status == 0, err
        return out


# thorough: six commands, each in processes of its own. The contract is held by tests/benchmarks/tasks/test_contract.py
@pytest.mark.thorough
def test_a_file_is_all_that_a_task_takes(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    shown = suite.command("run", "random", "--budget", 2)
    assert "best trial" in shown
    study, trials = read(suite.store, "own")
    assert {"best_eval_loss", "best_accuracy", "best_ece"} <= set(study.data.metrics)
    assert {"accuracy", "ece", "eval_loss"} <= set(trials[0].data.metrics)
    suite.command("run", "asha", "--budget", 2)
    suite.command("confirm", "--repeats", 1)
    compared = suite.command("compare", "--output", tmp_path / "compared")
    assert "test ECE" in compared
    [header, *_] = csv.reader((tmp_path / "compared/comparison.csv").read_text().splitlines())
    assert [name for name in header if name.startswith("test_") and not name.endswith(("_low", "_high"))] == [
        "test_ece",
        "test_accuracy",
        "test_eval_loss",
    ]
    suite.command("export", "--method", "random", "--output", tmp_path / "exported")
    best = json.loads((tmp_path / "exported/best_config.json").read_text())
    assert {"accuracy", "ece"} <= set(best["metrics"])
    trained = suite.command("train", "--config", tmp_path / "exported", "--output", tmp_path / "trained")
    assert "ECE" in trained.rpartition("test: ")[2]
    texts = [shown, compared, trained, *(path.read_text() for path in tmp_path.glob("compared/*.csv"))]
    texts.append((tmp_path / "exported/MODEL_CARD.md").read_text())
    assert [(word, text) for text in texts for word in FOREIGN if word in text] == []
    models = MlflowClient(suite.store).search_logged_models([study.info.experiment_id])
    assert len(models) == 1
