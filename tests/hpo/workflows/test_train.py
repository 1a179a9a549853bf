"""A full training from an exported configuration: its refusals, its files, its equality with a trial."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks import question_answering as squad
from hpo.cluster.ray import detect
from hpo.workflows import train
from hpo.workflows.train import Trained, check_schedule, read_config, with_data
from tests.hpo.store.refusing_proxy import refusing
from tests.servers import serve
from tests.stores import fresh_store, working_in

CONFIG: Config = {"learning_rate": 2e-3, "batch_size_per_device": 8}
LATER: Config = {"learning_rate": 5e-4, "batch_size_per_device": 16, "weight_decay": 0.1}
SCHEDULE = [{"units": 0, "config": CONFIG}, {"units": 1, "config": LATER}]
Maker = Callable[..., Benchmark]


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("train")
    with working_in(folder):
        yield


@pytest.fixture(scope="session")
def tiny(small_nano: Maker) -> Benchmark:
    """Two units of 64 samples, 16 questions of each other split, on one rank at ZeRO-3."""
    benchmark = small_nano(unit_samples=64, max_units=2, stage=3)
    assert benchmark.finetune is not None
    data = benchmark.finetune.data
    splits = {name: getattr(data, name).model_copy(update={"limit": 16}) for name in ("validation", "test")}
    finetune = benchmark.finetune.model_copy(update={"data": data.model_copy(update=splits)})
    return benchmark.model_copy(update={"name": "tiny", "finetune": finetune})


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps({"config": CONFIG, **content}))
    return path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


class TestWhatIsGiven:
    def test_an_export_s_folder_or_its_file(self, tmp_path: Path) -> None:
        write(tmp_path / "best_config.json", seed=3, benchmark="nano", method="pbt", units=9, metrics={"f1": 0.5})
        best = read_config(tmp_path)
        assert best == read_config(tmp_path / "best_config.json")
        assert (best.config, best.seed, best.steps) == (CONFIG, 3, [(0, CONFIG)])
        assert type(best.config["batch_size_per_device"]) is int

    def test_a_missing_file_says_how_to_get_one(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"best_config\.json: no such file; .* python -m hpo export"):
            read_config(tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "not valid JSON"),
            ("[1]", "content: "),
            ("{}", "config: Field required"),
            ('{"config": {"learning_rate": []}}', r"config\.learning_rate"),
            ('{"config": {}, "shedule": []}', "shedule: .*; valid keys are benchmark, .*schedule"),
        ],
    )
    def test_content_that_is_no_configuration(self, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "best_config.json").write_text(text)
        with pytest.raises(BenchmarkError, match=message):
            read_config(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"config": {"learning_rat": 1}}, "learning_rat: unknown key"),
            ({"config": {"learning_rate": -1.0}}, "learning_rate: .*greater than 0"),
            ({"schedule": [{"units": 1, "config": CONFIG}]}, r"at units \[1\], but must begin at 0"),
            ({"schedule": [SCHEDULE[0], {"units": 2, "config": LATER}]}, r"units \[0, 2\], but must .* end by 1"),
            ({"schedule": [SCHEDULE[0], {"units": 1, "config": {"x": 1}}]}, "x: unknown key"),
            (
                {"schedule": [{"units": 0, "config": {"lora_rank": 4}}, {"units": 1, "config": {"lora_rank": 8}}]},
                r"lora_rank changes from 4 to 8, but cannot change within a trial; correct it in best_config\.json",
            ),
            (
                {"schedule": [SCHEDULE[0], {"units": 1, "config": {"lora_alpha": 32.0}}]},
                r"lora_alpha changes from 16\.0 to 32\.0, but cannot",
            ),
        ],
    )
    def test_what_does_not_go_with_the_benchmark(
        self, content: dict[str, Any], message: str, tiny: Benchmark, tmp_path: Path
    ) -> None:
        with pytest.raises(BenchmarkError, match=message):
            check_schedule(read_config(write(tmp_path / "config.json", **content)), tiny)

    def test_a_benchmark_without_a_model(self, tmp_path: Path) -> None:
        config = write(tmp_path / "config.json")
        with pytest.raises(BenchmarkError, match="synthetic computes learning curves and trains no model"):
            train.train(config, spec.load("synthetic"), tmp_path / "out", quiet())
        assert not (tmp_path / "out").exists()

    def test_a_folder_with_other_files_is_left_alone(self, tiny: Benchmark, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("mine")
        with pytest.raises(BenchmarkError, match="is not empty and not of an earlier training"):
            train.train(write(tmp_path / "config.json"), tiny, tmp_path / "out", quiet())
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]

    def test_a_file_in_the_folder_s_place(self, tiny: Benchmark, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        with pytest.raises(BenchmarkError, match="cannot be written"):
            train.train(write(tmp_path / "config.json"), tiny, tmp_path / "out", quiet())

    def test_own_data_takes_the_place_of_a_split(self, tiny: Benchmark, tmp_path: Path) -> None:
        assert tiny.finetune is not None
        own = with_data(tiny, test=tmp_path / "mine.json")
        assert own.finetune is not None
        assert own.finetune.data.test == spec.Split(file=tmp_path / "mine.json")
        assert own.finetune.data.train == tiny.finetune.data.train
        assert with_data(tiny) is tiny

    def test_own_data_that_is_missing(self, tiny: Benchmark, tmp_path: Path) -> None:
        benchmark = with_data(tiny, train=tmp_path / "missing.json")
        with pytest.raises(BenchmarkError, match=r"missing\.json"):
            train.train(write(tmp_path / "config.json"), benchmark, tmp_path / "out", quiet())


@dataclass(frozen=True)
class Ended:
    """A training and what it printed."""

    benchmark: Benchmark
    trained: Trained
    printed: str


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One Ray for all trainings: starting it takes longer than they do."""
    from hpo.cluster.ray import ray_cluster

    with ray_cluster(detect()):
        yield


