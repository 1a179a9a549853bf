"""Fetching from a hub: one that answers as the real one does, on this machine, and one that does not answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from tests.hubs import DATA, MODEL, Hub, serving_nano, write_benchmark

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the suite finds it."""
    with serving_nano(tmp_path) as found:
        yield found


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


@pytest.mark.thorough  # test_hub looks the same copy up, offline
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
