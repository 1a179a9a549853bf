"""Every command in the README runs. Install, main job and `pytest` itself are run by `.ci/run`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import spec
from hpo.search import registry
from tests.servers import Server
from tests.studies import make_project

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
RUN_BY_CI = [
    "pip install -r requirements.txt && mlflow run . -e asha --env-manager local",
    "pip install -r requirements.txt && pytest",
]
SERVER = "mlflow ui --backend-store-uri sqlite:///mlflow.db"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.strip().splitlines()]


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def test_install_main_job_and_tests_are_run_by_ci() -> None:
    assert [command for command in commands() if command.startswith("pip install")] == RUN_BY_CI
    ci = (REPOSITORY / ".ci/run").read_text().splitlines()
    assert {"mlflow run . -e asha --env-manager local", "pytest"} <= set(ci)
    assert any(line.startswith("pip install") and line.endswith("-r requirements.txt") for line in ci)


def copy_store(folder: Path) -> bool:
    """Begin with the store of the page's main job, which `.ci/run` has run before the tests; whether there is one."""
    kept = Path(os.environ.get("MLFLOW_TRACKING_URI", "").removeprefix("sqlite:///"))
    if kept.is_file():
        shutil.copy(kept, folder / "mlflow.db")
    return kept.is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_other_commands_run_in_the_order_of_the_page(tmp_path: Path) -> None:
    main_job = "mlflow run . -e asha --env-manager local -P budget=2"  # its export needs no more
    project = make_project(tmp_path / "project")
    others = [main_job] * (not copy_store(tmp_path))
    others += [command for command in commands() if command not in [*RUN_BY_CI, SERVER]]
    assert len(others) >= 7
    for command in others:
        done = subprocess.run(
            shlex.split(command), cwd=project, env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
def test_the_browser_command_serves_the_store(tmp_path: Path) -> None:
    assert SERVER in commands()
    with Server(shlex.split(SERVER)[1:], tmp_path):
        pass  # it answers


def test_the_search_space_on_the_page_is_usable(tmp_path: Path) -> None:
    [space] = [block for block in blocks("yaml") if block.startswith("space:")]
    (tmp_path / "my_space.yaml").write_text(space)
    benchmark = spec.load("nano", tmp_path / "my_space.yaml")
    assert set(benchmark.space) == {"learning_rate", "batch_size_per_device", "warmup_ratio"}
    assert len(list(benchmark.grid_configs())) == 2


def test_the_benchmark_on_the_page_is_usable(tmp_path: Path) -> None:
    [own] = [block for block in blocks("yaml") if block.startswith("finetune:")]
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**content, **yaml.safe_load(own)}))
    (tmp_path / "stage2.json").write_text((REPOSITORY / "benchmarks/zero/stage2.json").read_text())
    benchmark = spec.load(str(tmp_path / "my.yaml"))
    assert benchmark.finetune is not None
    assert benchmark.finetune.data.validation.articles == "held_out"
    assert benchmark.finetune.deepspeed["zero_optimization"]["stage"] == 2


def test_the_page_names_every_method_and_folder() -> None:
    [layout] = [block for block in blocks("text") if block.startswith("MLproject")]
    named = {line.split()[0].rstrip("/") for line in layout.splitlines()}
    assert named == {"MLproject", "benchmarks", "hpo", "slurm", "tests", "docs"}
    assert all((REPOSITORY / name).exists() for name in named)
    assert all(f"`{name}`" in README for name in registry.names())


def test_links_lead_somewhere() -> None:
    for page in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
