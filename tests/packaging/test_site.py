"""The site from docs/ builds without a warning, and each of its pages can be read in a browser, on a phone too."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", ".importlinter", "mkdocs.yml")
LOST = {
    "no-such-page.md": "[lost](no-such-page.md)",
    "#no-such-heading": "[lost](start.md#no-such-heading)",
    "images/no.png": "![lost](images/no.png)",
}
BROWSER_OPTIONS = ["--disable-gpu", "--disable-software-rasterizer"]
"""Pages draw nothing that takes a GPU; the browser would compute what one does."""
PHONE = {"width": 380, "height": 800}
BROKEN = "[...document.images].filter(image => image.complete && image.naturalWidth === 0).map(image => image.src)"
LOADED = "[...document.images].every(image => image.complete)"
EAGER = "document.querySelectorAll('img').forEach(image => image.loading = 'eager')"
PALETTE = "document.body.dataset.mdColorScheme"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


def build(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints no line per request."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def small_index(site: Path) -> Any:
    """Return the site's search index with one text alone: each page that is opened indexes all of them."""
    index = json.loads((site / "search/search_index.json").read_text())
    return {**index, "docs": index["docs"][:1]}


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "palette"), [("light", "default"), ("dark", "slate")])
def test_every_page_is_whole_in_a_browser_and_fits_a_phone(
    browser: Any, site: Path, address: str, scheme: str, palette: str
) -> None:
    """No error, no broken image, no request to another server, and nothing to scroll sideways."""
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    assert len(names) > 20
    page = browser.new_page(viewport=PHONE, color_scheme=scheme)
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.route("**/search_index.json", lambda route: route.fulfill(json=small_index(site)))
    for name in names:
        page.goto(f"{address}/{name}")
        assert page.evaluate(PALETTE) == palette, name
        page.evaluate(EAGER)
        page.wait_for_function(LOADED)
        assert (name, page.evaluate(BROKEN), page.evaluate(OVERFLOW)) == (name, [], 0)
    assert errors == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


@pytest.mark.slow
def test_the_search_finds_a_page_by_a_word_of_it(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(f"{address}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("Clopper")
    page.locator(".md-search-result__link").first.wait_for()
    assert "protocol" in page.locator(".md-search-result__link").first.get_attribute("href")
    page.close()


@pytest.mark.slow
def test_the_page_on_the_architecture_draws_its_floors_without_mermaid(site: Path) -> None:
    text = (site / "architecture.html").read_text()
    assert 'class="floors"' in text
    assert "flowchart" not in text
    assert text.index("hpo/app") < text.index("hpo/engine") < text.index("hpo/core")


@pytest.mark.slow
def test_links_that_lead_nowhere_end_the_build_with_each_of_them(tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "docs", copy / "docs")
    for folder in ("benchmarks", "hpo", "slurm"):
        (copy / folder).symlink_to(REPOSITORY / folder)
    for name in OUTSIDE:
        shutil.copy(REPOSITORY / name, copy / name)
    with (copy / "docs/resume.md").open("a") as page:
        page.write("\n" + "\n".join(f"{link}\n" for link in LOST.values()))
    done = build(copy, tmp_path / "site")
    assert done.returncode != 0
    warned = [line for line in (done.stderr + done.stdout).splitlines() if "WARNING" in line and "resume.md" in line]
    assert [name for name in LOST if any(name in line for line in warned)] == list(LOST), warned
    assert len(warned) == len(LOST)
