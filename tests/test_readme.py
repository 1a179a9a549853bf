"""Every command on a page runs. `.ci/run` runs the install, the main job and `pytest` itself."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.projects._project_spec import load_project

from benchmarks import spec
from hpo.app.cli import main
from hpo.app.parser import parse
from hpo.engine.in_process import InProcess
from hpo.search import registry
from tests.grids import points_of
from tests.hpo.workflows.export.exports import store_study
from tests.servers import Server
from tests.stores import fresh_store, working_in
from tests.studies import make_project, run_here

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
MAIN_JOB = "mlflow run . -e asha --env-manager local"
RUN_BY_CI = [
    f"pip install -r requirements.txt && {MAIN_JOB}",
    "pip install -r requirements.txt && pytest",
]
SERVER = "mlflow ui --backend-store-uri sqlite:///mlflow.db"
HPO = "python -m hpo "
COMPARING = "comparing"
IN_ORDER = ["start", "methods", COMPARING, "resume", "reliability", "troubleshooting", "import"]
"""Pages in the order in which a reader types their commands."""
RUN_ELSEWHERE = {
    "pip install .": "tests/packaging/test_wheel.py",
    "mlflow models serve --model-uri runs:/RUN_ID/model --env-manager local --port 5001": "tests/hpo/store/"
    "test_served_model.py",
    'curl http://127.0.0.1:5001/invocations -H "Content-Type: application/json" '
    '-d \'{"dataframe_records": [{"question": "Who was first?", "context": "Ada was first."}]}\'': "tests/hpo/store/"
    "test_served_model.py",
    "python -m hpo slurm submit asha --cluster cluster.yaml": "tests/slurm/test_readme.py",
    "python -m hpo hq submit random --cluster cluster.yaml --benchmark synthetic --budget 200 --per-task 20": "tests/"
    "slurm/hq/test_hq.py",
    "python -m hpo run asha --experiment ada-nano": "tests/hpo/store/test_shared_server.py",
    "python -m hpo compare --experiment ada-nano": "tests/hpo/store/test_shared_server.py",
    "mlflow run . -e deepspeed --env-manager local -P benchmark=nano -P configurations=plain,zero2,zero3 "
    "-P examples=64": "tests/hpo/workflows/test_deepspeed.py",
    "python -m hpo deepspeed --benchmark nano --ranks 1,2": "tests/hpo/workflows/test_deepspeed.py",
    "sbatch deepspeed.sh --benchmark bloom_560m_squad --nodes 1,2 --ranks 1,4 --scaling both": "tests/slurm/"
    "testbed/test_zero_study.py",
    "python -m benchmarks.measure.device": "tests/benchmarks/measure/test_device.py",
    "python -m hpo bank record --benchmark nano --configs 400 --seeds 3": "tests/hpo/recording/test_recorder.py",
    "python -m hpo bank collect --benchmark nano": "tests/hpo/recording/test_collecting.py",
    'python -m hpo bank import results.csv --benchmark nano --seed 0 --accelerator "Tesla V100"': "tests/hpo/recording/"
    "test_importing.py",
    "python -m hpo bank import deberta-base_tuning.results.jsonl --format opda --licence CC-BY-SA-4.0": "tests/hpo/"
    "recording/test_importing.py",
    "python -m hpo bank export --bank nano --seeds 2 --output blackbox": "tests/hpo/recording/test_blackbox.py",
    "python -m hpo slurm record --cluster cluster.yaml --tasks 16 --benchmark nano --configs 400 --seeds 3": (
        "tests/slurm/recording/test_array.py"
    ),
    "python -m hpo compare --benchmark nano,nano_short,nano_lora": "tests/hpo/app/test_several_benchmarks.py",
    "python -m hpo certify --benchmark nano": "tests/hpo/recording/certificate/test_certify.py",
    "python -m hpo replay --benchmark nano_recorded --methods all --seeds 0..199 --budgets 4,8,12,24,48 --devices 2": (
        "tests/hpo/replays/test_command.py"
    ),
    "mlflow run . -e replay --env-manager local -P seeds=0..199": "tests/hpo/replays/test_command.py",
    "python -m hpo compare --benchmark nano_recorded --budget 12": "tests/hpo/replays/test_command.py",
    "pip install pip-audit && pip-audit -r requirements.txt": "tests/security/test_dependencies.py",
    "pip check && pip-audit --dry-run --no-deps --disable-pip -r requirements.txt": "tests/security/"
    "test_dependencies.py",
}
"""Commands that take minutes, a network or a cluster, and the test that runs them smaller."""


SMALLER = {"--seeds 120": "--seeds 2", "seeds=0,1,2,3,4,5": "seeds=0,1"}
"""Numbers on the pages that take minutes of computing, and those that quick tests type in their place."""


def page(name: str) -> Path:
    return REPOSITORY / "docs" / f"{name}.md"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


def commands(path: Path) -> list[str]:
    """List the commands of a page; a block that is a whole script is none."""
    typed = [block for block in blocks(path, "bash") if not block.startswith("#!")]
    return [line for block in typed for line in unfolded(block).strip().splitlines()]


def unfolded(block: str) -> str:
    """Return a block with each folded command on one line."""
    return re.sub(r" \\\n\s+", " ", block)


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def test_install_main_job_and_tests_are_run_by_ci() -> None:
    assert commands(README) == RUN_BY_CI
    ci = (REPOSITORY / ".ci/run").read_text().splitlines()
    assert {"mlflow run . -e asha --env-manager local", "pytest"} <= set(ci)
    assert any(line.startswith("pip install") and line.endswith("-r requirements.txt") for line in ci)


def test_every_command_of_every_page_is_run_by_a_test() -> None:
    run = {*RUN_BY_CI, SERVER, *RUN_ELSEWHERE, *(command for name in IN_ORDER for command in commands(page(name)))}
    for path in [README, REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/*.md")]:
        assert set(commands(path)) <= run, path.name
    assert not [test for test in RUN_ELSEWHERE.values() if not (REPOSITORY / test).exists()]


def test_commands_within_sentences_are_taken_by_the_parser() -> None:
    """Only `python -m hpo` itself: the text may name a command without its arguments."""
    for path in [README, REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")]:
        for command in re.findall(r"`python -m hpo ([a-z][^`]*)`", path.read_text()):
            words = shlex.split(command.partition(" > ")[0].replace("NAME", "asha"))
            if len(words) > 1 and "..." not in words and words[-1] != "--help":
                parse(words)


def commands_of(*pages: str) -> list[str]:
    """List each command of these pages once, where it comes first, but for those that are run elsewhere."""
    typed = [command for name in pages for command in commands(page(name))]
    return [command for command in dict.fromkeys(typed) if command not in [*RUN_BY_CI, SERVER, *RUN_ELSEWHERE]]


def smaller(command: str) -> str:
    """Return a command with small numbers in the place of large ones."""
    for large, small in SMALLER.items():
        command = command.replace(large, small)
    return command


def project_in(folder: Path) -> Path:
    """Make a project with the files that pages write, and with a store."""
    fresh_store(folder)
    project = make_project(folder / "project")
    [(project / "results.csv").write_text(table) for table in blocks(page("import"), "csv")]
    return project


def type_all(typed: list[str], project: Path) -> None:
    """Type commands, each of which has to succeed."""
    for command in typed:
        done = subprocess.run(
            shlex.split(command),
            cwd=project,
            env=environment(project.parent),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


def test_each_large_number_is_on_a_page() -> None:
    typed = commands_of(*IN_ORDER)
    assert [large for large in SMALLER if sum(large in command for command in typed) == 1] == list(SMALLER)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_run_in_the_order_of_the_pages(tmp_path: Path) -> None:
    """Each in a process of its own, but for commands of `hpo` after the first one."""
    typed = commands_of(*(name for name in IN_ORDER if name != COMPARING))
    assert len(typed) >= 8
    project, store = project_in(tmp_path), f"sqlite:///{tmp_path}/mlflow.db"
    first = next(command for command in typed if command.startswith(HPO))
    for command in typed:
        if command.startswith(HPO) and command != first:
            done = run_here(project, *shlex.split(command.removeprefix(HPO)), MLFLOW_TRACKING_URI=store)
            assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        else:
            type_all([smaller(command)], project)
    assert_stored_as_asked(store)


@pytest.mark.thorough  # a suite, confirmations and a training of nano: minutes of computing
@pytest.mark.timeout(1200)
def test_commands_of_a_comparison_run_as_typed(tmp_path: Path) -> None:
    type_all([f"{MAIN_JOB} -P budget=2", *commands_of(COMPARING)], project_in(tmp_path))  # its export needs no more


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_of_a_comparison_run_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as MLproject spells it, trials included; a study of nano is stored for the export, and none is trained."""
    for module in ("hpo.engine.runner", "hpo.workflows.suite"):
        monkeypatch.setattr(f"{module}.OnRay", lambda: InProcess(devices=2))
    project = load_project(str(REPOSITORY))
    with working_in(tmp_path):
        store_study(spec.load("nano"), "asha")
        for typed in map(smaller, commands_of(COMPARING)):
            words = shlex.split(typed)
            given = dict(word.split("=", 1) for option, word in pairwise(words) if option == "-P")
            entry = words[words.index("-e") + 1] if "-e" in words else "main"
            command = project.get_entry_point(entry).compute_command(given, str(tmp_path))
            assert entry == "train" or main(shlex.split(command)[3:]) == 0, typed


