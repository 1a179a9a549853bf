"""Fetching from a hub: one that answers as the real one does, on this machine, and one that does not answer."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks import question_answering as squad

REPOSITORY = Path(__file__).parents[3]
MODEL, DATA = "someone/tiny-bloom", "someone/questions"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The hub's addresses that a download asks for, for folders of files; anything else is not found."""

    repositories: dict[str, Path]
    revisions: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        for name, folder in self.repositories.items():
            api, files = f"/api/{name}/", f"/{name.removeprefix('models/')}/resolve/"
            path = self.path.split("?")[0]
            if path.startswith(f"{api}revision/"):
                self.revisions.add(f"{name}@{path.rpartition('/')[2]}")
                return self._send(json.dumps(self._describe(name, folder)).encode(), with_body, "application/json")
            if path.startswith(f"{api}tree/"):
                return self._send(json.dumps(self._tree(folder)).encode(), with_body, "application/json")
            if path.startswith(files):
                return self._send((folder / path.removeprefix(files).split("/", 1)[1]).read_bytes(), with_body)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _describe(self, name: str, folder: Path) -> dict[str, Any]:
        files = [{"rfilename": str(path.relative_to(folder))} for path in folder.rglob("*") if path.is_file()]
        return {"id": name.split("/", 1)[1], "sha": COMMIT, "private": False, "gated": False, "siblings": files}

    def _tree(self, folder: Path) -> list[dict[str, Any]]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return [
            {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": "0" * 40}
            for path in files
        ]

    def _send(self, body: bytes, with_body: bool, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the suite finds it."""
    model, data = tmp_path / "hub-model", tmp_path / "hub-data"
    nano = spec.load("nano").finetune
    assert nano is not None
    shutil.copytree(nano.model, model)
    (model / "pytorch_model.bin").write_bytes(b"a pickle from a stranger")
    write_dataset(data, squad.read_split(nano.data.train.model_copy(update={"limit": 64})))
    handler = type("Handler", (Hub,), {"repositories": {f"models/{MODEL}": model, f"datasets/{DATA}": data}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    server.shutdown()


def write_dataset(folder: Path, records: list[squad.Record]) -> None:
    """Write rajpurkar/squad as it lies on the hub: Parquet, and a README that says which file is which split.

    Beside the configuration "plain_text" it has one more, "last", the last record alone.
    """
    folder.mkdir()
    rows = [
        {
            "id": record.id,
            "title": record.title,
            "context": record.context,
            "question": record.question,
            "answers": {
                "text": [answer.text for answer in record.answers],
                "answer_start": [answer.start for answer in record.answers],
            },
        }
        for record in records
    ]
    configurations = {"plain_text": rows, "last": rows[-1:]}
    splits = ("train", "validation")
    for name, of_it in configurations.items():
        (folder / name).mkdir()
        for split in splits:
            pd.DataFrame(of_it).to_parquet(folder / f"{name}/{split}-00000-of-00001.parquet")
    declared = [
        {"config_name": name, "data_files": [{"split": split, "path": f"{name}/{split}-*"} for split in splits]}
        for name in configurations
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': declared})}---\n")


def write_benchmark(folder: Path) -> Path:
    """nano, as if its model and data lay on the hub."""
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    content |= {"name": "remote", "resource": {"unit_samples": 32, "max_units": 1}}
    content["finetune"] |= {
        "model": MODEL,
        "data": {
            "train": {"dataset": DATA, "config": "plain_text", "split": "train", "limit": 32},
            "validation": {"dataset": DATA, "config": "plain_text", "split": "train[32:48]"},
            "test": {"dataset": DATA, "config": "last", "split": "validation"},
        },
    }
    path = folder / "remote.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", **environment}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


TRAIN = """
import sys
from benchmarks import spec
from benchmarks.tasks.question_answering import read_split
from benchmarks.training.process import join_process_group, prepare_process
benchmark = spec.load(sys.argv[1])
prepare_process(threads=1)
join_process_group()
from benchmarks.training.session import Session
session = Session(benchmark)
session.start({}, seed=0)
unit = session.run_unit()
tests = read_split(benchmark.finetune.data.test)
print(f"trained to {unit['eval_loss']:.2f}, {len(tests)} to test")
"""


@pytest.mark.slow
def test_what_was_fetched_trains_without_the_hub(tmp_path: Path, hub: dict[str, str]) -> None:
    write_benchmark(tmp_path)
    fetched = run(tmp_path, hub, "-m", "hpo", "fetch", "--benchmark", "remote.yaml", "--output", "here")
    assert fetched.returncode == 0, fetched.stderr
    assert f"  {MODEL}: {tmp_path}/here/someone--tiny-bloom\n" in fetched.stdout
    assert f"  {DATA}: {tmp_path}/here/someone--questions\n" in fetched.stdout
    assert not list((tmp_path / "here").rglob("*.bin"))
    written = yaml.safe_load((tmp_path / "here/remote.yaml").read_text())["finetune"]["data"]
    assert [split["config"] for split in written.values()] == ["plain_text", "plain_text", "last"]
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "another")}
    trained = run(tmp_path, nowhere, "-c", TRAIN, "here/remote.yaml")
    assert re.search(r"^trained to \S+, 1 to test$", trained.stdout, re.MULTILINE), trained.stderr


@pytest.mark.slow
def test_the_revision_that_the_benchmark_names_is_fetched(tmp_path: Path, hub: dict[str, str]) -> None:
    path = write_benchmark(tmp_path)
    content = yaml.safe_load(path.read_text())
    for split in content["finetune"]["data"].values():
        split["revision"] = "v1.0"
    path.write_text(yaml.safe_dump(content))
    Hub.revisions.clear()
    fetched = run(tmp_path, hub, "-m", "hpo", "fetch", "--benchmark", "remote.yaml", "--output", "here")
    assert fetched.returncode == 0, fetched.stderr
    assert {f"datasets/{DATA}@v1.0", f"models/{MODEL}@main"} <= Hub.revisions
    written = yaml.safe_load((tmp_path / "here/remote.yaml").read_text())["finetune"]["data"]
    assert not any("revision" in split for split in written.values())
    content["finetune"]["data"]["test"]["revision"] = "v2.0"
    path.write_text(yaml.safe_dump(content))
    refused = run(tmp_path, hub, "-m", "hpo", "fetch", "--benchmark", "remote.yaml", "--output", "there")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "has the revisions v1.0 and v2.0, but a folder holds one" in refused.stderr


@pytest.mark.slow
def test_without_a_network_the_error_says_where_to_run_it(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = run(tmp_path, nowhere, "-m", "hpo", "fetch", "--benchmark", "remote.yaml", "--output", "here")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: model {MODEL}: cannot be downloaded (")
    assert "run this where there is internet, such as a login node" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_named(tmp_path: Path, hub: dict[str, str]) -> None:
    path = write_benchmark(tmp_path)
    path.write_text(path.read_text().replace(MODEL, "someone/else"))
    done = run(tmp_path, hub, "-m", "hpo", "fetch", "--benchmark", "remote.yaml", "--output", "here")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model someone/else: the hub has no such model, or keeps it from you")


def test_a_benchmark_of_local_files_has_nothing_to_fetch(tmp_path: Path) -> None:
    from hpo.workflows import fetch

    benchmark: Benchmark = spec.load("nano")
    with pytest.raises(BenchmarkError, match="names nothing on the hub"):
        fetch.fetch(benchmark, tmp_path)
