"""The check of a node, tried on small models without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.devices.torch_build import TorchBuild
from benchmarks.measure.device.__main__ import BUDGET_SECONDS, main
from benchmarks.measure.device.checks import CHECKS
from benchmarks.measure.device.table import Line, render
from tests.benchmarks.devices.machines import CPU_BUILD, CUDA_13, broken, gpu, machine, put_in

REPOSITORY = Path(__file__).parents[3]
EIGHT_MINUTES = 480


def run(folder: Path, *words: str, timeout_seconds: float) -> tuple[int, str, list[dict[str, object]]]:
    """Exit status, table and lines of the command."""
    command = [sys.executable, "-m", "benchmarks.measure.device", "--cpu", "--output", str(folder / "lines"), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=timeout_seconds)
    return done.returncode, done.stdout, [json.loads(line) for line in (folder / "lines").read_text().splitlines()]


@pytest.mark.parametrize(
    ("described", "build", "message"),
    [
        (broken(12), CUDA_13, "error: there is no GPU here; --cpu tries the checks without one\n"),
        (broken(18), CUDA_13, "error: the GPU driver says: Driver/library version mismatch; "),
        (machine(gpu(0)), CPU_BUILD, "error: torch 2.13.0+cpu, which is built without CUDA, cannot use NVIDIA H100 "),
        (machine(gpu(0), gpu(1, "NVIDIA T400")), CUDA_13, "error: this machine has GPUs of 2 kinds"),
    ],
)
def test_no_device_time_is_spent_where_torch_cannot_use_the_gpu(
    described: str,
    build: TorchBuild,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_in(monkeypatch, described, build=build)
    monkeypatch.setattr("benchmarks.measure.device.__main__.installed", lambda: build)
    assert main([]) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.slow
def test_checks_run_without_a_gpu_and_leave_a_table_and_json_lines(tmp_path: Path) -> None:
    names = ["environment", "checkpoints", "memory"]
    status, table, lines = run(tmp_path, "--only", ",".join(names), timeout_seconds=250)
    assert [(line["check"], line["outcome"]) for line in lines] == [
        ("environment", "measured"),
        ("checkpoints", "ok"),
        ("memory", "ok"),
    ]
    assert status == 0
    assert table.splitlines()[0].split() == ["check", "outcome", "seconds", "found"]
    assert all(name in table for name in names)


@pytest.mark.thorough
@pytest.mark.timeout(1000)
def test_all_checks_run_without_a_gpu(tmp_path: Path) -> None:
    status, _, lines = run(tmp_path, "--budget", "900", timeout_seconds=950)
    assert [line["check"] for line in lines if line["outcome"] == "failed"] == []
    assert [line["check"] for line in lines] == list(CHECKS)
    assert status == 0


@pytest.mark.slow
def test_a_check_that_takes_too_long_fails_and_does_not_hold_up_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKS, "answers", (CHECKS["answers"][0], 0.5))
    assert main(["--cpu", "--only", "answers,environment", "--output", str(tmp_path / "lines")]) == 1
    first, second = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    assert (first["outcome"], second["outcome"]) == ("failed", "measured")


@pytest.mark.slow
def test_a_check_for_which_no_time_is_left_is_skipped(tmp_path: Path) -> None:
    assert main(["--cpu", "--only", "answers", "--budget", "0", "--output", str(tmp_path / "lines")]) == 0
    assert json.loads((tmp_path / "lines").read_text())["outcome"] == "skipped"


def test_all_checks_together_take_less_than_eight_minutes() -> None:
    assert BUDGET_SECONDS < EIGHT_MINUTES


def test_an_unknown_check_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--only", "start,sped"])
    assert caught.value.code == 2
    assert "'sped' is no check; choose from environment, start, overhead" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf", "a minute"])
def test_a_budget_is_a_number_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([f"--budget={seconds}"])
    assert caught.value.code == 2
    assert f"'{seconds}' must be a number of seconds, 0 or more, such as 460" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["not/there/lines", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_first_check(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a check was started"))
    assert main(["--cpu", "--output", str(tmp_path / place)]) == 2
    assert "cannot be written (" in capsys.readouterr().err


def test_the_table_has_one_figure_per_row() -> None:
    lines = [
        Line("speed", "measured", 12.34, {"batch 2": {"samples/s": 101.234567, "kernels": 3126.0}, "batch 8": 7}),
        Line("lora", "skipped"),
    ]
    assert [row.rstrip() for row in render(lines).splitlines()] == [
        "check  outcome   seconds  found",
        "speed  measured  12.3     batch 2 samples/s: 101.2, kernels: 3126",
        "                          batch 8 7",
        "lora   skipped   0.0",
    ]
