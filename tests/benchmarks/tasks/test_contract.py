"""The contract of a task: it is found by its file, it names its metrics, and a benchmark shows them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import spec, tasks
from benchmarks.identity import digest
from benchmarks.spec import BenchmarkError
from benchmarks.splits import Split
from benchmarks.tasks.question_answering import TASK, prompt_of
from benchmarks.tasks.task import LOSS, Metric
from benchmarks.trials.synthetic import SyntheticTrial
from tests.benchmarks.own_benchmark import load_with
from tests.benchmarks.tasks import own_task
from tests.benchmarks.tasks.yes_or_no import ACCURACY, ECE


def write(folder: Path, text: str) -> Path:
    (folder / "own.py").write_text(text)
    return folder


def test_the_tasks_are_the_files_of_the_folder() -> None:
    assert tasks.names() == ["classification", "question_answering"]


def test_a_file_in_the_folder_is_a_task(tmp_path: Path) -> None:
    with own_task.added(tmp_path):
        assert tasks.names() == ["classification", "question_answering", "yes_or_no"]
        own = own_task.benchmark(tmp_path)
        assert [metric.name for metric in own.metrics] == ["eval_loss", "accuracy", "ece"]
        assert [metric.name for metric in own.test_metrics] == ["accuracy", "ece", "eval_loss"]
        assert own.ranking_metric.name == "accuracy"
        assert len(own.task.read(own.training_settings().data.train)) == 48
    assert tasks.names() == ["classification", "question_answering"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"task own: its file has no `TASK`"),
        ("TASK = 1", r"task own: its file has no `TASK`"),
        ("metrics = (Metric('eval_loss', '', 'min', 1, 1, 1),)", r"named 'eval_loss', which is taken"),
        ("metrics = (Metric('units', '', 'min', 1, 1, 1),)", r"named 'units', which is taken"),
        ("metrics = (Metric('a b', '', 'min', 1, 1, 1),)", r"named 'a b', but must be letters, digits"),
        ("metrics = 2 * (Metric('a', '', 'min', 1, 1, 1),)", r"named 'a', which is taken"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    if "metrics" in text:
        text = (
            "from benchmarks.tasks.task import Metric\n"
            "from benchmarks.tasks.question_answering import QuestionAnswering\n"
            f"{text}\n"
            "class Own(QuestionAnswering): pass\n"
            "TASK = Own()\n"
            "TASK.metrics = metrics\n"
        )
    monkeypatch.setattr(tasks, "__path__", [str(write(tmp_path, text))])
    monkeypatch.delitem(sys.modules, "benchmarks.tasks.own", raising=False)
    with pytest.raises(BenchmarkError, match=message):
        tasks.get("own")


def test_a_task_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"finetune\.task: no task named 'squad'; choose one of class"):
        load_with(tmp_path, {"finetune": {"task": "squad"}})


def test_a_metric_that_the_task_lacks_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="metric is 'accuracy', but must be one of eval_loss, exact_match, f1"):
        load_with(tmp_path, {"metric": "accuracy", "mode": "max"})


def test_a_benchmark_is_the_same_with_the_default_task_spelled_out() -> None:
    nano = spec.load("nano")
    assert "task" not in yaml.safe_load((spec.HERE / "nano.yaml").read_text())["finetune"]
    assert nano.training_settings().task == "question_answering"
    assert digest(nano) == "db84aa7c168ea437"  # as before benchmarks named their task


def test_another_task_is_another_benchmark(tmp_path: Path) -> None:
    nano = spec.load("nano")
    with own_task.added(tmp_path):
        other = nano.training_settings().model_copy(update={"task": "yes_or_no"})
        assert digest(nano.model_copy(update={"finetune": other})) != digest(nano)


def test_the_worst_loss_is_that_of_a_divergence() -> None:
    nano = spec.load("nano")
    assert nano.metrics[0].worst == nano.diverged_above
    assert [metric.worst for metric in nano.task.metrics] == [0.0, 0.0]


class TestMetric:
    """Directions, names and bounds, of which nobody else has to know."""

    def test_less_is_better_where_the_mode_says_so(self) -> None:
        assert (ECE.beats(0.1, 0.2), ECE.gain(0.1, 0.25), ECE.direction) == (True, 0.15, "lower is better")
        assert (ACCURACY.beats(0.1, 0.2), ACCURACY.gain(0.5, 0.25), ACCURACY.direction) == (
            False,
            0.25,
            "higher is better",
        )

    def test_bounds_reach_from_the_worst_to_the_best(self) -> None:
        assert (ECE.bounds, ACCURACY.bounds) == ((0.0, 1.0), (0.0, 1.0))
        assert LOSS.bounds == (0.0, math.inf)
        assert Metric("bleu", "BLEU", "max", 0.0, 0.5, 1, best=100.0).bounds == (0.0, 100.0)

    def test_names_of_the_test_split_leave_out_eval(self) -> None:
        assert [metric.words_on_test for metric in (LOSS, ECE, ACCURACY)] == ["test loss", "test ECE", "test accuracy"]
        assert [metric.on_test for metric in (LOSS, ECE)] == ["test_eval_loss", "test_ece"]


class TestDefaults:
    """Parts that a task gets from the contract."""

    def test_the_mean_of_each_figure_is_its_metric(self) -> None:
        assert TASK.summarise([3.0, 6.0], 12) == {"exact_match": 0.25, "f1": 0.5}

    def test_records_that_two_splits_share_are_counted(self, tmp_path: Path) -> None:
        with own_task.added(tmp_path):
            task = own_task.benchmark(tmp_path).task
            splits = {"train": task.read(own_task.benchmark(tmp_path).training_settings().data.train)}
            assert task.shared({**splits, "test": splits["train"][:1]}) == {("train", "test"): "1 text"}

    def test_articles_of_a_task_without_any_are_refused(self, tmp_path: Path) -> None:
        with own_task.added(tmp_path):
            own = own_task.benchmark(tmp_path)
            split = own.training_settings().data.train.model_copy(update={"articles": "rest"})
            with pytest.raises(BenchmarkError, match="`articles` goes with a task whose records belong to articles"):
                own.task.read(split)

    def test_a_split_without_records_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "none.jsonl").write_text("")
        with own_task.added(tmp_path), pytest.raises(BenchmarkError, match=r"none\.jsonl: no texts left"):
            own_task.benchmark(tmp_path).task.read(Split(file=tmp_path / "none.jsonl"))


def test_a_computed_curve_gets_from_the_worst_to_the_best_of_each_metric() -> None:
    synthetic = spec.load("synthetic")
    trial = SyntheticTrial(synthetic)
    trial.start({"learning_rate": 1e-3}, seed=0)
    units = [trial.run_unit() for _ in range(synthetic.resource.max_units)]
    for metric in synthetic.metrics:
        assert metric.beats(units[-1][metric.name], units[0][metric.name])


def test_a_served_model_gets_the_prompt_of_the_evaluation() -> None:
    assert TASK.prompt.format(**TASK.example) == prompt_of(TASK.example["question"], TASK.example["context"])


def test_no_other_module_knows_a_metric_of_a_task() -> None:
    root = spec.HERE.parent
    names = [metric.name for name in tasks.names() for metric in tasks.get(name).metrics if "_" in metric.name]
    assert names == ["exact_match"]
    modules = [path for folder in ("benchmarks", "hpo", "slurm") for path in (root / folder).rglob("*.py")]
    knowing = [path for path in modules if any(name in path.read_text() for name in names)]
    assert {path.relative_to(root).parts[:2] for path in knowing} == {("benchmarks", "tasks")}
