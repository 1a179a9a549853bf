"""The workshop's chapters as Jupyter notebooks, made from the pages of docs/workshop by jupytext.

A notebook is one file: figures are attachments of its cells. Commands become cells of bash, and a file that the reader
is asked to save becomes a cell that writes it. The first cell goes to the folder in which the notebook was asked for,
and puts this Python first, so that commands work as they do in a terminal there.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.spec import BenchmarkError

if TYPE_CHECKING:
    from nbformat import NotebookNode

PROJECT = Path(__file__).parents[2]
CHAPTERS = PROJECT / "docs/workshop"
HEADER = "---\njupyter:\n  kernelspec:\n    display_name: Python 3\n    language: python\n    name: python3\n---\n\n"
SAVED = re.compile(r"`([\w-]+\.yaml)`(?=[^`]*```yaml\n)(.*?)```yaml\n(.*?)```", re.DOTALL)
FIGURE = re.compile(r"!\[([^]]*)\]\(([^)#\s]+\.png)\)")
LINK = re.compile(r"(?<!!)(\[[^]]*\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
BASH, STRICT_BASH = "%%bash\n", "%%bash -e\n"


def notebooks(output: Path) -> dict[str, str]:
    """Return each chapter as the text of a notebook, by the file's name.

    Args:
        output: folder that they will lie in, for the links to pages and the way back to this folder.

    Raises:
        BenchmarkError: jupytext or the chapters are missing.
    """
    if importlib.util.find_spec("jupytext") is None:
        raise BenchmarkError("the package jupytext is not installed; type `pip install -r requirements.txt`")
    if not CHAPTERS.is_dir():
        raise BenchmarkError("the chapters are not in the installed package; type this in a clone of the repository")
    import nbformat

    pages = sorted(CHAPTERS.glob("0*.md"))
    made = {page.with_suffix(".ipynb").name: _notebook(page, output) for page in pages}
    return {name: f"{nbformat.writes(notebook)}\n" for name, notebook in made.items()}


def _notebook(page: Path, output: Path) -> NotebookNode:
    import jupytext
    import nbformat

    notebook = jupytext.reads(HEADER + SAVED.sub(r"`\1`\2```python\n%%writefile \1\n\3```", page.read_text()), fmt="md")
    notebook.cells.insert(1, nbformat.v4.new_code_cell(_first_cell(output)))
    for place, cell in enumerate(notebook.cells):
        cell.id = f"{page.stem[:2]}-{place}"  # else each call draws others
        if cell.cell_type == "code" and cell.source.startswith(BASH):
            cell.source = cell.source.replace(BASH, STRICT_BASH, 1)
        elif cell.cell_type == "markdown":
            _attach(cell, page, output)
    notebook.metadata.pop("jupytext", None)  # it names the version that read the page
    return notebook


def _first_cell(output: Path) -> str:
    back = os.path.relpath(Path.cwd(), output)
    lines = ["import os", "import sys", "", f"os.chdir({back!r})"]
    lines.append('os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]')
    return "\n".join(lines)


def _attach(cell: NotebookNode, page: Path, output: Path) -> None:
    """Put a cell's figures into it, and let its links lead from the notebook's folder to pages or other notebooks."""
    attachments = {}

    def figure(found: re.Match[str]) -> str:
        picture = page.parent / found[2]
        attachments[picture.name] = {"image/png": base64.b64encode(picture.read_bytes()).decode()}
        return f"![{found[1]}](attachment:{picture.name})"

    def link(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        if target.parent == CHAPTERS and target.name.startswith("0"):
            return f"{found[1]}{target.with_suffix('.ipynb').name}{found[3]}"
        return f"{found[1]}{os.path.relpath(target, output.resolve())}{found[3]}"

    cell.source = LINK.sub(link, FIGURE.sub(figure, cell.source))
    if attachments:
        cell.attachments = attachments
