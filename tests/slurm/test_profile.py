"""A cluster profile is read strictly, and its mistakes are named with what is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.spec import BenchmarkError
from slurm import profile

SMALLEST = "node: {cpus: 4}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text)
    return path


def test_a_node_s_cpus_are_enough(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST))
    assert (read.node.cpus, read.node.gpus, read.workers) == (4, 0, 1)


def test_store_and_logs_lie_beside_the_profile(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST + "logs: out\n"))
    assert (read.store, read.logs) == (str(tmp_path / "mlflow.db"), str(tmp_path / "out"))


def test_a_tracking_server_stays_an_address(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST + "store: http://tracking:5000\n"))
    assert (read.store, read.is_served) == ("http://tracking:5000", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition: gpu\n", "node: Field required"),
        (SMALLEST + "nodes: 3\n", "nodes: unknown key; valid here are partition, account, time, workers"),
        ("node: {cpus: 4, gpu: 2}\n", "node.gpu: unknown key; valid here are cpus, gpus, memory"),
        ("node: {cpus: 0}\n", r"node.cpus: Input should be greater than or equal to 1 \(got 0\)"),
        ("node: {cpus: 4, memory: plenty}\n", r"node.memory: must be a number of megabytes.*\(got 'plenty'\)"),
        (SMALLEST + "time: soon\n", r"time: must be minutes, or \[days-\]hours:minutes:seconds \(got 'soon'\)"),
        (SMALLEST + "partition: 'a b'\n", "partition: must be a name without spaces or quotes"),
        (SMALLEST + "cpus_for_ray: 4\n", "cpus_for_ray is 4, but a node has 4 CPUs"),
        (SMALLEST + "cpus_per_rank: 2\n", "cpus_per_rank is 2, but where a node has no GPUs a rank is one CPU core"),
        (SMALLEST + "directives: [constraint=v100]\n", "'constraint=v100' is no option of sbatch"),
        (SMALLEST + "directives: ['--time=1']\n", "'--time=1' is set by the profile's own keys"),
        (SMALLEST + "interface: lo\n", "interface: must be an interface that other nodes reach"),
        (SMALLEST + "address: 127.0.0.1\n", "address: must be a network by which other nodes reach this one"),
        (SMALLEST + "address: head.site\n", "address: must be an IPv4 network such as 10.1.0.0/16"),
        (SMALLEST + "environment: {conda: a, venv: b}\n", "conda is 'a' and venv is 'b'"),
    ],
)
def test_a_mistake_is_named_with_what_is_valid(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=message):
        profile.load(write(tmp_path, text))


@pytest.mark.parametrize("path", sorted(profile.PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_hold(path: Path) -> None:
    assert profile.load(path).node.gpus


def test_a_missing_file_that_is_an_example_is_found_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no such file; there is an example: .*profiles/v100_node.yaml"):
        profile.load(tmp_path / "v100_node.yaml")
