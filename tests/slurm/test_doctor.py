"""The login node and a compute node, side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slurm import doctor
from tests.benchmarks.devices.machines import CPU_BUILD, CUDA_13, gpu, machine, put_in
from tests.slurm.testbed.drills import hpo, write_profile

HERE = {
    "node": "login",
    "python": "3.11.7 /venv",
    "package torch": "2.13.0",
    "GPUs": "none",
    "logs folder": doctor.WRITABLE,
}


def verdicts(there: dict[str, str], needs_gpu: bool = False) -> dict[str, str]:
    return {row.name: row.verdict for row in doctor.compare(HERE, {**HERE, **there}, needs_gpu)}


def test_another_node_is_another_node() -> None:
    assert verdicts({"node": "n1"}) == {**dict.fromkeys(HERE, "ok"), "node": "differs"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("python", "3.9.2 /usr"),
        ("package torch", "none"),
        ("package torch", "2.1.0"),
        ("logs folder", "/logs is not the login node's"),
    ],
)
def test_what_makes_a_study_another_one_is_lacking(name: str, value: str) -> None:
    assert verdicts({name: value})[name] == "LACKS"


def test_a_gpu_is_lacking_where_jobs_ask_for_one_and_it_is_the_login_node_that_may_have_none() -> None:
    assert verdicts({}, needs_gpu=True)["GPUs"] == "LACKS"
    assert verdicts({"GPUs": "Tesla V100"}, needs_gpu=True)["GPUs"] == "differs"
    assert verdicts({}, needs_gpu=False)["GPUs"] == "ok"


def test_a_node_whose_torch_cannot_use_its_gpus_is_lacking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    for build, expected in ((CPU_BUILD, "LACKS"), (CUDA_13, "differs")):
        put_in(monkeypatch, machine(gpu(0), gpu(1)), build=build)
        there = doctor.facts(tmp_path, tmp_path / "mark")
        assert there["GPUs"] == "NVIDIA H100, NVIDIA H100"
        rows = {row.name: row for row in doctor.compare({**HERE, doctor.USE: "no GPU"}, there, needs_gpu=True)}
        assert rows[doctor.USE].verdict == expected
    put_in(monkeypatch, machine(gpu(0)), build=CPU_BUILD)
    assert "cannot use NVIDIA H100" in doctor.facts(tmp_path, tmp_path / "mark")[doctor.USE]


@pytest.mark.slow  # imports torch
def test_a_node_that_is_to_train_tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_in(monkeypatch, machine(gpu(0)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "mark").touch()
    monkeypatch.chdir(tmp_path)
    doctor.answer(tmp_path / "mark")
    assert json.loads((tmp_path / "answer.json").read_text())[doctor.USE].startswith("fails: torch ")


def test_a_folder_of_the_same_name_that_is_not_shared_is_told_apart(tmp_path: Path) -> None:
    assert doctor._shared(tmp_path / "mark") == f"{tmp_path} is not the login node's"


def test_the_answer_is_a_file_of_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mark").touch()
    doctor.answer(tmp_path / "mark")
    found = json.loads((tmp_path / "answer.json").read_text())
    assert found["logs folder"] == doctor.WRITABLE
    assert found["package torch"].startswith("2.13.0")


@pytest.mark.slow
def test_a_job_tells_what_its_node_has(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write_profile(work, environment={"lines": ["export OMP_NUM_THREADS=7"]})
    done = hpo(work, "slurm", "doctor", "--cluster", "cluster.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line.split() for line in done.stdout.splitlines() if "OMP_NUM_THREADS" in line]
    assert line == ["differs", "OMP_NUM_THREADS", "not", "set", "7"]
    assert done.stdout.splitlines()[-1] == "a study would run there as here"


@pytest.mark.thorough  # SLURM's own clock decides
@pytest.mark.slow
def test_a_job_that_finds_no_python_is_explained_by_its_log(work: Path) -> None:
    write_profile(work, environment={"venv": "/no/such/environment"})
    done = hpo(work, "slurm", "doctor", "--cluster", "cluster.yaml")
    assert done.returncode == 2
    assert re.search(r"error: job \d+ ended without an answer; its log says: .*/no/such/environment", done.stderr)
    assert "Traceback" not in done.stderr