@pytest.fixture(scope="module")
def ended(tiny: Benchmark, _ray: None) -> Ended:
    """A schedule trained to its end at ZeRO-3, into a folder, given as a relative path, of an earlier training."""
    folder = Path("ended")
    (folder / "out" / "model").mkdir(parents=True)
    config = write(folder / "config.json", config=LATER, schedule=SCHEDULE, seed=3, run_id="abc", method="pbt")
    (folder / "out" / "model" / "stale.bin").write_text("old")
    (folder / "out" / "training.json").write_text("{}")
    console = quiet()
    trained = train.train(config, tiny, folder / "out", console, command="python -m hpo train")
    assert isinstance(console.file, io.StringIO)
    return Ended(tiny, trained, console.file.getvalue())


def scored_alone(benchmark: Benchmark, folder: Path) -> tuple[float, float]:
    """Compute loss and Exact Match on test with transformers alone: right padding, one question at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert benchmark.finetune is not None
    settings = benchmark.finetune
    records = squad.read_split(settings.data.test)
    examples = squad.tokenize(records, tokenizer, settings.max_length, settings.max_answer_tokens, training=False)
    loss, exact = 0.0, 0.0
    with torch.no_grad():
        for e in examples:
            logits = model(torch.tensor([e.prompt + e.target])).logits[0, len(e.prompt) - 1 : -1]
            loss += float(torch.nn.functional.cross_entropy(logits, torch.tensor(e.target), reduction="sum"))
            answer = model.generate(torch.tensor([e.prompt]), max_new_tokens=settings.max_answer_tokens)
            text = tokenizer.decode(answer[0, len(e.prompt) :], skip_special_tokens=True)
            exact += squad.exact_match(text.strip(), e.references)
    return loss / sum(len(e.target) for e in examples), exact / len(examples)


@pytest.mark.slow
class TestATraining:
    def test_it_prints_every_unit_and_the_scores_on_test(self, ended: Ended) -> None:
        lines = ended.printed[ended.printed.index("unit 1") :].splitlines()
        test = ended.trained.test
        assert [line.split(" | ")[0] for line in lines[:2]] == ["unit 1 of 2", "unit 2 of 2"]
        assert f"EM {ended.trained.units[1]['exact_match']:.3f}" in lines[1]
        expected = f"test: loss {test['eval_loss']:.4f} EM {test['exact_match']:.4f} F1 {test['f1']:.4f}"
        assert lines[2].startswith(expected)

    def test_before_that_it_prints_what_the_data_are_like(self, ended: Ended) -> None:
        before = ended.printed[: ended.printed.index("unit 1")].split("\n")
        rows = {words[0]: words[1] for line in before if (words := line.split())[1:2]}
        assert [rows[split] for split in ("train", "validation", "test")] == ["512", "16", "16"]
        run = MlflowClient().get_run(ended.trained.run_id)
        assert run.data.metrics["test_truncated_share"] == 0
        assert run.data.metrics["train_mean_tokens"] == pytest.approx(62, abs=2)

    def test_the_saved_model_scores_on_test_what_was_printed(self, ended: Ended) -> None:
        loss, exact = scored_alone(ended.benchmark, ended.trained.folder / "model")
        assert loss == pytest.approx(ended.trained.test["eval_loss"], abs=1e-5)
        assert exact == pytest.approx(ended.trained.test["exact_match"])
        assert ended.trained.test["exact_match"] > 0

    def test_it_follows_the_schedule_as_a_trial_does(self, ended: Ended, process_group: None, tmp_path: Path) -> None:
        from benchmarks.training.session import Session

        session = Session(ended.benchmark)
        session.start(CONFIG, seed=3)
        losses = [session.run_unit()["eval_loss"]]
        session.save(tmp_path)
        session.start(LATER, seed=3)
        session.load(tmp_path)
        losses.append(session.run_unit()["eval_loss"])
        session.close()
        assert [unit["eval_loss"] for unit in ended.trained.units] == pytest.approx(losses, abs=1e-4)

    def test_the_folder_holds_model_and_report_alone(self, ended: Ended) -> None:
        folder = ended.trained.folder
        assert sorted(path.name for path in folder.iterdir()) == ["model", "training.json"]
        saved = sorted(path.name for path in (folder / "model").iterdir())
        assert saved == [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        report = json.loads((folder / "training.json").read_text())
        assert (report["status"], report["seed"], report["schedule"]) == ("finished", 3, SCHEDULE)
        assert report["test"] == ended.trained.test

    def test_the_run_holds_parameters_and_metrics(self, ended: Ended) -> None:
        client = MlflowClient()
        run = client.get_run(ended.trained.run_id)
        assert client.get_experiment(run.info.experiment_id).name == "tiny"
        assert (run.info.status, run.data.tags["hpo.kind"]) == ("FINISHED", "training")
        assert run.data.tags["hpo.precision"] == "fp32"
        assert (run.data.params["learning_rate"], run.data.params["seed"]) == ("0.002", "3")
        assert run.data.metrics["test_exact_match"] == ended.trained.test["exact_match"]
        history = client.get_metric_history(ended.trained.run_id, "eval_loss")
        assert [(point.step, point.value) for point in history] == [
            (unit["units"], unit["eval_loss"]) for unit in ended.trained.units
        ]

    def test_the_logged_model_answers_bare_records_as_the_evaluation_scored_them(self, ended: Ended) -> None:
        model = mlflow.pyfunc.load_model(f"runs:/{ended.trained.run_id}/model")
        assert ended.benchmark.finetune is not None
        records = squad.read_split(ended.benchmark.finetune.data.test)
        answers = model.predict(pd.DataFrame([{"question": r.question, "context": r.context} for r in records]))
        exact = [
            squad.exact_match(text, [answer.text for answer in r.answers])
            for text, r in zip(answers, records, strict=True)
        ]
        assert sum(exact) / len(exact) == pytest.approx(ended.trained.test["exact_match"])
        assert list(model.input_example.columns) == ["question", "context"]


@pytest.mark.thorough  # test_refused_files has the server, test_served_model the model
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_server_that_refuses_the_model_costs_neither_score_nor_folder(
    tiny: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = quiet()
    with serve(fresh_store(tmp_path / "server"), tmp_path / "server") as server:
        with refusing(server.uri, max_body_bytes=2**20) as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            trained = train.train(write(tmp_path / "config.json"), tiny, tmp_path / "out", console)
        run = MlflowClient(server.uri).get_run(trained.run_id)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert f"test: loss {trained.test['eval_loss']:.4f}" in printed
    assert f"model: {tmp_path / 'out' / 'model'}" in printed.replace("\n", "")
    assert "in MLflow" not in printed
    assert (trained.reason, run.info.status) == ("", "FINISHED")
    assert "the model could not be logged (413" in trained.fault
    assert run.data.metrics["test_f1"] == trained.test["f1"]
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_the_best_unit_is_scored_and_saved_if_the_benchmark_selects_it(tiny: Benchmark, tmp_path: Path) -> None:
    """The second unit spoils the first, by a rate that is far too large."""
    benchmark = tiny.model_copy(update={"select": "best_unit", "name": "best"})
    spoilt = {**CONFIG, "learning_rate": 0.3}
    steps = [{"units": 0, "config": CONFIG}, {"units": 1, "config": spoilt}]
    trained = train.train(
        write(tmp_path / "config.json", config=spoilt, schedule=steps), benchmark, tmp_path / "out", quiet()
    )
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    first, second = (unit["eval_loss"] for unit in trained.units)
    assert second > first + 1
    assert (report["selected_unit"], report["validation"]["eval_loss"]) == (1, first)
    assert abs(trained.test["eval_loss"] - first) < abs(trained.test["eval_loss"] - second)
    loss, _ = scored_alone(benchmark, tmp_path / "out" / "model")
    assert loss == pytest.approx(trained.test["eval_loss"], abs=1e-5)


@pytest.mark.thorough  # test_sixteen_bits has trainings that diverge
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_training_that_diverges_saves_no_model(tiny: Benchmark, tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", config={"learning_rate": 1e30, "max_grad_norm": 0.0})
    trained = train.train(config, tiny, tmp_path / "out", quiet())
    assert trained.reason.startswith("diverged at unit 1")
    assert (trained.test, MlflowClient().get_run(trained.run_id).info.status) == ({}, "FAILED")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training.json"]


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_a_training_in_good_order(
    number: signal.Signals, tiny: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started these tests

    def raise_it(*_: object) -> None:
        signal.raise_signal(number)
        signal.raise_signal(number)  # a second one within the same request, as `mlflow run` sends it

    monkeypatch.setattr(train, "_show_unit", raise_it)
    trained = train.train(write(tmp_path / "config.json"), tiny, tmp_path / "out", quiet())
    signal.signal(signal.SIGHUP, before)
    assert (trained.reason, trained.fault, len(trained.units)) == ("interrupted", "", 1)
    run = MlflowClient().get_run(trained.run_id)
    assert (run.info.status, run.data.tags["hpo.reason"]) == ("KILLED", "interrupted")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["status"] == "interrupted"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training.json"]
