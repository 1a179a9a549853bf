"""Checks on the node where a job is submitted: all of them, so that no job waits in the queue to fail."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import yaml

from hpo.app import cli
from tests.benchmarks.check.models import model_folder, nano_with
from tests.slurm.testbed.drills import write_profile

SUBMISSIONS = [
    ["submit", "asha"],
    ["submit", "suite"],
    ["submit", "confirm"],
    ["array", "random"],
    ["serial", "random"],
]


@pytest.fixture(params=SUBMISSIONS, ids=" ".join)
def words(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A dry run with a model whose tokenizer has no end token, which only the library tells."""
    monkeypatch.chdir(tmp_path)
    write_profile(tmp_path)
    folder = model_folder(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": None}))
    content = nano_with(model=str(folder)).model_dump(mode="json", exclude_none=True)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    verb, what = request.param
    return ["slurm", verb, "--cluster", "cluster.yaml", "--dry-run", what, "--benchmark", "own.yaml"]


def test_what_only_the_libraries_know_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "its tokenizer has no end token" in printed.err


def test_without_torch_it_is_left_to_the_job_with_a_warning(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def find_all_but_torch(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "torch" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_torch)
    assert cli.main(words) == 0
    assert capsys.readouterr().err.startswith("warning: torch is not installed here: the model's tokenizer and")
