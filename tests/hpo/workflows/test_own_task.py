"""A task of one's own: one more file in `benchmarks/tasks`, from `run` to the report and the export."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow import MlflowClient
from rich.console import Console

from benchmarks import tasks
from benchmarks.spec import BenchmarkError
from benchmarks.tasks.record_scores import unpack
from benchmarks.training.model.models import load_tokenizer
from hpo.analysis import compare, records
from hpo.analysis.compare import Result
from hpo.engine.in_process import InProcess
from hpo.planning import contest
from hpo.report import page, tables
from hpo.store import ui_views
from hpo.store.prompted_model import Answerer
from hpo.store.queries import stored_runs
from hpo.store.served_model import Serving
from hpo.workflows import confirm, export, importing, suite
from tests.benchmarks.tasks import own_task
from tests.benchmarks.tasks.yes_or_no import Labelled
from tests.stores import fresh_store, working_in
from tests.studies import finish, read, start

FOREIGN = re.compile(r"exact_match|Exact Match|(?<![0-9A-Za-z])[fF]1\b|\bEM\b")
"""Words of question answering, outside of checksums."""


def foreign(*texts: str) -> list[str]:
    return [word for text in texts for word in FOREIGN.findall(text)]


def columns_of(view: str) -> list[str]:
    """Return the columns of a saved view of the browser interface."""
    packed = json.loads(view)["state"].partition(";")[2]
    columns: list[str] = json.loads(zlib.decompress(base64.b64decode(packed)))["selectedColumns"]
    return columns


class Compared:
    """Two studies of the task on nano's model, confirmed, with all that was printed on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.screen = folder, io.StringIO()
        console, here = Console(file=self.screen, width=200), InProcess(devices=1)
        resource = {"unit_samples": 48, "max_units": 1}
        self.benchmark = own_task.benchmark(folder, resource=resource, metric="ece", mode="min")
        given = contest.GivenBenchmark(self.benchmark, "own.yaml")
        outcome = suite.run_suite(contest.parse_methods("random,optuna", 2), given, [0], None, False, console, here)
        assert outcome.failures == []
        console.print(suite.summary(outcome))
        due = confirm.due(records.read("own"), [], repeats=1)
        assert confirm.train_again(self.benchmark, due, None, "", console, here).is_delivered
        self.result: Result = compare.compare(records.read("own"))
        tables.print_all(console, self.result)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, process_group: None) -> Iterator[Compared]:
    folder, added = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("tasks")
    with working_in(folder), own_task.added(added):
        yield Compared(folder)


