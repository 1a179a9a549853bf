"""The wheel has the three packages with their data, and runs a study where nothing else of the repository is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("benchmarks", "hpo", "slurm")
LEFT_OUT = (".md", ".pyc")  # read in the repository, or made by Python


def run(command: Sequence[object], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build in a copy, so that no `build/` of an earlier state takes part and none is left."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements-run.txt"):
        shutil.copy(REPOSITORY / name, source)
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", folder]
    run([sys.executable, "-m", "pip", "wheel", source, *options], folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh environment that finds this one's packages, but not the repository."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel], folder)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.mark.slow
def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    expected = {
        str(path.relative_to(REPOSITORY))
        for name in PACKAGES
        for path in (REPOSITORY / name).rglob("*")
        if path.is_file() and (path.suffix not in LEFT_OUT or path.parent.name == "banks")  # cards go with banks
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert inside == expected
    assert {f"{name}/py.typed" for name in PACKAGES} <= inside  # a user's type checker reads the annotations
    assert len(licences) == 1


@pytest.mark.slow
def test_the_console_script_runs_a_study_from_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["run", "random", "--benchmark", "synthetic", "--budget", "2"]
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": fresh_store(empty)}
    done = run([scripts / "hpo", *words], empty, **variables)
    assert '"method": "random"' in done.stdout


@pytest.mark.slow
def test_the_installed_packages_are_the_wheels_and_know_their_pins(scripts: Path, tmp_path: Path) -> None:
    question = (
        "import hpo, benchmarks, slurm; from hpo.workflows.doctor import pins; "
        "print(hpo.__file__, benchmarks.__file__, slurm.__file__, pins()['torch'], pins()['ray'])"
    )
    done = run([scripts / "python", "-c", question], tmp_path, PYTHONPATH="")
    *files, torch, ray = done.stdout.split()
    assert all(Path(file).is_relative_to(scripts.parent) for file in files)
    pinned = (REPOSITORY / "requirements-run.txt").read_text()
    assert f"torch=={torch}\n" in pinned
    assert f"ray[tune]=={ray}\n" in pinned
