"""Pages and files that belong to the site although they lie outside docs/, for `mkdocs build`.

README, CONTRIBUTING, CHANGELOG and the SLURM page stay where a reader of the repository looks for them. Here they
become pages, a linked source file becomes a text file of the site, and links are rewritten for it. The one mermaid
figure becomes HTML, since mermaid itself would come from another server.
"""

from __future__ import annotations

import html
import os
import re
from itertools import pairwise
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/README.md": "slurm.md",
}
"""Pages outside docs/, and their names in the site."""
SOURCES = {name: path for path, name in PAGES.items()}
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FLOOR = re.compile(r"^    (\w+)\[\"(.+?)<br>(.+?)\"\]$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and each file that a page links."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, content=(REPOSITORY / path).read_text()))
    linked = {target for file in files.documentation_pages() for target in _links(file.src_uri, file.content_string)}
    for target in sorted(linked):
        path = REPOSITORY / target
        if target not in PAGES and path.is_file() and not target.startswith("docs/"):
            files.append(File.generated(config, _uri(target), content=path.read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page, and draw its figure."""
    here = page.file.src_uri

    def rewrite(found: re.Match[str]) -> str:
        target = _uri(_target(here, found[2]))
        return f"{found[1]}{os.path.relpath(target, os.path.dirname(here) or '.')}{found[3]}"

    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(rewrite, part) for part in parts[::2]]
    return re.sub(r"```mermaid\n(.*?)```", lambda found: _floors(found[1]), "".join(parts), flags=re.DOTALL)


def _links(uri: str, markdown: str) -> list[str]:
    return [_target(uri, found[2]) for part in CODE.split(markdown)[::2] for found in LINK.finditer(part)]


def _target(uri: str, link: str) -> str:
    """Return the path in the repository that a page's link leads to."""
    source = SOURCES.get(uri, f"docs/{uri}")
    return os.path.normpath(os.path.join(os.path.dirname(source), link))


def _uri(path: str) -> str:
    """Return the place of a repository's file in the site."""
    if path in PAGES:
        return PAGES[path]
    return (
        path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path.replace('/.', '/').lstrip('.')}.txt"
    )


def _floors(picture: str) -> str:
    """Draw the layers of a flowchart as floors: nodes that share an upper one stand side by side."""
    depth: dict[str, int] = {}
    for chain in re.findall(r"^    (.* --> .*)$", picture, re.MULTILINE):
        names = chain.split(" --> ")
        for upper, lower in pairwise(names):
            depth.setdefault(upper, 0)
            depth[lower] = depth[upper] + 1
    floors: dict[int, list[str]] = {}
    for name, title, text in FLOOR.findall(picture):
        box = f"<div><strong>{html.escape(title)}</strong><br>{html.escape(text)}</div>"
        floors.setdefault(depth[name], []).append(box)
    rows = "".join(f"<div>{''.join(floors[floor])}</div>" for floor in sorted(floors))
    return f'<div class="floors">{rows}</div>'