@pytest.mark.slow
class TestFromRunToExport:
    """One file more, and everything shows its metrics."""

    def test_a_study_stores_them(self, compared: Compared) -> None:
        [study, _] = stored_runs("own", "tags.hpo.kind = 'study'")
        assert {name for name in study.data.metrics if name.startswith("best_")} == {
            "best_eval_loss",
            "best_accuracy",
            "best_ece",
        }
        found = records.read("own").studies[0]
        assert {"accuracy", "ece"} <= set(found.trials) & set(found.units)
        assert found.best is not None
        assert foreign(*found.files.values()) == []
        trained = found.trials.iloc[0]
        assert 0 <= trained["accuracy"] <= 1
        assert 0 <= trained["ece"] <= 1 - trained["accuracy"]

    def test_the_terminal_shows_them(self, compared: Compared) -> None:
        shown = compared.screen.getvalue()
        assert "accuracy" in shown
        assert "test ECE" in shown
        assert re.search(r"split +texts +mean", shown)
        assert "calibration error of each incumbent" in shown
        assert foreign(shown) == []

    def test_each_test_record_has_its_scores(self, compared: Compared) -> None:
        trainings = records.read("own").confirmations
        assert trainings
        for training in trainings:
            right = unpack(training.records["accuracy"])
            assert len(right) == 48
            assert sum(right) / 48 == pytest.approx(training.metrics["test_accuracy"], abs=1e-3)
        split = compared.result.verdicts.split
        assert split is not None
        assert split.num_records == 48
        assert "The test split is a sample too: over its 48 records" in compared.screen.getvalue()

    def test_the_tables_have_their_columns(self, compared: Compared) -> None:
        files = tables.files(compared.result)
        [header, *_] = csv.reader(files["comparison.csv"].splitlines())
        scores = [name for name in header if name.startswith("test_") and not name.endswith(("_low", "_high"))]
        assert scores == ["test_ece", "test_accuracy", "test_eval_loss"]
        assert foreign(*files.values()) == []

    def test_less_is_better_in_standings_and_report(self, compared: Compared) -> None:
        scores = [standing.score.value for standing in compared.result.standings if standing.score]
        assert scores == sorted(scores)
        found = page.files(compared.result)
        html = found.pop("report.html")
        assert "Confirmed test calibration error" in html
        assert "Down and left is better" in html
        assert "test ECE (lower is better)" in html
        assert foreign(*found.values()) == []

    def test_the_export_names_them(self, compared: Compared, tmp_path: Path) -> None:
        exported = export.export("own", "best", tmp_path / "exported")
        best = json.loads((exported.folder / "best_config.json").read_text())
        assert {"accuracy", "ece"} <= set(best["metrics"])
        card = (exported.folder / "MODEL_CARD.md").read_text()
        assert "confirmed test calibration error of the method" in card
        assert "A training that diverged counts as 1." in card
        assert foreign(card) == []

    def test_the_browser_s_columns_are_theirs(self, compared: Compared) -> None:
        tags = ui_views.tags(compared.benchmark)
        studies, trials = (columns_of(tags[ui_views.PREFIX + key]) for key in (ui_views.STUDIES, ui_views.TRIALS))
        assert {"metrics.`best_accuracy`", "metrics.`best_ece`"} <= set(studies)
        assert {"metrics.`accuracy`", "metrics.`ece`"} <= set(trials)
        assert foreign(*studies, *trials) == []

    def test_a_served_model_gets_the_prompt_of_the_evaluation(self, compared: Compared) -> None:
        settings, task = compared.benchmark.training_settings(), compared.benchmark.task
        tokenizer = load_tokenizer(settings.model)
        records = [*task.read(settings.data.test)[:4], Labelled("rain in Delft " * 40, "yes")]
        limits = (settings.max_length, settings.max_answer_tokens)
        examples = task.tokenize(records, tokenizer, *limits, training=False)
        serving = Serving(task.prompt, *limits)
        assert serving.signature.inputs.input_names() == ["text"]
        model = SimpleNamespace(generation_config=None)  # it writes no token here
        answerer = Answerer(model, tokenizer, asdict(serving))
        assert [answerer.prompt_ids({"text": record.text}) for record in records] == [e.prompt for e in examples]

    def test_an_import_takes_their_columns(self, compared: Compared, tmp_path: Path) -> None:
        file = tmp_path / "own.csv"
        lines = "trial,unit,eval_loss,seconds,devices,learning_rate,accuracy,ece\na,1,0.5,1,1,0.001,0.75,{}\n"
        file.write_text(lines.format("0.25"))
        [row] = importing.read(file, compared.benchmark).rows
        assert {"accuracy": 0.75, "ece": 0.25}.items() <= row.metrics.items()
        file.write_text(lines.format("1.25"))
        with pytest.raises(BenchmarkError, match=r"column ece: is 1\.25, but must be from 0 to 1"):
            importing.read(file, compared.benchmark)

    def test_studies_whose_task_is_gone_are_refused_in_a_sentence(self, compared: Compared) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(tasks, "__path__", tasks.__path__[:1])
            tasks.get.cache_clear()
            with pytest.raises(BenchmarkError, match=r"benchmark\.json cannot be used \(finetune\.task: no task n"):
                records.read("own")


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


# thorough: six commands in processes of their own; all but `train` is held by TestFromRunToExport
@pytest.mark.thorough
@pytest.mark.timeout(1200)
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
        "test_accuracy",  # which was tuned
        "test_ece",
        "test_eval_loss",
    ]
    suite.command("export", "--method", "random", "--output", tmp_path / "exported")
    best = json.loads((tmp_path / "exported/best_config.json").read_text())
    assert {"accuracy", "ece"} <= set(best["metrics"])
    trained = suite.command("train", "--config", tmp_path / "exported", "--output", tmp_path / "trained")
    assert "ECE" in trained.rpartition("test: ")[2]
    texts = [shown, compared, trained, *(path.read_text() for path in tmp_path.glob("compared/*.csv"))]
    assert foreign(*texts, (tmp_path / "exported/MODEL_CARD.md").read_text()) == []
    models = MlflowClient(suite.store).search_logged_models([study.info.experiment_id])
    assert len(models) == 1
