"""The doctor's words about a machine that lacks something, and about this one."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hpo.workflows import doctor, preflight


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_pythons_have_no_fault(version: tuple[int, int]) -> None:
    assert preflight.python_fault(version) == ""


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14), (4, 0)])
def test_other_pythons_are_named_with_those_that_are_supported(version: tuple[int, int]) -> None:
    fault = preflight.python_fault(version)
    assert fault.startswith(f"Python is {version[0]}.{version[1]}, but must be 3.11 to 3.13")


def test_a_python_s_fault_says_what_to_do() -> None:
    assert "virtual environment" in preflight.python_fault((3, 10))


def test_packages_that_are_there_have_no_fault() -> None:
    assert preflight.package_fault(("json", "yaml")) == ""


def test_a_missing_package_is_named_with_the_remedy() -> None:
    fault = preflight.package_fault(("yaml", "no_such_package"))
    assert "no_such_package is missing" in fault
    assert "pip install -r requirements.txt" in fault


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "g++" in doctor.compiler_fault()


def test_a_compiler_on_the_path_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.compiler_fault() == ""


def test_this_machine_can_run_a_study() -> None:
    doctor.require()


def test_pins_are_exact_versions() -> None:
    assert all(re.fullmatch(r"\d+(\.\d+)+[a-z0-9.]*", version) for version in doctor.pins().values())


def test_every_requirement_is_pinned() -> None:
    lines = [line.split("#")[0].strip() for line in doctor.REQUIREMENTS.read_text().splitlines()]
    requirements = [line for line in lines if line and not line.startswith("-")]
    assert len(doctor.pins()) == len(requirements)


@pytest.mark.parametrize("package", ["torch", "deepspeed", "transformers", "ray", "mlflow", "hyperopt", "optuna"])
def test_what_decides_results_is_pinned(package: str) -> None:
    assert package in doctor.pins()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Exit status and text of the report on this machine."""
    out = io.StringIO()
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        monkeypatch.setenv("DS_ACCELERATOR", "cpu")  # the report sets it on machines without a GPU
        status = doctor.report(Console(file=out, width=40))
    return status, out.getvalue()


@pytest.mark.slow  # imports torch and deepspeed
class TestReport:
    def test_has_one_line_a_row(self, report: tuple[int, str]) -> None:
        assert all(re.match(r"(ok   |LACKS)  \S", line) for line in report[1].splitlines())

    @pytest.mark.parametrize("row", ["python", "torch", "ray", "compiler", "devices", "tracking store"])
    def test_looks_at(self, report: tuple[int, str], row: str) -> None:
        assert re.search(rf"^(ok   |LACKS)  {row} ", report[1], re.MULTILINE)

    def test_names_the_store_that_studies_would_use(self, report: tuple[int, str]) -> None:
        assert re.search(r"^ok .*sqlite:///.*mlflow\.db \(made at the first run\)$", report[1], re.MULTILINE)

    def test_status_is_zero_where_only_the_compiler_may_be_lacking(self, report: tuple[int, str]) -> None:
        lacking = [line for line in report[1].splitlines() if line.startswith("LACKS") and "compiler" not in line]
        assert report[0] == (1 if lacking else 0)


@pytest.mark.slow
def test_a_missing_package_is_one_sentence_and_no_traceback() -> None:
    """An interpreter without site-packages has none of them."""
    repository = Path(__file__).parents[3]
    command = [sys.executable, "-S", "-m", "hpo", "methods"]
    done = subprocess.run(command, cwd=repository, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: package pydantic is missing; install the pinned versions: pip install -r requirements.txt\n"
    )
