"""The model that a training logs: it answers bare records, wherever it is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import spec
from benchmarks.tasks import question_answering as squad
from hpo.store.prompted_model import Answerer
from hpo.store.runs import CommandRun
from hpo.store.served_model import Serving, log_served_model
from tests.hpo.store.refusing_proxy import refusing
from tests.servers import Server, serve
from tests.stores import fresh_store, working_in

MAX_LENGTH, MAX_NEW_TOKENS, QUESTIONS = 72, 12, 24
SERVING = Serving(squad.prompt_of("{question}", "{context}"), MAX_LENGTH, MAX_NEW_TOKENS)
EXAMPLE = {"question": "Who?", "context": "Ada."}
NANO = spec.load("nano").training_settings()
MODEL = Path(NANO.model)


@pytest.fixture(scope="module")
def records() -> list[squad.Record]:
    return squad.read_split(NANO.data.validation)[:QUESTIONS]


@pytest.fixture(scope="module")
def prompts(records: list[squad.Record]) -> list[list[int]]:
    """Make prompts as an evaluation does; the length cuts some contexts and not others."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    examples = squad.tokenize(records, tokenizer, MAX_LENGTH, MAX_NEW_TOKENS, training=False)
    assert 0 < sum(example.truncated for example in examples) < len(examples)
    return [example.prompt for example in examples]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]]) -> list[str]:
    """Greedy answers of plain transformers, one question at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL)
    answers = []
    for prompt in prompts:
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=MAX_NEW_TOKENS,
                             eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
        answers.append(tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True).strip())
    assert len(set(answers)) > QUESTIONS // 2
    return answers


def rows(records: list[squad.Record]) -> list[dict[str, str]]:
    return [{"question": record.question, "context": record.context} for record in records]


@pytest.mark.slow
def test_a_record_becomes_the_prompt_of_an_evaluation(records: list[squad.Record], prompts: list[list[int]]) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL)
    settings = {"prompt": SERVING.prompt, "max_length": MAX_LENGTH, "max_new_tokens": MAX_NEW_TOKENS}
    answerer = Answerer(model, tokenizer, settings)
    assert [answerer.prompt_ids(row) for row in rows(records)] == prompts


@pytest.mark.slow
def test_braces_and_marks_in_a_record_are_text() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL)
    settings = {"prompt": SERVING.prompt, "max_length": MAX_LENGTH, "max_new_tokens": MAX_NEW_TOKENS}
    ids = Answerer(model, tokenizer, settings).prompt_ids(
        {"question": "Is {context} {0} text?", "context": "{question} %s"}
    )
    assert tokenizer.decode(ids).endswith("Question: Is {context} {0} text? Context: {question} %s Answer:")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with serve(fresh_store(folder), folder) as running:
        yield running.uri


def logged(uri: str, name: str) -> CommandRun:
    """Log the model into a run, as far as the server takes it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        run = CommandRun(name, "a training", {}, {"hpo.kind": "training"})
        run.add_model(lambda client, run_id: log_served_model(client, run_id, MODEL, SERVING, EXAMPLE))
        run.end("FINISHED")
    return run


def in_a_fresh_process(uri: str, run_id: str, records: list[squad.Record], folder: Path) -> list[str]:
    """Ask a process that has nothing of the suite on its path."""
    code = (
        "import json, sys, mlflow, pandas as pd\n"
        f"model = mlflow.pyfunc.load_model('runs:/{run_id}/model')\n"
        "answers = model.predict(pd.DataFrame(json.load(sys.stdin)))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('hpo', 'benchmarks')]\n"
        "print('\\n' + json.dumps(answers))"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(rows(records)), cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.thorough  # the server of the model is one, below
@pytest.mark.slow
def test_a_fresh_process_answers_bare_records(
    server: str, records: list[squad.Record], expected: list[str], tmp_path: Path
) -> None:
    with working_in(tmp_path):
        run = logged(server, "fresh")
        assert run.fault == ""
        assert in_a_fresh_process(server, run.run_id, records, tmp_path) == expected
        client = MlflowClient(server)
        experiment = client.get_experiment_by_name("fresh")
        assert experiment is not None
        (model,) = client.search_logged_models([experiment.experiment_id])
        assert (model.name, model.source_run_id) == ("model", run.run_id)


@pytest.mark.thorough  # test_refused_files has such a server
@pytest.mark.slow
def test_a_server_that_keeps_no_models_gets_the_same_folder_as_artifacts(
    server: str, records: list[squad.Record], expected: list[str], tmp_path: Path
) -> None:
    with working_in(tmp_path), refusing(server, unknown=("logged-models",)) as older:
        run = logged(older, "older")
        assert run.fault == ""
        assert MlflowClient(server).get_run(run.run_id).info.status == "FINISHED"
        assert in_a_fresh_process(older, run.run_id, records[:4], tmp_path) == expected[:4]


@pytest.mark.slow
def test_a_model_that_is_refused_is_named_and_the_run_ends(server: str, tmp_path: Path) -> None:
    with working_in(tmp_path), refusing(server, max_body_bytes=2**20) as limited:
        run = logged(limited, "limited")
        assert "the model could not be logged (413" in run.fault
        assert MlflowClient(server).get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_the_transformers_flavour_is_there_too(tmp_path: Path) -> None:
    import mlflow.transformers

    with working_in(tmp_path):
        run = logged(fresh_store(tmp_path), "flavours")
        pipeline: Any = mlflow.transformers.load_model(f"runs:/{run.run_id}/model")
        assert pipeline.task == "text-generation"


@pytest.mark.slow
def test_mlflow_models_serve_answers_a_bare_record(
    records: list[squad.Record], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working_in(tmp_path):
        run = logged(fresh_store(tmp_path), "serve")
        words = ["models", "serve", "--model-uri", f"runs:/{run.run_id}/model", "--env-manager", "local"]
        monkeypatch.delenv("PYTHONPATH", raising=False)
        with Server(words, tmp_path, health=b"\n") as serving:
            body = json.dumps({"dataframe_records": rows(records)[:4]}).encode()
            request = urllib.request.Request(f"{serving.uri}/invocations", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer) == {"predictions": expected[:4]}
