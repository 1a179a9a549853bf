"""The generated pages by their path in docs/: `python -m hpo reference --output docs` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpo.app.reference import keys, methods_page, options_page, python_page, stored
from hpo.terminal import files

PAGES: Mapping[str, Callable[[], str]] = {
    "options.md": options_page.text,
    "reference/methods.md": methods_page.text,
    "reference/benchmark-keys.md": keys.benchmark_page,
    "reference/cluster-keys.md": keys.cluster_page,
    "reference/stored.md": stored.text,
    "reference/python.md": python_page.text,
}


def write(folder: Path) -> None:
    """Write each page under a folder, such as docs."""
    for path, text in PAGES.items():
        page = folder / path
        files.write(page.parent, {page.name: text()})