def assert_stored_as_asked(store: str) -> None:
    """Make sure that `mlflow run . -e asha ... -P seed=1` of the page is a study with what it was asked for."""
    runs = MlflowClient(store).search_runs([experiment_of(store, "synthetic")])
    [study] = [run for run in runs if run.data.tags["hpo.kind"] == "study" and run.data.params.get("seed") == "1"
               and run.data.tags["hpo.budget"] == "4"]  # fmt: skip
    assert (study.data.tags["hpo.method"], study.data.params["searcher"]) == ("asha", "optuna")
    assert study.data.metrics["units"] == 36
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert len(trials) == study.data.metrics["num_trials"]
    launches = MlflowClient(store).search_runs(["0"], f"tags.`hpo.study_run_id` = '{study.info.run_id}'")
    assert [launch.data.tags["mlflow.project.entryPoint"] for launch in launches] == ["asha"]


def experiment_of(store: str, name: str) -> str:
    found = MlflowClient(store).get_experiment_by_name(name)
    assert found is not None
    return str(found.experiment_id)


@pytest.mark.thorough  # test_running_study starts it too, and looks at its ports
@pytest.mark.slow
def test_the_browser_command_serves_the_store(tmp_path: Path) -> None:
    assert SERVER in commands(page("start"))
    fresh_store(tmp_path)
    with Server(shlex.split(SERVER)[1:], tmp_path):
        pass  # it answers


