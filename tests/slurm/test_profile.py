"""A cluster profile is read strictly, and its mistakes are named with what is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.spec import BenchmarkError
from slurm import formats, profile

SMALLEST = "node: {cpus: 4}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text)
    return path


def test_a_node_s_cpus_are_enough(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST))
    assert (read.node.cpus, read.node.gpus, read.workers.count) == (4, 0, 1)


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
        (
            SMALLEST + "time: soon\n",
            r"time: must be minutes, \[days-\]hours:minutes:seconds, or UNLIMITED \(got 'soon'\)",
        ),
        (SMALLEST + "partition: 'a b'\n", "partition: must be a name without spaces or quotes"),
        (SMALLEST + "cpus_for_ray: 4\n", "cpus_for_ray is 4, but a node has 4 CPUs"),
        (SMALLEST + "cpus_per_rank: 2\n", "cpus_per_rank is 2, but where a node has no GPUs a rank is one CPU core"),
        (SMALLEST + "directives: [constraint=v100]\n", "'constraint=v100' is no option of sbatch"),
        (SMALLEST + "directives: ['--time=1']\n", "'--time=1' is set by the profile's own keys"),
        ("node: {cpus: 4, gpus_per_task: 1}\n", "node.gpus_per_task: unknown key; valid here are cpus, gpus, memory"),
        ("node: {cpus: 4, gpus: v100}\n", r"node: gpus must be a number, or a type and a number.*\(got 'v100'\)"),
        (
            "node: {cpus: 4, gpus: 'a:2'}\nworkers: {cuont: 2}\n",
            "workers.cuont: unknown key; valid here are count, dir",
        ),
        (SMALLEST + "workers: {directives: ['--gres=gpu:2']}\n", "'--gres=gpu:2' is set by .*: node.gpus"),
        (SMALLEST + "directives: ['--nodes=2']\n", "'--nodes=2' is set by the profile's own keys: workers"),
        (SMALLEST + "directives: ['--nod 2']\n", "'--nod 2' is set by the profile's own keys: workers"),
        (SMALLEST + "head: {directives: ['--partition=cpu']}\n", "'--partition=cpu' is set by .*: partition and head"),
        (SMALLEST + "directives: ['--acc=me']\n", "'--acc=me' is set by the profile's own keys: account"),
        (SMALLEST + "directives: ['--gpus-per-task=1']\n", "'--gpus-per-task=1' is set by .*: node.gpus"),
        (
            SMALLEST + "directives: ['--tres-per-task=gres/gpu:2']\n",
            "'--tres-per-task=gres/gpu:2' is .*: node.gpus",
        ),
        (SMALLEST + "directives: ['--tres-per-node gres:gpu:2']\n", "'--tres-per-node .*: node.gpus and node.cpus"),
        (SMALLEST + "workers: {directives: ['--tres-per-t=cpu=4']}\n", "'--tres-per-t=cpu=4' is set by .*: node.gpus"),
        (SMALLEST + "directives: ['-N 2']\n", "'-N 2' is set by the profile's own keys: workers"),
        (SMALLEST + "directives: ['-pgpu']\n", "'-pgpu' is set by the profile's own keys: partition and head"),
        (SMALLEST + "directives: ['-C v100']\n", "'-C v100' must have its long name: --constraint=v100"),
        (SMALLEST + "directives: ['-H']\n", "'-H' must have its long name: --hold "),
        (SMALLEST + "directives: ['--qos=a --nodes=2']\n", "'--qos=a --nodes=2' must be one option; write each as"),
        (SMALLEST + "directives: ['--comment=\"a']\n", "must close its quotes"),
        (SMALLEST + "directives: --exclusive\n", r"directives: must be a list, such as \[--exclusive\] \(got"),
        (SMALLEST + "environment: {modules: cuda}\n", r"environment.modules: must be a list, such as \[cuda\] \(got"),
        ("node: 4\n", r"node: must be keys with values.* \(got 4\)"),
        ("node: {cpus: 4, gpus: '1:2'}\n", r"gpus must be a number, or a type and a number, such as 4 or v100:4"),
        (
            SMALLEST + "time: 02:30\n",
            r"to SLURM this is 2 minutes and 30 seconds: for hours and minutes write 02:30:00",
        ),
        (SMALLEST + "time: 0\n", "time: must be above 0, which is no limit to SLURM; for none write UNLIMITED"),
        (SMALLEST + "time: 3\n", r"time is 3 \(180 s\), but grace_seconds is 180.*must be above 240 s"),
        (SMALLEST + "job_name: a/b\n", "job_name: must be letters, digits"),
        ("node: {cpus: 4, memory: 64.5}\n", r"node.memory: must be a number of megabytes.*\(got 64.5\)"),
        (SMALLEST + "environment: {modules: [3.10]}\n", r"environment.modules.0: must be text; put it into quotes"),
        ("node: {cpus: 4, memory: 1.5T}\n", r"node.memory: must be .* whole number with K, M, G or T"),
        (SMALLEST + "environment: {container: 'docker://me/hpo'}\n", "apptainer build image.sif docker://me/hpo"),
        (SMALLEST + "environment: {container: a.sif, venv: b}\n", "venv is 'b' and container is 'a.sif'"),
        (SMALLEST + "environment: {binds: [/data]}\n", "binds are given without container"),
        (SMALLEST + "environment: {container: a.sif, binds: [data]}\n", "must be a folder, folder:folder"),
        (SMALLEST + "layout: one_job\n", "cpus_for_ray is 0, but with layout one_job the head runs on the first node"),
        (SMALLEST + "cpus_for_ray: 1\nlayout: one_job\nhead: {cpus: 4}\n", "head is given, but with layout one_job"),
        (SMALLEST + "layout: two_jobs\n", "layout: Input should be 'jobs' or 'one_job'"),
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
    assert bool(profile.load(path).node.gpus) == (path.stem != "testbed")  # its nodes are this machine


def test_a_missing_file_that_is_an_example_is_found_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no such file; there is an example: .*profiles/v100_node.yaml"):
        profile.load(tmp_path / "v100_node.yaml")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("180G", "180G"),
        ("64GB", "64G"),
        ("64GiB", "64G"),
        ("64 gb", "64G"),
        ("180000", "180000"),
        ("0", "0"),
        ('"0"', "0"),
    ],
)
def test_memory_is_read_as_people_write_it(written: str, read: str, tmp_path: Path) -> None:
    assert profile.load(write(tmp_path, f"node: {{cpus: 4, memory: {written}}}\n")).node.memory == read


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 1800),
        ('"1440"', 86400),
        ("04:00:00", 14400),
        ("2-12", 216000),
        ("1-00:30", 88200),
        ("1-02:03:04", 93784),
        ("UNLIMITED", float("inf")),
        ("infinite", float("inf")),
    ],
)
def test_a_time_limit_is_read_as_slurm_reads_it(written: str, seconds: float, tmp_path: Path) -> None:
    assert formats.seconds_of(profile.load(write(tmp_path, SMALLEST + f"time: {written}\n")).time) == seconds


def test_a_name_may_be_a_whole_number(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST + "account: 4711\nenvironment: {modules: [2024]}\n"))
    assert (read.account, read.environment.modules) == ("4711", ("2024",))


@pytest.mark.parametrize("kind", ["v100", "a100_3g.20gb", "1g.10gb"])
def test_gpus_may_have_a_type(tmp_path: Path, kind: str) -> None:
    node = profile.load(write(tmp_path, f"node: {{cpus: 20, gpus: '{kind}:4'}}\n")).node
    assert (node.gpus, node.gpu_type) == (4, kind)


def test_an_image_lies_beside_the_profile(tmp_path: Path) -> None:
    read = profile.load(write(tmp_path, SMALLEST + "environment: {container: hpo.sif}\n"))
    assert read.environment.container == str(tmp_path / "hpo.sif")
