"""A Hugging Face hub on loopback that answers as the real one does, for folders of files."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import yaml

from benchmarks import spec
from benchmarks.tasks import question_answering as squad

MODEL, DATA = "someone/tiny-bloom", "someone/questions"


class Hub(BaseHTTPRequestHandler):
    """The hub's addresses that checks and downloads ask for; anything else is not found.

    Attributes:
        repositories: folder of each repository, such as "models/owner/name"; of a revision other than main with "@".
        gated: repositories that ask for consent.
        revisions: that were asked for, such as "models/owner/name@main".
    """

    repositories: Mapping[str, Path]
    gated: frozenset[str] = frozenset()
    revisions: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        for name in {place.partition("@")[0] for place in self.repositories}:
            api, files = f"/api/{name}", f"/{name.removeprefix('models/')}/resolve/"
            if name in self.gated and path in (f"{api}/auth-check", files):
                return self._refuse(403, "GatedRepo")
            if path == api or path.startswith(f"{api}/revision/"):
                revision = path.removeprefix(api).rpartition("/")[2] or "main"
                self.revisions.add(f"{name}@{revision}")
                return self._send(json.dumps(self._describe(name, revision)).encode(), with_body, "application/json")
            if path.startswith(f"{api}/tree/"):
                revision, _, below = path.removeprefix(f"{api}/tree/").partition("/")
                rows = self._tree(self._folder(name, revision), below, "recursive=false" not in self.path)
                return self._send(json.dumps(rows).encode(), with_body, "application/json")
            if path.startswith(files):
                revision, file = path.removeprefix(files).split("/", 1)
                found = self._folder(name, revision) / file
                if not found.is_file():
                    return self._refuse(404, "EntryNotFound")
                return self._send(found.read_bytes(), with_body, commit=commit_of(self._folder(name, revision)))
        return self._refuse(404, "RepoNotFound")

    def _folder(self, name: str, revision: str) -> Path:
        """Find the folder of a tag or a commit; that of main for any other."""
        for place, folder in self.repositories.items():
            if place.partition("@")[0] == name and revision in (place.partition("@")[2], commit_of(folder)):
                return folder
        return self.repositories[name]

    def _describe(self, name: str, revision: str) -> dict[str, Any]:
        folder = self._folder(name, revision)
        files = [{"rfilename": str(path.relative_to(folder))} for path in folder.rglob("*") if path.is_file()]
        known = {"id": name.split("/", 1)[1], "sha": commit_of(folder), "private": False, "siblings": files}
        return {**known, "gated": "manual" if name in self.gated else False}

    def _tree(self, folder: Path, below: str, is_recursive: bool) -> list[dict[str, Any]]:
        """Describe the files, and folders where these are not gone into, below a folder."""
        found = (folder / below).rglob("*") if is_recursive else (folder / below).glob("*")
        return [
            {
                "type": "file" if path.is_file() else "directory",
                "path": str(path.relative_to(folder)),
                "size": path.stat().st_size,
                "oid": "0" * 40,
            }
            for path in found
        ]

    def _send(self, body: bytes, with_body: bool, kind: str = "application/octet-stream", commit: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def commit_of(folder: Path) -> str:
    """Make up the commit of a folder."""
    return hashlib.sha1(str(folder).encode()).hexdigest()


@contextmanager
def serving(repositories: Mapping[str, Path], gated: frozenset[str] = frozenset()) -> Iterator[str]:
    """Serve folders of files; returns the address."""
    handler = type("Handler", (Hub,), {"repositories": repositories, "gated": gated})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def serving_nano(folder: Path) -> Iterator[dict[str, str]]:
    """Serve nano's model, with pickled weights beside it, and data; returns the environment in which it is found."""
    model, data = folder / "hub-model", folder / "hub-data"
    nano = spec.load("nano").training_settings()
    shutil.copytree(nano.model, model)
    (model / "pytorch_model.bin").write_bytes(b"a pickle from a stranger")
    write_dataset(data, squad.read_split(nano.data.train.model_copy(update={"limit": 64})))
    with serving({f"models/{MODEL}": model, f"datasets/{DATA}": data}) as address:
        yield environment(address, folder / "cache")


def environment(address: str, cache: Path) -> dict[str, str]:
    """Return the variables by which Hugging Face's libraries find a hub and a cache."""
    return {"HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}


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
