"""The chapters as notebooks: nothing of a page is lost, and their cells run."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from benchmarks.spec import BenchmarkError
from hpo.app.cli import main
from hpo.report import notebooks
from tests.stores import fresh_store, working_in
from tests.studies import make_project
from tests.test_readme import commands, type_all
from tests.workshop.test_chapters import ON_DEEPSPEED, ON_SLURM, PAGES


def read(folder: Path, number: int) -> Any:
    [path] = folder.glob(f"{number:02}-*.ipynb")
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("work")
    with working_in(made):
        assert main(["workshop", "notebooks"]) == 0
    return made / "notebooks"


@pytest.mark.parametrize("number", PAGES)
def test_a_notebook_has_all_of_its_chapter(number: int, folder: Path) -> None:
    page, notebook = PAGES[number].read_text(), read(folder, number)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert code[0].splitlines()[3] == "os.chdir('..')"
    bash = [cell for cell in code if cell.startswith("%%bash -e\n")]
    assert [line for cell in bash for line in cell.splitlines()[1:]] == commands(PAGES[number])
    written = [cell for cell in code if cell.startswith("%%writefile ")]
    assert len(written) == page.count("```yaml") == (1 if number == 1 else 0)
    for part in ("<summary>", "</details>", "\n## "):
        assert text.count(part) == page.count(part)
    figures = [name for cell in notebook.cells for name in cell.get("attachments", {})]
    assert sorted(figures) == sorted(re.findall(r"!\[[^]]*\]\(\.\./images/([^)]+)\)", page))
    assert all(f"(attachment:{name})" in text for name in figures)
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (folder / target).exists(), target


def test_a_second_call_writes_the_same(folder: Path) -> None:
    before = {path.name: path.read_text() for path in folder.iterdir()}
    with working_in(folder.parent):
        assert notebooks.notebooks(Path("notebooks")) == before


def test_a_missing_package_and_missing_chapters_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "CHAPTERS", tmp_path / "none")
    with pytest.raises(BenchmarkError, match="not in the installed package; type this in a clone"):
        notebooks.notebooks(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match="the package jupytext is not installed"):
        notebooks.notebooks(tmp_path)


def written(project: Path, number: int, benchmark: str) -> Any:
    """Write the notebooks into a project, and return a chapter's with another benchmark than nano."""
    with working_in(project):
        assert main(["workshop", "notebooks"]) == 0
    notebook = read(project / "notebooks", number)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"^(.*workshop table .*)$", r"\1 --benchmark nano", cell.source, flags=re.MULTILINE)
            cell.source = cell.source.replace("--benchmark nano", f"--benchmark {benchmark}")
    return notebook


def client_of(notebook: Any, project: Path) -> Any:
    """Return a client that runs a notebook in its folder, as Jupyter does."""
    from nbclient import NotebookClient

    return NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(project / "notebooks")}})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store, and no settings of Ray from this process."""
    fresh_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    return make_project(tmp_path / "project")


def printed(notebook: Any) -> str:
    """Return the texts that a notebook's cells have printed."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_runs_in_a_kernel(project: Path) -> None:
    """Chapter 1, which writes a file and trains a grid, here of computed curves."""
    client_of(written(project, 1, "synthetic"), project).execute()
    assert (project / "rates.yaml").read_text() in PAGES[1].read_text()
    assert (project / "workshop/chapter-1.md").is_file()


@pytest.mark.thorough  # minutes each; `test_a_notebook_runs_in_a_kernel` runs one
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [number for number in PAGES if number not in (1, ON_SLURM)])
def test_every_notebook_runs_in_a_kernel(number: int, project: Path) -> None:
    """On computed curves, but for DeepSpeed's, which trains nano; tests/slurm/testbed runs that of job arrays."""
    if number == max(PAGES):
        type_all(["python -m hpo run random --benchmark synthetic --budget 1"], project)  # of another chapter
    notebook = written(project, number, "nano" if number == ON_DEEPSPEED else "synthetic")
    client_of(notebook, project).execute()
    table = (project / f"workshop/chapter-{number}.md").read_text()
    heading = next(line for line in table.splitlines() if line.startswith("|"))
    assert heading in printed(notebook)
    assert (project / "results/report.html").is_file() == (number == max(PAGES))
