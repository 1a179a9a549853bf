"""GPUs that the installed torch cannot use: every command that trains says so before anything starts."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from rich.console import Console

from benchmarks.devices.torch_build import TorchBuild
from hpo.app import cli
from hpo.workflows import doctor
from tests.benchmarks.devices.machines import CPU_BUILD, CUDA_13, R535, gpu, machine, put_in
from tests.stores import fresh_store

H100 = machine(gpu(0), gpu(1))
V100 = machine(gpu(0, "Tesla V100", (7, 0)), driver=R535)
REFUSAL = (
    "error: torch 2.13.0+cpu, which is built without CUDA, cannot use NVIDIA H100 (compute capability 9.0, driver "
)
COMMANDS = (
    ["run", "random", "--benchmark", "nano", "--budget", "1"],
    ["suite", "--benchmark", "nano", "--methods", "random", "--budget", "1", "--seeds", "1"],
    ["train", "--config", "best_config.json", "--benchmark", "nano", "--output", "trained"],
    ["deepspeed", "--benchmark", "nano", "--output", "rows"],
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with a configuration to train; no Ray may start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a Ray was started"))
    Path("best_config.json").write_text(json.dumps({"config": {"learning_rate": 1e-3}}))


def error_of(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """Run a command that must be refused before anything is written; return its error."""
    assert cli.main(command) == 2
    assert not {path.name for path in Path().iterdir()} & {"unfinished", "trained", "rows"}
    return capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_it_is_refused_with_the_install_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_in(monkeypatch, H100, build=CPU_BUILD)
    error = error_of(capsys, command)
    assert error.startswith(REFUSAL)
    assert error.endswith("install a build that can: pip uninstall -y torch && pip install torch==2.13.0\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_so_are_machines_whose_hours_or_devices_are_unclear(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_in(monkeypatch, machine(gpu(0, "NVIDIA T400", (7, 5)), gpu(1)))
    assert "GPUs of 2 kinds" in error_of(capsys, command)
    put_in(monkeypatch, H100, "0,0")
    assert "names GPU 0 (NVIDIA H100, GPU-0a7c-0) twice" in error_of(capsys, command)


@pytest.mark.slow  # imports torch and deepspeed
@pytest.mark.parametrize(
    ("described", "build", "line"),
    [
        (H100, CPU_BUILD, r"LACKS  devices +torch 2\.13\.0\+cpu, .*pip install torch==2\.13\.0$"),
        (V100, CUDA_13, r"LACKS  devices +torch .* pip install torch==2\.13\.0 --index-url https://download\.pytorch"),
        (machine(gpu(0), gpu(1, "NVIDIA T400")), None, r"LACKS  devices +this machine has GPUs of 2 kinds"),
        (H100, CUDA_13, r"LACKS  devices +torch .* (cannot use NVIDIA H100|finds no GPU that it can use)"),
    ],
)
def test_the_doctor_says_so(described: str, build: TorchBuild, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last machine is sound by its facts; torch itself, which is asked too, finds no GPU here."""
    put_in(monkeypatch, described, build=build)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = io.StringIO()
    assert doctor.report(Console(file=out, width=40)) == 1
    assert re.search(f"(?m)^{line}", out.getvalue())


@pytest.mark.parametrize(
    "command",
    [
        ["run", "random", "--budget", "1"],
        ["suite", "--methods", "random", "--budget", "1", "--seeds", "1"],
        ["bank", "record", "--configs", "1", "--seeds", "1", "--output", "bank"],
    ],
    ids=lambda command: str(command[0]),
)
def test_shares_of_a_gpu_that_hold_no_training_are_refused(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """nano takes megabytes, and a CUDA context three quarters of a GiB."""
    put_in(monkeypatch, machine({**gpu(0), "memory": 2 << 30}), build=CUDA_13)
    Path("shared.yaml").write_text("like: nano\nname: shared\nfinetune: {trials_per_gpu: 3}\n")
    error = error_of(capsys, [*command, "--benchmark", "shared.yaml"])
    assert "trials_per_gpu is 3, but weights, gradients and optimizer of a trial take" in error
    assert error.endswith("lower trials_per_gpu, or train LoRA\n")


@pytest.mark.parametrize(
    ("method", "free_bytes", "message"),
    [("pbt", 0, "its disk has 0.0 GB free, but pbt may keep"), ("random", 1 << 40, "its share of NVIDIA H100 is")],
)
def test_no_ray_is_started_beside_the_checks_of_a_study_that_is_refused(
    method: str, free_bytes: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that is alone in its process starts one in the background."""
    put_in(monkeypatch, machine({**gpu(0), "memory": 2 << 30}), build=CUDA_13)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_bytes))
    monkeypatch.setattr("hpo.cluster.ray.EarlyRay", lambda devices: pytest.fail("a Ray was started"))
    sharing = 1 if method == "pbt" else 3
    Path("shared.yaml").write_text(f"like: nano\nname: shared\nfinetune: {{trials_per_gpu: {sharing}}}\n")
    monkeypatch.setattr(sys, "argv", ["hpo", "run", method, "--benchmark", "shared.yaml", "--budget", "4"])
    assert cli.main() == 2
    assert message in capsys.readouterr().err