def test_the_search_space_on_the_page_is_usable(tmp_path: Path) -> None:
    [space] = [block for block in blocks(page("own-model"), "yaml") if block.startswith("space:")]
    (tmp_path / "my_space.yaml").write_text(space)
    benchmark = spec.load("nano", tmp_path / "my_space.yaml")
    assert set(benchmark.space) == {"learning_rate", "batch_size_per_device", "warmup_ratio"}
    assert len(list(points_of(benchmark))) == 2


def test_the_benchmark_on_the_page_is_usable(tmp_path: Path) -> None:
    [own] = [block for block in blocks(page("own-model"), "yaml") if block.startswith("finetune:")]
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**content, **yaml.safe_load(own)}))
    (tmp_path / "stage2.json").write_text((REPOSITORY / "benchmarks/zero/stage2.json").read_text())
    benchmark = spec.load(str(tmp_path / "my.yaml"))
    assert benchmark.finetune is not None
    assert benchmark.finetune.data.validation.articles == "held_out"
    assert benchmark.finetune.deepspeed["zero_optimization"]["stage"] == 2


def test_the_variant_on_the_page_is_usable(tmp_path: Path) -> None:
    [variant] = [block for block in blocks(page("own-model"), "yaml") if "like:" in block]
    (tmp_path / "variant.yaml").write_text(variant)
    benchmark = spec.load(str(tmp_path / "variant.yaml"))
    assert benchmark.training_settings().model == "bigscience/bloom-1b1"
    assert benchmark.space == spec.load("bloom_560m_squad").space


def test_the_readme_is_one_screen_and_names_every_method_folder_and_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 70
    [layout] = [block for block in blocks(README, "text") if block.startswith("MLproject")]
    named = {line.split()[0].rstrip("/") for line in layout.splitlines()}
    assert named == {"MLproject", "benchmarks", "hpo", "slurm", "tests", "docs"}
    assert all((REPOSITORY / name).exists() for name in named)
    assert all(f"`{name}`" in text for name in registry.names())
    linked = text + page("cluster").read_text()
    assert not [path.name for path in REPOSITORY.glob("docs/*.md") if f"{path.name})" not in linked]


def test_links_lead_somewhere() -> None:
    outside = [README, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "slurm/README.md"]
    for path in [*outside, *REPOSITORY.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert target.startswith("http") or (path.parent / target).exists(), f"{path.name}: {target}"
